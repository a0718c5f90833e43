"""Images in folders, one for each class: listed and named, not read. No torch here.

Everything that is wrong with a folder is said at once: faults as one error, and what is only passed
over as notes. Hidden files and folders, whose names begin with a dot, do not count.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablations.data.directory import NO_FILE, File, is_folder, stat_entry, suffix_of
from ablations.paths import expand
from modernize.errors import UsageError
from modernize.text import few, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = frozenset(("jpg", "jpeg", "png", "webp", "bmp"))  # of images, in any case
SPLITS = (("train",), ("val", "validation"))  # what their folders may be called

# Folders that systems and programs leave among others, in lower case.
SYSTEM = frozenset(
    ("lost+found", "__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot",
     "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information", "found.000",
     "network trash folder", "temporary items")
)  # fmt: skip

_READ = f"The suffixes that are read, in any case: .{', .'.join(sorted(SUFFIXES))}"


class DataError(UsageError):
    """Images that are not where they were said to be, or are not what they should be."""


class MissingImagesError(DataError):
    """Images that are not there at all."""


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Training and validation images on disk, listed but not read.

    Attributes:
        name: the data set.
        root: the folder that holds them all.
        train, val: bytes (N,), the images' paths from ``root`` on. One array, for a list of a
            million texts would be copied into every worker process as soon as it is read there.
        train_labels, val_labels: int64 (N,), places in ``classes``.
        classes: the names of the class folders, sorted.
        digest: names all paths and file sizes.
        times: names all paths and modification times, which are no part of the identity.
        newest: path of the file that was modified last.
        notes: what was passed over, a sentence each.
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
        """Class folders there are for training."""
        return len(self.classes)

    @property
    def source(self) -> str:
        """Where the images are, for people."""
        return str(self.root)

    @property
    def majority(self) -> float:
        """Part of the validation images that belongs to the most common class."""
        return largest_fraction(self.val_labels)

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


def largest_fraction(labels: NDArray[np.int64]) -> float:
    """Returns the part of the labels that are of the most common class."""
    return float(np.bincount(labels).max()) / len(labels)


def list_folder(source: str, *, skip_bad_images: bool = False) -> ImageFolder:
    """Returns the images of a folder; a class is what its training images have a folder for.

    Args:
        source: the folder, which has ``train`` and ``val`` (or ``validation``).
        skip_bad_images: whether files that clearly hold no image are noted; else they are an error.

    Raises:
        DataError: for a folder without these, and naming everything that is wrong with it.
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
    train, val = (_Split(root / name) for name in found)
    classes = train.classes
    for split in (train, val):
        split.list_classes(classes)
    faults = train.faults()
    if strange := sorted(set(val.classes).difference(classes)):
        faults.append(
            f"{val.folder} has {plural(len(strange), 'class')} that {train.folder} lacks: "
            f"{few(strange)}. Both must call their classes the same"
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
    """Returns the images of a folder of class folders, to evaluate on; there are none to train on.

    Args:
        folder: of the class folders.
        classes: the names of all classes, in the order of a network's logits; not all need a
            folder. Or how many there must be; then they are in the order of their names.
        skip_bad_images: whether files that clearly hold no image are noted; else they are an error.

    Raises:
        DataError: for a folder that is not there or holds no images, and for other class folders.
    """
    folder = Path(expand(str(folder))).resolve()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; name one that has a folder per class.")
    split = _Split(folder)
    found, faults = split.classes, []
    if isinstance(classes, int) and len(found) != classes:
        faults.append(
            f"{folder} has {len(found)} class folders, but the network has {classes} "
            "classes; name the folder of the images that it was trained for"
        )
    known = found if isinstance(classes, int) else classes
    if strange := sorted(set(found).difference(known)):
        faults.append(
            f"{folder} has class folders such as {strange[0]!r}; the network's {len(known)} "
            f"classes are called {known[0]}, ..., {known[-1]}, and each image must lie in the "
            "folder of its class"
        )
    split.list_classes(known)
    faults = [*split.faults(), *faults]
    splits = (_Split(None), split)
    return _folder(folder.parent, splits, known, faults, skip_bad_images=skip_bad_images)


def _folder(
    root: Path,
    splits: tuple[_Split, _Split],
    classes: Sequence[str],
    faults: list[str],
    *,
    skip_bad_images: bool,
) -> ImageFolder:
    notes = [note for split in splits for note in split.notes()]
    for split in splits:
        if (bad := split.unreadable()) and skip_bad_images:
            notes.append(f"{bad}; with --skip-bad-images they are passed over.")
        elif bad:
            cure = "replace these, or pass over such images with --skip-bad-images"
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
class _Listed:
    """What there is below one folder.

    Attributes:
        images: each of them.
        others: how many other files end in which suffix.
        system: folders of the system's, which are passed over.
        faults: folders that cannot be listed, with the reason.
    """

    images: list[File] = dataclasses.field(default_factory=list)
    others: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    system: list[str] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)


class _Split:
    """The class folders of training or of validation.

    Args:
        folder: that holds them; None: there is none, and no image.

    Attributes:
        classes: names of the class folders, sorted.
        images: how many were found in the classes asked for.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.classes: list[str] = []
        self.top = _Listed()
        self.listed: dict[str, _Listed] = {}
        if folder is None:
            return
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._sort_in(entry)
        except OSError as error:
            raise DataError(f"{folder} cannot be listed: {error.strerror or error}.") from error
        self.classes.sort()

    def _sort_in(self, entry: os.DirEntry[str]) -> None:
        if entry.name.startswith("."):
            return
        if is_folder(entry):
            wanted = self.top.system if entry.name.lower() in SYSTEM else self.classes
            wanted.append(entry.name)
        elif suffix_of(entry.name) in SUFFIXES:
            self.top.images.append(stat_entry(entry, entry.name))
        elif entry.is_symlink() and stat_entry(entry, entry.name).size == NO_FILE:
            self.top.faults.append(f"{entry.path} leads nowhere")

    def list_classes(self, classes: Sequence[str]) -> None:
        """Lists those of the classes that have a folder."""
        there = set(self.classes)
        named = [name for name in classes if name in there]
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
        """Returns the classes that have no image."""
        return [n for n in classes if n not in self.listed or not self.listed[n].images]

    def faults(self) -> list[str]:
        """Returns why the folder cannot be used."""
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
                "into a folder that is called as its class"
            )
        others = self._others()
        files = f", with other files: {_counted(others)}" if others else ""
        return f"it has {plural(len(self.classes), 'class folder')}{files}. {_READ}"

    def _loose(self) -> str:
        return few(sorted(os.fsdecode(file.path) for file in self.top.images), 3)

    def _others(self) -> collections.Counter[str]:
        return sum((listed.others for listed in self.listed.values()), collections.Counter[str]())

    def notes(self) -> Iterator[str]:
        """Yields what was passed over."""
        system = [
            *self.top.system,
            *(path for listed in self.listed.values() for path in listed.system),
        ]
        if system:
            yield (
                f"passed over in {self.folder}: {plural(len(system), 'folder')} of the system "
                f"({few(sorted(system))})."
            )
        if self.top.images:
            yield (
                f"passed over in {self.folder}: {plural(len(self.top.images), 'image')} of no "
                f"class, directly in it ({self._loose()})."
            )
        if others := self._others():
            yield (
                f"passed over in {self.folder}: {plural(sum(others.values()), 'file')} in class "
                f"folders, for the suffix ({_counted(others)}). {_READ}."
            )

    def unreadable(self) -> str:
        """Returns which files clearly hold no image; nothing if there is none."""
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
        """Returns paths (N,), from the folder's parent on, and labels (N,); adds to the digest."""
        if self.folder is None:
            return np.empty(0, "S1"), np.empty(0, np.int64)
        digest.update(b"%d\n" % self.images)
        digest.update(b"".join(b"%s\0%d\n" % (f.path, f.size) for f in self.files()))
        prefix = os.fsencode(self.folder.name) + b"/"
        paths = [prefix + file.path for file in self.files()]
        counts = [len(listed.images) for listed in self.listed.values()]
        places = {name: place for place, name in enumerate(classes)}
        labels = np.repeat([places[name] for name in self.listed], counts)
        return np.array(paths), labels.astype(np.int64)


def _ancestors(folder: Path) -> Iterator[tuple[int, int]]:
    whole = folder.resolve()
    for path in (whole, *whole.parents):
        status = path.stat()
        yield status.st_dev, status.st_ino


def _list_class(folder: Path, name: str, above: frozenset[tuple[int, int]]) -> _Listed:
    """Returns what there is below a class folder; paths begin with its name.

    Args:
        folder: that holds the class folder.
        name: of the class folder.
        above: the device and number of each folder that must not be entered again.
    """
    found, entered, waiting = _Listed(), set(above), [name]
    while waiting:
        path = waiting.pop()
        place = folder / path
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in entered:
                found.faults.append(f"{place} leads to a folder that is listed already")
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
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
            found.faults.append(f"{place}: {error.strerror or error}")
    found.images.sort()
    return found


def _counted(suffixes: collections.Counter[str]) -> str:
    return few([f"{n:,} .{s}" if s else f"{n:,} without" for s, n in suffixes.most_common()])
