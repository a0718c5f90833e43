"""A custom data set: a Python file of the user.

The file defines::

    CLASSES = ["cat", "dog"]     the names of the classes
    def train(): ...             returns the training images
    def val(): ...               returns the validation images; not needed with data.validation

What ``train`` and ``val`` return has ``__len__``, and ``__getitem__``, which returns an image and
its class's index by a number from 0. An image is a PIL image, or a uint8 array of (H, W) or
(H, W, 3). If it has ``labels``, a sequence of all indices, no image is read for them.

To load such a file is to run it. That is done only for a file that the user names, and for the copy
in a study that the user launches.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ablations.data.decoding import to_rgb
from ablations.data.found import Found, Split, splits_used
from ablations.data.images import DataError, MissingImagesError
from ablations.paths import expand
from modernize.text import few
from modernize.user_code import read_code, reporting_errors, run_code

if TYPE_CHECKING:
    from numpy.typing import NDArray

KIND = "file of a custom data set"


def find_custom(source: str, *, only_train: bool = False) -> Found:
    """Runs the Python file of a custom data set, and returns its images.

    Args:
        source: the file.
        only_train: whether the validation images are ignored.

    Raises:
        DataError: if the file cannot be read, fails, or does not define a data set.
    """
    path = Path(expand(source)).absolute()
    if not path.is_file():
        raise MissingImagesError(
            f"there is no file {path}; name with --data a Python file that defines CLASSES, train "
            "and val."
        )
    code = read_code(path, KIND, DataError)
    module = _run(path, code)
    classes = getattr(module, "CLASSES", None)
    if not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"the {KIND} {path} must define CLASSES, a list of the classes' names.")
    if len(set(classes)) < len(classes):
        raise DataError(f"the {KIND} {path}: CLASSES has a name twice.")
    names = splits_used(["val"] * hasattr(module, "val"), only_train=only_train)
    if not all(callable(getattr(module, name, None)) for name in names):
        raise DataError(f"the {KIND} {path} must define functions {' and '.join(names)}.")
    reader = functools.partial(CustomReader, path, code)
    parts = [_split(path, code, name, list(classes)) for name in names]
    for part in parts:
        reader(part.items).check()
    return Found(str(path), parts, reader, code=code)


@functools.lru_cache(maxsize=2)
def _run(path: Path, code: bytes) -> ModuleType:
    return run_code(path, code, KIND, DataError)


@functools.lru_cache(maxsize=4)
def _open(path: Path, code: bytes, name: str, _process: int) -> Any:
    """Returns the user's object, made once in each process, so that open files are not shared."""
    make: Callable[[], Any] = getattr(_run(path, code), name)
    with reporting_errors(path, f"{path.name}: {name}() fails", DataError):
        return make()


def _split(path: Path, code: bytes, name: str, classes: Sequence[str]) -> Split:
    images = _open(path, code, name, os.getpid())
    where = f"{path} ({name})"
    with reporting_errors(path, f"{path.name}: the labels of {name}() cannot be read", DataError):
        count = len(images)
        known = getattr(images, "labels", None)
        given = [images[i][1] for i in range(count)] if known is None else list(known)
    if len(given) != count or not count:
        raise DataError(f"{where} has {count} images and {len(given)} labels.")
    labels = [_index(value, len(classes)) for value in given]
    if wrong := [f"{given[i]!r} of image {i}" for i, label in enumerate(labels) if label is None]:
        raise DataError(
            f"{where} has {len(wrong)} labels that are not integers from 0 to {len(classes) - 1}: "
            f"{few(wrong)}."
        )
    return Split(
        where=where,
        classes=classes,
        items=np.array([(name, row) for row in range(count)], [("split", "U5"), ("row", np.int64)]),
        names=[f"{classes[label or 0]}\0{row}".encode() for row, label in enumerate(labels)],
        labels=np.array(labels, np.int64),
        sizes=[],
        times=[0] * count,
        describe=lambda i: f"image {i}",
    )


def _index(value: Any, classes: int) -> int | None:
    """Returns a label as an integer; None if it is not one of a class."""
    try:
        index = int(value)
    except (TypeError, ValueError):
        return None
    return index if index == value and 0 <= index < classes else None


@dataclasses.dataclass(frozen=True)
class CustomReader:
    """Reads images of a custom data set; raises the errors of its code.

    Attributes:
        file: the Python file.
        code: its content.
        items: (N,), each with ``split`` and ``row``.
    """

    file: Path
    code: bytes
    items: NDArray[Any]

    def __len__(self) -> int:
        return len(self.items)

    def path(self, index: int) -> str:
        """Returns the split and the number of an image."""
        split, row = self.items[index]
        return f"{self.file} ({split}), image {row}"

    def contents(self, index: int) -> bytes:
        """Returns the size and the pixels of an image."""
        image = self(index)
        return f"{image.size}".encode() + image.tobytes()

    def check(self) -> None:
        """Reads the first image.

        Raises:
            DataError: if the code fails, or returns no image.
        """
        with reporting_errors(self.file, f"{self.path(0)} cannot be read", DataError):
            self(0)

    def __call__(self, index: int) -> Image.Image:
        """Returns an image."""
        split, row = self.items[index]
        image = _open(self.file, self.code, str(split), os.getpid())[int(row)][0]
        if isinstance(image, np.ndarray) and image.dtype == np.uint8:
            image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
        if not isinstance(image, Image.Image):
            kind = getattr(image, "dtype", type(image).__name__)
            raise TypeError(f"it is a {kind}; it must be a PIL image or a uint8 array (H, W, 3)")
        return to_rgb(image)
