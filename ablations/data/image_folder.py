"""Image folders, with a folder for each class: listed, not read. Does not import torch.

All faults of a folder are reported at once, as one error; skipped files are reported as notes.
Hidden files and folders, whose names begin with a dot, are ignored.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.data.directory import NO_FILE, File, is_folder, stat_entry, suffix_of
from ablations.paths import expand
from modernize.errors import UsageError
from modernize.text import few, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = frozenset(("jpg", "jpeg", "png", "webp", "bmp"))  # of images, in any case
SPLITS = (("train",), ("val", "validation"))  # possible names of their folders

# Folders that operating systems and programs create, in lower case.
SYSTEM = frozenset(
    ("lost+found", "__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot",
     "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information", "found.000",
     "network trash folder", "temporary items")
)  # fmt: skip

_READ = f"Suffixes of images, in any case: .{', .'.join(sorted(SUFFIXES))}"


class DataError(UsageError):
    """Images that are missing, or not as expected."""


class MissingImagesError(DataError):
    """Images that do not exist."""


class TrainVal:
    """Training and validation images: the parts that memory and folders have in common."""

    name: str
    train: NDArray[Any]
    val: NDArray[Any]
    val_labels: NDArray[np.int64]
    digest: str

    @property
    def majority(self) -> float:
        """Fraction of the validation images that belongs to the most common class."""
        return largest_fraction(self.val_labels)

    def identity(self) -> dict[str, str | int]:
        """Returns the values that identify these images in a run's identity; not their folder."""
        return {
            "name": self.name,
            "train_images": len(self.train),
            "val_images": len(self.val),
            "sha256": self.digest,
        }


@dataclasses.dataclass(frozen=True)
class ImageFolder(TrainVal):
    """Training and validation images on disk, listed but not read.

    Attributes:
        name: the data set.
        root: the folder that holds them all.
        train, val: bytes (N,), the images' paths relative to ``root``. One array: a list of a
            million strings would be copied to every worker process when it is first read there.
        train_labels, val_labels: int64 (N,), indices of ``classes``.
        classes: the names of the class folders, sorted.
        digest: of all paths and file sizes.
        times: digest of all paths and modification times; not part of the identity.
        newest: path of the file that was modified last.
        notes: sentences about skipped files.
    """

    name: str
    root: Path
    train: NDArray[np.bytes_]
    train_labels: NDArray[np.int64]
    val: NDArray[np.bytes_]
    val_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    digest: str
    times: str
    newest: str
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Number of classes: the class folders of the training images."""
        return len(self.classes)

    @property
    def source(self) -> str:
        """Where the images are, for messages."""
        return str(self.root)

    @property
    def channels(self) -> int:
        """Channels of a decoded image: always 3."""
        return 3


def largest_fraction(labels: NDArray[np.int64]) -> float:
    """Returns the fraction of the labels that are of the most common class."""
    return float(np.bincount(labels).max()) / len(labels)


def list_folder(source: str, *, skip_bad_images: bool = False) -> ImageFolder:
    """Returns the images of a folder; its folders of training images define the classes.

    Args:
        source: the folder, which has ``train`` and ``val`` (or ``validation``).
        skip_bad_images: whether files that clearly are no images become notes, not errors.

    Raises:
        DataError: naming all faults of the folder.
    """
    root = Path(expand(source))
    expected = (
        "--data must name a folder with train and val (or validation) in it, each with a folder of "
        "images per class"
    )
    if not root.is_dir():
        raise MissingImagesError(f"there is no folder {root}; {expected}.")
    found = [next((n for n in names if (root / n).is_dir()), "") for names in SPLITS]
    if not all(found):
        lacks = [" or ".join(names) for names, name in zip(SPLITS, found, strict=True) if not name]
        raise DataError(f"{root} has no folder {', nor '.join(lacks)}; {expected}.")
    train, val = (_SplitListing(root / name) for name in found)
    classes = train.classes
    for split in (train, val):
        split.list_classes(classes)
    faults = train.faults()
    if strange := sorted(set(val.classes).difference(classes)):
        faults.append(
            f"{val.folder} has {plural(len(strange), 'class')} that {train.folder} lacks: "
            f"{few(strange)}. Both must have the same class names"
        )
    else:
        faults += val.faults()
    if train.images and (empty := train.empty(classes)):
        faults.append(
            f"{train.folder} has {plural(len(empty), 'class folder')} without an image: "
            f"{few(empty)}. {_READ}; fill or remove these folders"
        )
    return _folder(root, (train, val), classes, faults, skip_bad_images=skip_bad_images)


def list_validation(
    folder: Path, classes: Sequence[str] | int, *, skip_bad_images: bool = False
) -> ImageFolder:
    """Returns the images of a folder of class folders, for evaluation only.

    Args:
        folder: of the class folders.
        classes: the names of all classes, in the order of a network's logits; not all need a
            folder. Or their number; then the classes are in the order of their names.
        skip_bad_images: whether files that clearly are no images become notes, not errors.

    Raises:
        DataError: if the folder is missing or has no images, and for other class folders.
    """
    folder = Path(expand(str(folder))).resolve()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; name a folder that has a folder per class.")
    split = _SplitListing(folder)
    found, faults = split.classes, []
    if isinstance(classes, int) and len(found) != classes:
        faults.append(
            f"{folder} has {len(found)} class folders, but the network has {classes} "
            "classes; name a folder of images with its classes"
        )
    known = found if isinstance(classes, int) else classes
    if strange := sorted(set(found).difference(known)):
        faults.append(
            f"{folder} has class folders such as {strange[0]!r}; the network's {len(known)} "
            f"classes are named {known[0]}, ..., {known[-1]}, and each image must be in the "
            "folder of its class"
        )
    split.list_classes(known)
    faults = [*split.faults(), *faults]
    splits = (_SplitListing(None), split)
    return _folder(folder.parent, splits, known, faults, skip_bad_images=skip_bad_images)


def _folder(
    root: Path,
    splits: tuple[_SplitListing, _SplitListing],
    classes: Sequence[str],
    faults: list[str],
    *,
    skip_bad_images: bool,
) -> ImageFolder:
    notes = [note for split in splits for note in split.notes()]
    for split in splits:
        if (bad := split.unreadable()) and skip_bad_images:
            notes.append(f"{bad}; skipped, because of --skip-bad-images.")
        elif bad:
            cure = "replace them, or skip such images with --skip-bad-images"
            faults.append(f"{bad}; {cure}")
    if faults:
        raise DataError(". ".join(faults) + ".")
    if missing := splits[1].empty(classes):
        notes.append(
            f"{splits[1].folder} has images of {len(classes) - len(missing):,} of "
            f"{len(classes):,} classes; none of {few(missing)}."
        )
    digest, times = hashlib.sha256(), hashlib.sha256()
    (train, train_labels), (val, val_labels) = (split.arrays(classes, digest) for split in splits)
    for split in splits:
        times.update(b"".join(b"%s\0%d\n" % (file.path, file.time) for file in split.files()))
    newest = max((file for split in splits for file in split.files()), key=lambda file: file.time)
    return ImageFolder(
        name="image-folder",
        root=root,
        train=train,
        train_labels=train_labels,
        val=val,
        val_labels=val_labels,
        classes=tuple(classes),
        digest=digest.hexdigest()[:16],
        times=times.hexdigest()[:16],
        newest=os.fsdecode(newest.path),
        notes=tuple(notes),
    )


@dataclasses.dataclass
class _Listing:
    """The entries below one folder.

    Attributes:
        images: the image files.
        others: number of other files, by suffix.
        system: folders of operating systems and programs, which are skipped.
        faults: folders that cannot be listed, with the reason.
    """

    images: list[File] = dataclasses.field(default_factory=list)
    others: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    system: list[str] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)


class _SplitListing:
    """The class folders of the training or the validation images.

    Args:
        folder: their parent; None: there are no images.

    Attributes:
        classes: names of the class folders, sorted.
        images: number of images in the listed classes.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.classes: list[str] = []
        self.top = _Listing()
        self.listed: dict[str, _Listing] = {}
        if folder is None:
            return
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._add(entry)
        except OSError as error:
            raise DataError(f"{folder} cannot be listed: {error.strerror or error}.") from error
        self.classes.sort()

    def _add(self, entry: os.DirEntry[str]) -> None:
        if entry.name.startswith("."):
            return
        if is_folder(entry):
            wanted = self.top.system if entry.name.lower() in SYSTEM else self.classes
            wanted.append(entry.name)
        elif suffix_of(entry.name) in SUFFIXES:
            self.top.images.append(stat_entry(entry, entry.name))
        elif entry.is_symlink() and stat_entry(entry, entry.name).size == NO_FILE:
            self.top.faults.append(f"{entry.path} is a broken link")

    def list_classes(self, classes: Sequence[str]) -> None:
        """Lists the images of these classes, as far as they have a folder."""
        existing = set(self.classes)
        named = [name for name in classes if name in existing]
        if self.folder is None or not named:
            return
        folder, above = self.folder, frozenset(_ancestors(self.folder))
        with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
            found = pool.map(lambda name: _list_class(folder, name, above), named)
            self.listed = dict(zip(named, found, strict=True))

    @property
    def images(self) -> int:
        return sum(len(listed.images) for listed in self.listed.values())

    def files(self) -> Iterator[File]:
        """Yields all images."""
        for listed in self.listed.values():
            yield from listed.images

    def empty(self, classes: Sequence[str]) -> list[str]:
        """Returns the classes without images."""
        return [n for n in classes if n not in self.listed or not self.listed[n].images]

    def faults(self) -> list[str]:
        """Returns the reasons why the folder cannot be used."""
        faults = [
            *self.top.faults,
            *(fault for listed in self.listed.values() for fault in listed.faults),
        ]
        lines = []
        if faults:
            lines.append(f"{plural(len(faults), 'folder')} cannot be listed: {few(faults)}")
        if not self.images and not self.top.faults:
            lines.append(
                f"there are no images in the class folders of {self.folder}: {self._has()}"
            )
        return lines

    def _has(self) -> str:
        if self.top.images:
            return (
                f"{len(self.top.images):,} images are directly in it ({self._loose()}); put each "
                "into the folder of its class"
            )
        others = self._others()
        files = f", with other files: {_counted(others)}" if others else ""
        return f"it has {plural(len(self.classes), 'class folder')}{files}. {_READ}"

    def _loose(self) -> str:
        return few(sorted(os.fsdecode(file.path) for file in self.top.images), 3)

    def _others(self) -> collections.Counter[str]:
        return sum((listed.others for listed in self.listed.values()), collections.Counter[str]())

    def notes(self) -> Iterator[str]:
        """Yields sentences about skipped files."""
        system = [
            *self.top.system,
            *(path for listed in self.listed.values() for path in listed.system),
        ]
        if system:
            yield (
                f"skipped in {self.folder}: {plural(len(system), 'system folder')} "
                f"({few(sorted(system))})."
            )
        if self.top.images:
            yield (
                f"skipped in {self.folder}: {plural(len(self.top.images), 'image')} without "
                f"a class, directly in it ({self._loose()})."
            )
        if others := self._others():
            yield (
                f"skipped in {self.folder}: {plural(sum(others.values()), 'file')} in class "
                f"folders, because of the suffix ({_counted(others)}). {_READ}."
            )

    def unreadable(self) -> str:
        """Returns a text that names the files that clearly are no images, or an empty one."""
        parts = []
        for wanted, kind in (
            (NO_FILE, "missing or special file"),
            (0, "empty file"),
        ):
            if bad := [os.fsdecode(f.path) for f in self.files() if f.size == wanted]:
                parts.append(f"{plural(len(bad), kind)} ({few(bad)})")
        if not parts:
            return ""
        return f"among the {plural(self.images, 'image')} in {self.folder}: {' and '.join(parts)}"

    def arrays(
        self, classes: Sequence[str], digest: hashlib._Hash
    ) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
        """Returns paths (N,) from the folder's parent on, and labels (N,); updates the digest."""
        if self.folder is None:
            return np.empty(0, "S1"), np.empty(0, np.int64)
        digest.update(b"%d\n" % self.images)
        digest.update(b"".join(b"%s\0%d\n" % (f.path, f.size) for f in self.files()))
        prefix = os.fsencode(self.folder.name) + b"/"
        paths = [prefix + file.path for file in self.files()]
        counts = [len(listed.images) for listed in self.listed.values()]
        indices = {name: index for index, name in enumerate(classes)}
        labels = np.repeat([indices[name] for name in self.listed], counts)
        return np.array(paths), labels.astype(np.int64)


def _ancestors(folder: Path) -> Iterator[tuple[int, int]]:
    """Yields device and inode of a folder and of all its parents."""
    whole = folder.resolve()
    for path in (whole, *whole.parents):
        status = path.stat()
        yield status.st_dev, status.st_ino


def _list_class(folder: Path, name: str, above: frozenset[tuple[int, int]]) -> _Listing:
    """Returns the entries below a class folder; paths begin with its name.

    Args:
        folder: the parent of the class folder.
        name: of the class folder.
        above: device and inode of each folder that must not be entered again.
    """
    found, entered, waiting = _Listing(), set(above), [name]
    while waiting:
        path = waiting.pop()
        inner_folder = folder / path
        try:
            status = inner_folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                found.faults.append(f"{inner_folder} links to a folder that is listed already")
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(inner_folder) as entries:
                for entry in entries:
                    inner = f"{path}/{entry.name}"
                    if entry.name.startswith("."):
                        continue
                    if is_folder(entry):
                        system = entry.name.lower() in SYSTEM
                        (found.system if system else waiting).append(inner)
                    elif (suffix := suffix_of(entry.name)) in SUFFIXES:
                        found.images.append(stat_entry(entry, inner))
                    else:
                        found.others[suffix] += 1
        except OSError as error:
            found.faults.append(f"{inner_folder}: {error.strerror or error}")
    found.images.sort()
    return found


def _counted(suffixes: collections.Counter[str]) -> str:
    return few([f"{n:,} .{s}" if s else f"{n:,} without" for s, n in suffixes.most_common()])
