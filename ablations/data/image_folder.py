"""Image folders, with a folder for each class: listed, not read. Does not import torch.

All faults of a folder are reported at once, as one error; skipped files are reported as notes.
Hidden files and folders, whose names begin with a dot, are ignored.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ablations.data.directory import NO_FILE, File, is_folder, stat_entry, suffix_of
from ablations.data.found import VALIDATION, Found, Split, check_found, existing_folder, splits_used
from ablations.data.images import DataError, ListedImages
from ablations.data.readers import FileReader
from ablations.paths import expand
from ablations.units import integer
from modernize.text import few, plural

SUFFIXES = frozenset(("jpg", "jpeg", "png", "webp", "bmp"))  # of images, in any case

# Folders that operating systems and programs create, in lower case.
SYSTEM = frozenset(
    ("lost+found", "__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot",
     "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information", "found.000",
     "network trash folder", "temporary items")
)  # fmt: skip

_READ = f"Suffixes of images, in any case: .{', .'.join(sorted(SUFFIXES))}"


def find_folder(source: str, *, only_train: bool = False) -> Found:
    """Returns the images of a folder; its folders of training images define the classes.

    Args:
        source: the folder, which has ``train``, and validation images in ``val``, ``validation`` or
            ``test``; with ``only_train``, it may have the folders of the classes itself.
        only_train: whether the validation images are ignored.

    Raises:
        DataError: if a folder is missing or cannot be listed, or may have classes or splits.
    """
    expected = (
        "--data must name a folder with train in it, and val, validation or test, each with a "
        "folder of images per class; or, with data.validation, a folder of images per class"
    )
    root = existing_folder(source, expected)
    splits_here = [name for name in ("train", *VALIDATION) if (root / name).is_dir()]
    if "train" in splits_here:
        folders = [root / name for name in splits_used(splits_here, only_train=only_train)]
    elif only_train and not splits_here:
        folders = [root]
    else:
        has = f", but {splits_here[0]}" if splits_here else ""
        raise DataError(f"{root} has no folder train{has}; {expected}.")
    listings = [_SplitListing(folder) for folder in folders]
    for listing in listings:
        listing.list_classes(listing.classes)
    faults = [fault for listing in listings for fault in listing.faults()]
    if not splits_here:
        faults += listings[0].nested()
    if listings[0].images and (empty := listings[0].empty()):
        faults.append(
            f"{listings[0].folder} has {plural(len(empty), 'class folder')} without an image: "
            f"{few(empty)}. {_READ}; fill or remove these folders"
        )
    notes = [note for listing in listings for note in listing.notes()]
    reader = functools.partial(FileReader, folders[0].parent)
    splits = [listing.split(listing.folder.name) for listing in listings]
    return Found(str(root), splits, reader, faults, notes)


def list_validation(
    folder: Path, classes: Sequence[str] | int, *, skip_bad_images: bool = False
) -> ListedImages:
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
    listing = _SplitListing(folder)
    found, faults = listing.classes, []
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
    existing = set(found)
    listing.list_classes([name for name in known if name in existing])
    faults = [*listing.faults(), *faults]
    none = Split("", known, np.empty(0, "S1"), [], np.empty(0, np.int64), [], [])
    reader = functools.partial(FileReader, folder.parent)
    notes = list(listing.notes())
    images = Found(str(folder.parent), [none, listing.split()], reader, faults, notes)
    return check_found("image-folder", images, skip_bad_images=skip_bad_images)


@dataclasses.dataclass
class _Listing:
    """The entries below one folder.

    Attributes:
        images: the image files.
        others: number of other files, by suffix.
        system: folders of operating systems and programs, which are skipped.
        inner: folders in folders.
        faults: folders that cannot be listed, with the reason.
    """

    images: list[File] = dataclasses.field(default_factory=list)
    others: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    system: list[str] = dataclasses.field(default_factory=list)
    inner: list[str] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)


class _SplitListing:
    """The class folders of the training or the validation images.

    Args:
        folder: their parent.

    Attributes:
        classes: names of the class folders, sorted.
        images: number of images in the listed classes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.classes: list[str] = []
        self.top = _Listing()
        self.listed: dict[str, _Listing] = {}
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
        """Lists the images of these class folders."""
        folder, above = self.folder, frozenset(_ancestors(self.folder))
        with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
            found = pool.map(lambda name: _list_class(folder, name, above), classes)
            self.listed = dict(zip(classes, found, strict=True))

    @property
    def images(self) -> int:
        return sum(len(listed.images) for listed in self.listed.values())

    def files(self) -> Iterator[File]:
        """Yields all images."""
        for listed in self.listed.values():
            yield from listed.images

    def empty(self) -> list[str]:
        """Returns the listed classes without images."""
        return [name for name, listed in self.listed.items() if not listed.images]

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

    def nested(self) -> list[str]:
        """Returns a fault if the class folders seem to be whole data sets, with splits."""
        inner = {path for listed in self.listed.values() for path in listed.inner}
        names = (f"{name}/{split}" for name in self.listed for split in ("train", *VALIDATION))
        if not (splits := inner.intersection(names)):
            return []
        return [
            f"{self.folder} has folders of splits inside its class folders: {few(sorted(splits))}. "
            "Name with --data the folder that has train in it, or rename them"
        ]

    def _has(self) -> str:
        if self.top.images:
            return (
                f"{integer(len(self.top.images))} images are directly in it ({self._loose()}); put "
                "each into the folder of its class"
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

    def split(self, name: str = "") -> Split:
        """Returns the images; the items are paths from the folder's parent on."""
        paths, sizes, times = zip(*self.files(), strict=True) if self.images else ((), (), ())
        prefix = os.fsencode(self.folder.name) + b"/"
        counts = [len(listed.images) for listed in self.listed.values()]
        labels = np.repeat(np.arange(len(self.listed)), counts)
        items = np.array([prefix + path for path in paths], np.bytes_)
        where, classes = str(self.folder), list(self.listed)
        return Split(where, classes, items, paths, labels, sizes, times, name=name)


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
                        (found.system if system else found.inner).append(inner)
                        waiting += [] if system else [inner]
                    elif (suffix := suffix_of(entry.name)) in SUFFIXES:
                        found.images.append(stat_entry(entry, inner))
                    else:
                        found.others[suffix] += 1
        except OSError as error:
            found.faults.append(f"{inner_folder}: {error.strerror or error}")
    found.images.sort()
    return found


def _counted(suffixes: collections.Counter[str]) -> str:
    return few(
        [f"{integer(n)} .{s}" if s else f"{integer(n)} without" for s, n in suffixes.most_common()]
    )
