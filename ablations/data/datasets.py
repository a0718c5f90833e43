"""Data sets: found, read, checked and identified by their content. Does not import torch.

Fashion-MNIST comes as four IDX files; a subset of it ships beside this module. CIFAR comes as
torchvision keeps it. All other images, such as ImageNet, stay in their folder: see
:mod:`ablations.data.image_folder`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from filelock import FileLock

from ablations.data.image_folder import (
    DataError,
    ImageFolder,
    MissingImagesError,
    TrainVal,
    list_folder,
)
from ablations.paths import expand
from modernize.cache import cache_folder
from modernize.libraries import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ablations.recipe import DataChoice

EMBEDDED = Path(__file__).parents[1] / "fashion_mnist"

# Where Debian's package dataset-fashion-mnist and torchvision's own download put the full set.
ON_DISK = (
    Path("/usr/share/datasets/fashion-mnist"),
    Path("/usr/share/datasets"),
    Path("data/FashionMNIST/raw"),
    Path(os.path.expanduser("~/.cache/torchvision/FashionMNIST/raw")),  # noqa: PTH111  # or no home
)

FILES = {  # name: dimensions of an item
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}

MAX_BYTES = 2**30  # of images in one file
PART_BYTES = 2**20  # read at a time
_AGAIN = "get the file again"

CIFAR = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}  # and their folders


@dataclasses.dataclass(frozen=True)
class InMemoryDataset(TrainVal):
    """Training and validation images in memory.

    Attributes:
        name: the data set.
        train, val: uint8 (N, channels, height, width).
        train_labels, val_labels: int64 (N,), from 0 to ``num_classes`` - 1.
        digest: of the content of all four arrays.
        notes: always empty; an image folder may have some.
    """

    name: str
    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    val: NDArray[np.uint8]
    val_labels: NDArray[np.int64]
    digest: str
    notes: tuple[str, ...] = ()

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


Dataset: TypeAlias = InMemoryDataset | ImageFolder


def load_dataset(choice: DataChoice, *, skip_bad_images: bool = False) -> Dataset:
    """Returns the data set of a preset.

    Args:
        choice: which data set, and where it is.
        skip_bad_images: whether an image folder may have files that clearly are no images.

    Raises:
        DataError: naming the folder and its expected content, or the file and its fault.
    """
    images: Dataset
    if choice.name == "image-folder":
        images = list_folder(choice.source, skip_bad_images=skip_bad_images)
    else:
        images = LOADERS[choice.name](choice)
    if images.num_classes < 2:
        raise DataError(
            f"the training images of {images.source} are all of one class; "
            "training needs at least two classes."
        )
    return images if choice.limit is None else _some(images, choice.limit)


def _some(images: Dataset, count: int) -> Dataset:
    """Returns at most ``count`` training and ``count`` validation images, evenly spaced."""
    if count >= max(len(images.train), len(images.val)):
        return images
    train, val = (
        np.unique(np.linspace(0, len(labels) - 1, min(count, len(labels))).astype(np.int64))
        for labels in (images.train_labels, images.val_labels)
    )
    train[-1] = images.train_labels.argmax()  # of the last class, so that no class is lost
    train.sort()
    few: dict[str, Any] = {
        "train": images.train[train],
        "train_labels": images.train_labels[train],
        "val": images.val[val],
        "val_labels": images.val_labels[val],
        "digest": hashlib.sha256(f"{images.digest} {count}".encode()).hexdigest()[:16],
    }
    return dataclasses.replace(images, **few)


def _read_fashion_mnist(choice: DataChoice) -> InMemoryDataset:
    folder = find_folder(choice.source)
    arrays = {name: _read_idx(_find_file(folder, name), dims) for name, dims in FILES.items()}
    train, train_labels, val, val_labels = arrays.values()
    for images, labels in ((train, train_labels), (val, val_labels)):
        if len(images) != len(labels) or not len(images):
            raise DataError(f"{folder}: {len(images)} images but {len(labels)} labels.")
    if val_labels.max() > train_labels.max():
        raise DataError(
            f"{folder}: a validation label is {val_labels.max()}, but training labels end at "
            f"{train_labels.max()}."
        )
    return InMemoryDataset(
        name=choice.name,
        train=train[:, None],
        train_labels=train_labels.astype(np.int64),
        val=val[:, None],
        val_labels=val_labels.astype(np.int64),
        digest=_digest(arrays.values()),
    )


def _digest(arrays: Iterable[NDArray[np.uint8]]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def find_folder(source: str) -> Path:
    """Returns the folder that a preset's ``source`` means.

    Raises:
        DataError: naming the folders that were searched.
    """
    if source == "embedded":
        return EMBEDDED
    folders = ON_DISK if source == "on-disk" else (Path(expand(source)),)
    for folder in folders:
        if any(_candidates(folder, next(iter(FILES)))):
            return folder
    looked = ", ".join(map(str, folders))
    state = "" if any(folder.is_dir() for folder in folders) else " (no such folder)"
    raise MissingImagesError(
        f"no Fashion-MNIST images in {looked}{state}. Expected {', '.join(FILES)}, each plain or "
        "ending in .gz; name their folder with --data. Debian's package dataset-fashion-mnist has "
        "them, and torchvision.datasets.FashionMNIST(root, download=True) fetches them."
    )


def _candidates(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / f"{name}.gz", folder / name) if path.is_file()]


def _find_file(folder: Path, name: str) -> Path:
    found = _candidates(folder, name)
    if not found:
        raise DataError(f"{folder} lacks {name} (plain or ending in .gz); put it there.")
    return found[0]


def _read_idx(path: Path, dims: int) -> NDArray[np.uint8]:
    """Returns the unsigned bytes of an IDX file: magic number, ``dims`` sizes, then the items.

    No more is read, and unpacked, than the header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * dims)
            if len(header) < 4 + 4 * dims or header[:4] != bytes((0, 0, 8, dims)):
                raise DataError(f"{path} is no IDX file of {dims}-dimensional bytes; {_AGAIN}.")
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
            size = math.prod(shape)
            if not 0 < size <= MAX_BYTES:
                raise DataError(
                    f"{path} says that it holds {size:,} bytes ({' x '.join(map(str, shape))}); "
                    f"from 1 to {MAX_BYTES:,} are read."
                )
            items = _read_items(file.read, size)
            more = bool(file.read(1))  # at the end of a gzip file its checksum is compared
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; {_AGAIN}.") from error
    if len(items) != size or more:
        raise DataError(
            f"{path} holds {'more' if more else f'{len(items):,}'} bytes where its header says "
            f"{size:,}; it is cut off or altered: {_AGAIN}."
        )
    return np.frombuffer(items, np.uint8).reshape(shape)


def _read_items(read: Callable[[int], bytes], size: int) -> bytes:
    """Returns ``size`` bytes, or fewer at the end; allocates no more than it reads."""
    parts: list[bytes] = []
    while size and (part := read(min(size, PART_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _read_cifar(dataset: str, choice: DataChoice) -> InMemoryDataset:
    """Returns CIFAR, read by torchvision, which checks the checksums.

    Args:
        dataset: torchvision's class.
        choice: its source; ``download`` fetches missing files.
    """
    datasets = library("torchvision.datasets")

    base = CIFAR[dataset]
    fetch = choice.source == "download"
    root = _cifar_root(choice.source, base)
    arrays = []
    try:
        if fetch:
            root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock") if fetch else contextlib.nullcontext():
            for train in (True, False):
                part = getattr(datasets, dataset)(str(root), train=train, download=fetch)
                arrays.append(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)))
                arrays.append(np.asarray(part.targets, np.uint8))
    except (OSError, RuntimeError) as error:
        if fetch:
            raise DataError(
                f"{choice.name} cannot be downloaded to {root}: {error}. Fetch it where there is a "
                f"connection, and name the folder that holds {base} with --data."
            ) from error
        raise DataError(
            f"{root / base} is not {choice.name} as published (torchvision says: {error}). Fetch "
            "it again: --set data.source=download."
        ) from error
    images, labels, val, val_labels = arrays
    return InMemoryDataset(
        name=choice.name,
        train=images,
        train_labels=labels.astype(np.int64),
        val=val,
        val_labels=val_labels.astype(np.int64),
        digest=_digest(arrays),
    )


def _cifar_root(source: str, base: str) -> Path:
    """Returns the parent of the folder ``base``, which a download may create."""
    downloads = cache_folder() / "data"
    if source == "download":
        return downloads
    given = Path(expand(source)).absolute()
    folders = (
        [downloads / base, Path("data") / base]
        if source == "on-disk"
        else [given / base, *([given] if given.name == base else [])]
    )
    for folder in folders:
        if folder.is_dir():
            return folder.parent
    raise MissingImagesError(
        f"no such folder: {', '.join(map(str, folders))}. Name the folder that holds {base} with "
        "--data, or --set data.source=download."
    )


LOADERS: Mapping[str, Callable[[DataChoice], InMemoryDataset]] = {
    "fashion-mnist": _read_fashion_mnist,
    "cifar10": functools.partial(_read_cifar, "CIFAR10"),
    "cifar100": functools.partial(_read_cifar, "CIFAR100"),
}
