"""What all data sets have in common: images with labels, and an identity. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence, Sized
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from ablations.data.readers import ArrayReader, Reader
from modernize.errors import UsageError
from modernize.user_code import digest_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class DataError(UsageError):
    """Images that are missing, or not as expected."""


class MissingImagesError(DataError):
    """Images that do not exist."""


class TrainVal:
    """Training and validation images, whatever their targets."""

    name: str
    train: Sized
    val: Sized
    classes: tuple[str, ...]
    digest: str

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def channels(self) -> int:
        """Channels of an image: 3 for all that are decoded."""
        return 3

    def identity(self) -> dict[str, str | int]:
        """Returns the values that identify these images in a run's identity; not their folder."""
        return {
            "name": self.name,
            "train_images": len(self.train),
            "val_images": len(self.val),
            "sha256": self.digest,
        }


class _Labelled(TrainVal):
    """Images with one class each."""

    train: NDArray[Any]
    val: NDArray[Any]
    val_labels: NDArray[np.int64]
    reader: Callable[[NDArray[Any]], Reader]
    """Returns a reader of ``train``, ``val`` or a part of them."""

    def readers(self) -> Sequence[Reader]:
        """Returns readers of the training and of the validation images."""
        return self.reader(self.train), self.reader(self.val)

    @property
    def majority(self) -> float:
        """Fraction of the validation images that belongs to the most common class."""
        return largest_fraction(self.val_labels) if len(self.val_labels) else 0.0


@dataclasses.dataclass(frozen=True)
class InMemoryDataset(_Labelled):
    """Training and validation images in memory.

    Attributes:
        name: the data set.
        train, val: uint8 (N, channels, height, width).
        train_labels, val_labels: int64 (N,), from 0 to ``num_classes`` - 1.
        digest: of the content of all four arrays.
        classes: the names of the classes; empty: unknown.
        notes: sentences about the images.
    """

    name: str
    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    val: NDArray[np.uint8]
    val_labels: NDArray[np.int64]
    digest: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    times = ""  # only files have any
    reader = ArrayReader

    @property
    def num_classes(self) -> int:
        """Classes that occur in the training labels."""
        return int(self.train_labels.max()) + 1

    @property
    def source(self) -> str:
        """Where the images are, for messages."""
        return self.name

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.train.shape[1])


@dataclasses.dataclass(frozen=True)
class ListedImages(_Labelled):
    """Training and validation images on disk, listed but not read.

    Attributes:
        name: the kind of data set.
        source: the folder or file that has them all.
        train, val: (N,), what a reader needs to find each image, such as the bytes of its path. One
            array: a list of a million strings would be copied to every worker process when it is
            first read there.
        train_labels, val_labels: int64 (N,), indices of ``classes``.
        classes: the names of the classes.
        reader: returns a reader of ``train``, ``val`` or a part of them.
        digest: of the names, sizes and labels of all images.
        times: digest of all names and modification times; not part of the identity.
        newest: the image that was modified last.
        code: the Python file of a custom data set; empty for all others.
        notes: sentences about the images, such as skipped files.
    """

    name: str
    source: str
    train: NDArray[Any]
    train_labels: NDArray[np.int64]
    val: NDArray[Any]
    val_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    reader: Callable[[NDArray[Any]], Reader]
    digest: str
    times: str
    newest: str
    code: bytes = b""
    notes: tuple[str, ...] = ()


Dataset: TypeAlias = InMemoryDataset | ListedImages
Images = TypeVar("Images", bound=Any)  # a TrainVal that is a dataclass


def with_parts(images: Images, how: object, **parts: Any) -> Images:
    """Returns a data set with other images or labels; ``how`` they were chosen is in its digest."""
    digest = digest_of(f"{images.digest} {how}".encode())
    return dataclasses.replace(images, digest=digest, **parts)


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Returns the numbers of at most ``most`` of ``count`` images (n,), the first and the last."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def digest_arrays(arrays: Iterable[NDArray[np.uint8]]) -> str:
    """Returns a digest of the shapes and contents of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def largest_fraction(labels: NDArray[np.int64]) -> float:
    """Returns the fraction of the labels that are of the most common class."""
    return float(np.bincount(labels).max()) / len(labels)
