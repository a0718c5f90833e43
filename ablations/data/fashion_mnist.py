"""Fashion-MNIST: four IDX files; a subset of it ships with this package. Does not import torch."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablations.data.images import DataError, InMemoryDataset, MissingImagesError, digest_arrays
from ablations.paths import expand
from ablations.units import integer

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

MAX_BYTES = 2**30  # of images in one file
PART_BYTES = 2**20  # read at a time
_AGAIN = "get the file again"


def read_fashion_mnist(source: str) -> InMemoryDataset:
    """Returns the images of a folder, or those that a keyword means.

    Args:
        source: ``embedded``, ``on-disk`` or a folder.

    Raises:
        DataError: naming the folders that were searched, or the file and its fault.
    """
    folder = find_folder(source)
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
        name="fashion-mnist",
        train=train[:, None],
        train_labels=train_labels.astype(np.int64),
        val=val[:, None],
        val_labels=val_labels.astype(np.int64),
        digest=digest_arrays(arrays.values()),
        classes=CLASSES if train_labels.max() < len(CLASSES) else (),
    )


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
                    f"{path} says that it holds {integer(size)} bytes "
                    f"({' x '.join(map(str, shape))}); from 1 to {integer(MAX_BYTES)} are read."
                )
            items = _read_items(file.read, size)
            more = bool(file.read(1))  # at the end of a gzip file its checksum is compared
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; {_AGAIN}.") from error
    if len(items) != size or more:
        raise DataError(
            f"{path} holds {'more' if more else integer(len(items))} bytes where its header says "
            f"{integer(size)}; it is cut off or altered: {_AGAIN}."
        )
    return np.frombuffer(items, np.uint8).reshape(shape)


def _read_items(read: Callable[[int], bytes], size: int) -> bytes:
    """Returns ``size`` bytes, or fewer at the end; allocates no more than it reads."""
    parts: list[bytes] = []
    while size and (part := read(min(size, PART_BYTES))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
