"""Data sets that torchvision reads: from the files that are on disk, or CIFAR by its download.

torchvision lists a set's files, or reads its arrays, and gives the labels. The images then are
those of a list of files or of an array, as of all other data sets.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from ablations.data.directory import stat_files
from ablations.data.found import Found, Split, index_classes
from ablations.data.images import DataError, InMemoryDataset, MissingImagesError, digest_arrays
from ablations.data.readers import FileReader
from ablations.data_sets import TORCHVISION
from ablations.paths import expand
from modernize.cache import cache_folder
from modernize.libraries import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ablations.choices import DataChoice

CIFAR = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # presets' names, and torchvision's
_PAIRS = ("samples", "_samples", "imgs")  # attributes: paths and labels
_FILES = ("_image_files", "_images")  # paths


def find_torchvision(choice: DataChoice) -> Found | InMemoryDataset:
    """Returns a data set of torchvision that is on disk; downloads nothing.

    Args:
        choice: ``torchvision.`` and the class as its name, and torchvision's ``root`` as source.

    Raises:
        DataError: if torchvision does not find the files.
    """
    name = choice.name.partition(".")[2]
    root = Path(expand(choice.source)).absolute()
    arguments = TORCHVISION[name][: 1 if choice.validation else 2]
    try:
        parts = [_make(name, root, split) for split in arguments]
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        kind = MissingImagesError if not root.is_dir() else DataError
        raise kind(
            f"{root} does not hold {name} as torchvision expects it (torchvision says: {error}). "
            f"Name with --data the folder that torchvision.datasets.{name} takes as its root."
        ) from error
    if hasattr(parts[0], "data"):
        return _in_memory(choice.name, parts)
    splits = [_split(root, part, split) for part, split in zip(parts, arguments, strict=True)]
    reader = functools.partial(FileReader, root)
    return Found(str(root), splits, reader)


def _make(name: str, root: Path, arguments: Mapping[str, Any]) -> Any:
    return getattr(library("torchvision.datasets"), name)(str(root), **arguments)


def _split(root: Path, dataset: Any, arguments: Mapping[str, Any]) -> Split:
    """Returns the files and labels of one of torchvision's data sets."""
    pairs = next((getattr(dataset, name) for name in _PAIRS if hasattr(dataset, name)), None)
    if pairs is None:
        files = next(getattr(dataset, name) for name in _FILES if hasattr(dataset, name))
        pairs = zip(files, dataset._labels, strict=True)
    paths, numbers = zip(*pairs, strict=True)
    relative = [os.path.relpath(path, root) for path in paths]
    present, labels = index_classes([str(int(number)) for number in numbers])
    known = getattr(dataset, "classes", ())  # names, or tuples of synonyms
    named = [known[int(n)] for n in present] if known else present
    classes = [name if isinstance(name, str) else ", ".join(name) for name in named]
    files = stat_files(root, relative)
    names = [b"%d/%s" % (n, f.path) for n, f in zip(numbers, files, strict=True)]
    where = f"{root} ({', '.join(arguments.values()) or 'all images'})"
    items = np.array([f.path for f in files], np.bytes_)
    return Split(
        where, classes, items, names, labels, [f.size for f in files], [f.time for f in files]
    )


def _in_memory(name: str, parts: list[Any]) -> InMemoryDataset:
    """Returns the images of torchvision's data sets for training and validation in memory."""
    arrays: list[NDArray[Any]] = []
    for part in parts:
        pixels = np.asarray(part.data)
        if pixels.ndim == 3:
            pixels = pixels[:, None]
        elif pixels.shape[1] != 3:
            pixels = pixels.transpose(0, 3, 1, 2)
        labels = part.targets if hasattr(part, "targets") else part.labels
        arrays += [np.ascontiguousarray(pixels), np.asarray(labels, np.uint8)]
    if len(parts) == 1:
        arrays += [array[:0] for array in arrays]
    images, labels, val, val_labels = arrays
    return InMemoryDataset(
        name=name,
        train=images,
        train_labels=labels.astype(np.int64),
        val=val,
        val_labels=val_labels.astype(np.int64),
        digest=digest_arrays(arrays),
        classes=tuple(getattr(parts[0], "classes", ())),
    )


def read_cifar(choice: DataChoice) -> InMemoryDataset:
    """Returns CIFAR, read by torchvision, which checks the checksums.

    Args:
        choice: its source; ``download`` fetches missing files.

    Raises:
        DataError: if the files are missing or damaged, or cannot be downloaded.
    """
    dataset = CIFAR[choice.name]
    base = getattr(library("torchvision.datasets"), dataset).base_folder
    fetch = choice.source == "download"
    root = _cifar_root(choice.source, base)
    try:
        if fetch:
            root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock") if fetch else contextlib.nullcontext():
            parts = [
                _make(dataset, root, {**split, "download": fetch}) for split in TORCHVISION[dataset]
            ]
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
    return _in_memory(choice.name, parts)


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
