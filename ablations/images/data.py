"""Images: found, read, checked and named by their content. No torch here.

Fashion-MNIST comes as four IDX files; a subset of it ships beside this module. CIFAR comes as
torchvision keeps it. Any other images, ImageNet's among them, stay in their folder: they are only
listed here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
from filelock import FileLock

from modernize.errors import UsageError
from modernize.torchvision_ops import make_torchvision_importable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ablations.recipe import DataChoice

EMBEDDED = Path(__file__).parents[1] / "fashion_mnist"

SOURCES = ("embedded", "on-disk", "download")  # any other source is a folder

# Where Debian's package dataset-fashion-mnist and torchvision's own download put the full set.
ON_DISK = (
    Path("/usr/share/datasets/fashion-mnist"),
    Path("/usr/share/datasets"),
    Path("data/FashionMNIST/raw"),
    Path("~/.cache/torchvision/FashionMNIST/raw").expanduser(),
)

FILES = {  # name: dimensions of an item
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}

CIFAR = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}  # and their folders

SUFFIXES = frozenset(("jpg", "jpeg", "png", "webp", "bmp"))  # of images on disk, in any case
SPLITS = (("train",), ("val", "validation"))  # what their folders may be called


class DataError(UsageError):
    """Images that are not where they were said to be, or are not what they should be."""


@dataclasses.dataclass(frozen=True)
class Images:
    """Training and validation images in memory.

    Attributes:
        name: the data set.
        train, val: uint8 (N, channels, height, width).
        train_labels, val_labels: int64 (N,), from 0 to ``num_classes`` - 1.
        digest: names the content of all four.
    """

    name: str
    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    val: NDArray[np.uint8]
    val_labels: NDArray[np.int64]
    digest: str

    @property
    def num_classes(self) -> int:
        """Classes that occur in the training labels."""
        return int(self.train_labels.max()) + 1

    @property
    def source(self) -> str:
        """Where the images are, for people."""
        return self.name

    @property
    def chance(self) -> float:
        """Part of the validation images that belongs to the most common class."""
        return _most_common(self.val_labels)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.train.shape[1])

    def identity(self) -> dict[str, str | int]:
        """Returns what a run's identity and record say of these images."""
        return {
            "name": self.name,
            "train_images": len(self.train),
            "val_images": len(self.val),
            "sha256": self.digest,
        }


@dataclasses.dataclass(frozen=True)
class Folder:
    """Training and validation images on disk, listed but not read.

    Attributes:
        name: the data set.
        root: the folder that holds them all.
        train, val: bytes (N,), the images' paths from ``root`` on. One array, for a list of a
            million texts would be copied into every worker process as soon as it is read there.
        train_labels, val_labels: int64 (N,), places in ``classes``.
        classes: the names of the class folders, sorted.
        digest: names all paths and file sizes.
    """

    name: str
    root: Path
    train: NDArray[np.bytes_]
    train_labels: NDArray[np.int64]
    val: NDArray[np.bytes_]
    val_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    digest: str

    @property
    def num_classes(self) -> int:
        """Class folders there are for training, be they empty or not."""
        return len(self.classes)

    @property
    def source(self) -> str:
        """Where the images are, for people."""
        return str(self.root)

    @property
    def chance(self) -> float:
        """Part of the validation images that belongs to the most common class."""
        return _most_common(self.val_labels)

    @property
    def channels(self) -> int:
        """Channels of an image, as it is served: always 3."""
        return 3

    def identity(self) -> dict[str, str | int]:
        """Returns what a run's identity and record say of these images; not where they lie."""
        return {
            "name": self.name,
            "train_images": len(self.train),
            "val_images": len(self.val),
            "sha256": self.digest,
        }


def load_images(choice: DataChoice) -> Images | Folder:
    """Returns the images that a preset asks for.

    Raises:
        DataError: naming the folder and what was expected there, or the file and what is wrong.
    """
    images = LOADERS[choice.name](choice)
    if images.num_classes < 2:
        raise DataError(
            f"the training images of {images.source} are all of one class; there is nothing to "
            "learn or to compare. Give at least two classes."
        )
    return images


def _most_common(labels: NDArray[np.int64]) -> float:
    return float(np.bincount(labels).max()) / len(labels)


def _read_fashion_mnist(choice: DataChoice) -> Images:
    folder = find_folder(choice.source)
    arrays = {name: _read_idx(_find_file(folder, name), dims) for name, dims in FILES.items()}
    train, train_labels, val, val_labels = arrays.values()
    for images, labels in ((train, train_labels), (val, val_labels)):
        if len(images) != len(labels) or not len(images):
            raise DataError(f"{folder}: {len(images)} images but {len(labels)} labels.")
    return Images(
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
        DataError: naming the places looked at.
    """
    if source == "embedded":
        return EMBEDDED
    folders = ON_DISK if source == "on-disk" else (Path(source).expanduser(),)
    for folder in folders:
        if any(_candidates(folder, next(iter(FILES)))):
            return folder
    looked = ", ".join(map(str, folders))
    state = "" if any(folder.is_dir() for folder in folders) else " (no such folder)"
    raise DataError(
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
    """Returns the unsigned bytes of an IDX file: magic number, ``dims`` sizes, then the items."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; fetch it anew.") from error
    header = 4 + 4 * dims
    if len(raw) < header or raw[:4] != bytes((0, 0, 8, dims)):
        raise DataError(f"{path} is no IDX file of {dims}-dimensional bytes; fetch it anew.")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=dims, offset=4))
    if len(raw) - header != int(np.prod(shape)):
        raise DataError(
            f"{path} holds {len(raw) - header} bytes where its header says {np.prod(shape)}; "
            "it is cut off or altered: fetch it anew."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _read_cifar(dataset: str, choice: DataChoice) -> Images:
    """Returns CIFAR as torchvision reads it, checksums and all.

    Args:
        dataset: torchvision's class.
        choice: says where it is; ``download`` fetches what is not there yet.
    """
    make_torchvision_importable()
    from torchvision import datasets

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
            "it anew; --set data.source=download does."
        ) from error
    images, labels, val, val_labels = arrays
    return Images(
        name=choice.name,
        train=images,
        train_labels=labels.astype(np.int64),
        val=val,
        val_labels=val_labels.astype(np.int64),
        digest=_digest(arrays),
    )


def _cifar_root(source: str, base: str) -> Path:
    """Returns the folder that holds the folder ``base``, or will after a download."""
    downloads = Path(platformdirs.user_cache_dir("convnext-roadmap")) / "data"
    if source == "download":
        return downloads
    given = Path(source).expanduser().absolute()
    folders = (
        [downloads / base, Path("data") / base]
        if source == "on-disk"
        else [given / base, *([given] if given.name == base else [])]
    )
    for folder in folders:
        if folder.is_dir():
            return folder.parent
    raise DataError(
        f"no such folder: {', '.join(map(str, folders))}. Name the one that holds {base} with "
        "--data, or --set data.source=download."
    )


def _list_folder(choice: DataChoice) -> Folder:
    """Returns the images of a folder; a class is what its training images have a folder for."""
    root = Path(choice.source).expanduser()
    expected = (
        "--data must name a folder with train and val (or validation) in it, each with a folder of "
        "images per class"
    )
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; {expected}.")
    found = [next((n for n in names if (root / n).is_dir()), "") for names in SPLITS]
    if not all(found):
        lacks = [" or ".join(names) for names, name in zip(SPLITS, found, strict=True) if not name]
        raise DataError(f"{root} has no folder {', nor '.join(lacks)}; {expected}.")
    train, val = (root / name for name in found)
    digest = hashlib.sha256()
    try:
        classes = _class_names(train)
        strange = sorted(set(_class_names(val)).difference(classes))
        if strange:
            names = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
            raise DataError(
                f"{val} has {len(strange)} class(es) that {train} lacks: {names}. Both must call "
                "their classes the same."
            )
        (train_paths, train_labels), (val_paths, val_labels) = (
            _list_split(folder, classes, digest) for folder in (train, val)
        )
    except OSError as error:
        raise DataError(f"{root} cannot be listed: {error}") from error
    return Folder(
        name=choice.name,
        root=root,
        train=train_paths,
        train_labels=train_labels,
        val=val_paths,
        val_labels=val_labels,
        classes=tuple(classes),
        digest=digest.hexdigest()[:16],
    )


def list_validation(folder: Path, classes: Sequence[str] | int) -> Folder:
    """Returns the images of a folder of class folders, to evaluate on; there are none to train on.

    Args:
        folder: of the class folders.
        classes: the names of all classes, in the order of a network's logits; not all need a
            folder. Or how many there must be; then they are in the order of their names.

    Raises:
        DataError: for a folder that is not there or holds no images, and for other class folders.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; name one that has a folder per class.")
    digest = hashlib.sha256()
    try:
        found = _class_names(folder)
        if isinstance(classes, int):
            if len(found) != classes:
                raise DataError(
                    f"{folder} has {len(found)} class folders, but the network has {classes} "
                    "classes; name the folder of the images that it was trained for."
                )
            classes = found
        strange = sorted(set(found).difference(classes))
        if strange or not found:
            has = f"has class folders such as {strange[0]!r}" if found else "has no class folders"
            raise DataError(
                f"{folder} {has}; the network's {len(classes)} classes are called {classes[0]}, "
                f"..., {classes[-1]}, and each image must lie in the folder of its class."
            )
        paths, labels = _list_split(folder, list(classes), digest)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error}") from error
    return Folder(
        name="image-folder",
        root=folder.parent,
        train=paths[:0],
        train_labels=labels[:0],
        val=paths,
        val_labels=labels,
        classes=tuple(classes),
        digest=digest.hexdigest()[:16],
    )


def _class_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _list_split(
    folder: Path, classes: list[str], digest: hashlib._Hash
) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """Returns paths (N,), from the folder's parent on, and labels (N,); adds to the digest."""

    def list_class(name: str) -> list[tuple[bytes, int]]:
        return sorted(_walk(folder / name, name)) if (folder / name).is_dir() else []

    with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
        listed = list(pool.map(list_class, classes))
    paths = [path for files in listed for path, _ in files]
    if not paths:
        raise DataError(
            f"there are no images in the class folders of {folder}: no files that end in "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    digest.update(b"%d\n" % len(paths))
    for files in listed:
        digest.update(b"".join(b"%s\0%d\n" % file for file in files))
    prefix = os.fsencode(folder.name) + b"/"
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in listed])
    return np.array([prefix + path for path in paths]), labels.astype(np.int64)


def _walk(folder: str | Path, path: str) -> Iterator[tuple[bytes, int]]:
    """Yields path and size in bytes of every image below a folder whose own path is given."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{path}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, name)
            elif name.rpartition(".")[2].lower() in SUFFIXES:
                yield os.fsencode(name), entry.stat().st_size


LOADERS: Mapping[str, Callable[[DataChoice], Images | Folder]] = {
    "fashion-mnist": _read_fashion_mnist,
    "cifar10": functools.partial(_read_cifar, "CIFAR10"),
    "cifar100": functools.partial(_read_cifar, "CIFAR100"),
    "image-folder": _list_folder,
}
