"""Data sets on disk: what is found of them, and the checks that all kinds share. No torch.

Each kind has a module beside this one, which returns a :class:`Found`: where each image is, its
label, and how it is read. :func:`check_found` holds out validation images if the preset asks for
it, reports all faults at once, and gives the images their identity.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.data.directory import NO_FILE
from ablations.data.images import (
    DataError,
    InMemoryDataset,
    ListedImages,
    MissingImagesError,
    with_parts,
)
from ablations.data.readers import Reader
from ablations.paths import expand
from ablations.units import integer
from modernize.text import few, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALIDATION = ("val", "validation", "test")
"""Names of folders, files and splits of validation images; the first that exists is used."""


def splits_used(existing: Collection[str], *, only_train: bool) -> list[str]:
    """Returns ``train`` and, unless ignored or missing, the split of the validation images."""
    validation = [name for name in VALIDATION if name in existing and not only_train]
    return ["train", *validation[:1]]


def existing_folder(source: str, expected: str) -> Path:
    """Returns the folder of a data set.

    Raises:
        MissingImagesError: if it does not exist; with the expected content.
    """
    root = Path(expand(source)).absolute()
    if not root.is_dir():
        raise MissingImagesError(f"there is no folder {root}; {expected}.")
    return root


def index_classes(labels: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Returns the classes that occur in labels (N,), and the index of each label's class (N,).

    Classes are in the order of their names, or of their numbers if all of them are integers.
    """
    classes = sorted(set(labels))
    if all(name.isdecimal() for name in classes):
        classes.sort(key=int)
    indices = {name: index for index, name in enumerate(classes)}
    return classes, np.array([indices[label] for label in labels], np.int64)


@dataclasses.dataclass(frozen=True)
class Split:
    """The training or the validation images of a data set on disk, as they are found.

    Attributes:
        where: their folder or file, for messages.
        classes: names of the classes, in order.
        items: (N,), what a reader needs to find each image.
        names: of each image, with its class; the same wherever the data set is.
        labels: int64 (N,), indices of ``classes``.
        sizes: of each image in bytes, or ``NO_FILE``; empty if unknown.
        times: of the last modification of each image, in seconds.
        describe: returns the place of an image for messages, by its number; None: its name.
        name: of the split, as the data set has it.
    """

    where: str
    classes: Sequence[str]
    items: NDArray[Any]
    names: Sequence[bytes]
    labels: NDArray[np.int64]
    sizes: Sequence[int]
    times: Sequence[int]
    describe: Callable[[int], str] | None = None
    name: str = ""

    def place(self, index: int) -> str:
        """Returns where an image is, for messages."""
        return self.describe(index) if self.describe else os.fsdecode(self.names[index])

    def empty_classes(self) -> list[str]:
        """Returns the classes without images."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return [name for name, count in zip(self.classes, counts, strict=True) if not count]

    def take(self, chosen: NDArray[np.bool_]) -> Split:
        """Returns the chosen images; chosen: (N,)."""
        numbers = np.flatnonzero(chosen).tolist()
        return dataclasses.replace(
            self,
            items=self.items[chosen],
            names=[self.names[i] for i in numbers],
            labels=self.labels[chosen],
            sizes=[self.sizes[i] for i in numbers] if self.sizes else [],
            times=[self.times[i] for i in numbers],
            describe=lambda i: self.place(numbers[i]),
        )

    def relabelled(self, classes: Sequence[str]) -> Split:
        """Returns the same images with indices of other classes, which include all that occur."""
        indices = {name: index for index, name in enumerate(classes)}
        mapped = np.array([indices.get(name, -1) for name in self.classes], np.int64)
        return dataclasses.replace(self, classes=classes, labels=mapped[self.labels])


@dataclasses.dataclass(frozen=True)
class Found:
    """A data set on disk as it is found, not yet checked.

    Attributes:
        source: the folder or file that has all images.
        splits: the training images, whose classes are those of the data set, and the validation
            images if there are any.
        reader: returns a reader of items.
        faults: why the images cannot be used.
        notes: sentences about the images.
        code: the Python file of a custom data set.
    """

    source: str
    splits: Sequence[Split]
    reader: Callable[[NDArray[Any]], Reader]
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()
    code: bytes = b""


def check_found(
    name: str, found: Found, validation: float | None = None, *, skip_bad_images: bool = False
) -> ListedImages:
    """Returns the data set, checked.

    Args:
        name: the kind of data set.
        found: its images.
        validation: the fraction of the training images to hold out for validation; None: it has
            validation images.
        skip_bad_images: whether files that clearly are no images become notes, not errors.

    Raises:
        DataError: naming all faults.
    """
    train, val = found.splits[0], next(iter(found.splits[1:]), None)
    faults, notes = list(found.faults), list(found.notes)
    if val is not None and val.name == "test":
        notes.append("the validation images are those of test.")
    if not faults and (empty := train.empty_classes()) and len(train.items):
        faults.append(
            f"{train.where} has {plural(len(empty), 'class')} without an image: {few(empty)}"
        )
    if validation is not None and not faults:
        held = hold_out(train.names, train.labels, train.classes, validation, train.where)
        train, val = train.take(~held), train.take(held)
        notes += _held_out_notes(held, validation, train.where)
    elif val is not None:
        faults += _unknown_classes(train, val)
        val = val.relabelled(train.classes)
    splits = [train] if val is None else [train, val]
    for split in splits:
        if (bad := _unreadable(split)) and skip_bad_images:
            notes.append(f"{bad}; skipped, because of --skip-bad-images.")
        elif bad:
            faults.append(f"{bad}; replace them, or skip such images with --skip-bad-images")
    if faults:
        raise DataError(". ".join(faults) + ".")
    if val is None or not (len(val.items) or validation == 0):
        raise DataError(
            f"{found.source} has no validation images. Name them {', '.join(VALIDATION[:-1])} or "
            f"{VALIDATION[-1]}, or hold out a part of the training images: "
            "--set data.validation=0.1."
        )
    if (missing := val.empty_classes()) and validation != 0:
        count = len(train.classes)
        notes.append(
            f"{val.where} has images of {integer(count - len(missing))} of {integer(count)} "
            f"classes; none of {few(missing)}."
        )
    digest, times = hashlib.sha256(found.code), hashlib.sha256()
    for split in splits:
        digest.update(b"%d\n" % len(split.items))
        sizes = split.sizes or [0] * len(split.items)
        digest.update(b"".join(map(b"%s\0%d\n".__mod__, zip(split.names, sizes, strict=True))))
        times.update(b"".join(map(b"%s\0%d\n".__mod__, zip(split.names, split.times, strict=True))))
    latest = max((s for s in splits if s.times), key=lambda s: max(s.times))
    newest = latest.place(latest.times.index(max(latest.times)))
    return ListedImages(
        name=name,
        source=found.source,
        train=train.items,
        train_labels=train.labels,
        val=val.items,
        val_labels=val.labels,
        classes=tuple(train.classes),
        reader=found.reader,
        digest=digest.hexdigest()[:16],
        times=times.hexdigest()[:16],
        newest=newest,
        code=found.code,
        notes=tuple(notes),
    )


def hold_out(
    names: Iterable[bytes],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    fraction: float,
    where: str,
) -> NDArray[np.bool_]:
    """Returns which training images are held out for validation: bool (N,).

    A digest of an image's name decides, so that it stays where it is if others are added.

    Args:
        names: of the images.
        labels: (N,), indices of ``classes``.
        classes: their names.
        fraction: of the images to be held out, about; 0: none.
        where: the folder or file of the images, for messages.

    Raises:
        DataError: naming the classes that would have no training or no validation images.
    """
    if not fraction:
        return np.zeros(len(labels), bool)
    first_bytes = b"".join(hashlib.sha256(name).digest()[:8] for name in names)
    places = np.frombuffer(first_bytes, ">u8") / 2.0**64  # from 0 to 1
    low, high = np.full(len(classes), 1.0), np.zeros(len(classes))
    np.minimum.at(low, labels, places)
    np.maximum.at(high, labels, places)
    faults = []
    for kind, wrong in (("validation", low >= fraction), ("training", high < fraction)):
        if wrong.any():
            named = [classes[i] for i in np.flatnonzero(wrong).tolist()]
            faults.append(f"no {kind} images in {plural(len(named), 'class')}: {few(named)}")
    if not faults:
        return places < fraction
    least, most = math.ceil(low.max() * 1000 + 1) / 1000, math.floor(high.min() * 1000) / 1000
    if least <= most:
        cure = f"Every class has both with a fraction from {least:g} to {most:g}"
    else:
        cure = "No fraction gives every class both; add images to these classes, or give a data "
        cure += "set that has validation images"
    raise DataError(
        f"data.validation {fraction:g} of the images in {where} leaves {'; '.join(faults)}. {cure}."
    )


def _held_out_notes(held: NDArray[np.bool_], fraction: float, where: str) -> list[str]:
    if not fraction:
        return ["no validation (data.validation 0): the runs have no accuracy."]
    return [
        f"validation: {integer(held.sum())} of the {plural(len(held), 'image')} in {where} are "
        f"held out (data.validation {fraction:g})."
    ]


def hold_out_in_memory(images: InMemoryDataset, fraction: float) -> InMemoryDataset:
    """Returns a data set whose validation images are part of its training images.

    Raises:
        DataError: naming the classes that would have no training or no validation images.
    """
    names = (image.tobytes() for image in images.train)
    classes = [str(label) for label in range(images.num_classes)]
    held = hold_out(names, images.train_labels, classes, fraction, images.source)
    return with_parts(
        images,
        f"{fraction!r} held out",
        train=images.train[~held],
        train_labels=images.train_labels[~held],
        val=images.train[held],
        val_labels=images.train_labels[held],
        notes=(*images.notes, *_held_out_notes(held, fraction, images.source)),
    )


def _unknown_classes(train: Split, val: Split) -> list[str]:
    """Returns a fault for the classes of validation images that no training image has."""
    strange = sorted(set(val.classes).difference(train.classes))
    if not strange:
        return []
    if val.describe:
        known = {name: index for index, name in enumerate(val.classes)}
        firsts = ((name, np.flatnonzero(val.labels == known[name])) for name in strange)
        strange = [f"{name} ({val.place(int(at[0]))})" if len(at) else name for name, at in firsts]
    return [
        f"{val.where} has {plural(len(strange), 'class')} that {train.where} lacks: "
        f"{few(strange)}. Both must have the same class names"
    ]


def _unreadable(split: Split) -> str:
    """Returns a text that names the files that clearly are no images, or an empty one."""
    sizes = np.array(split.sizes, np.int64)
    parts = []
    for wanted, kind in ((NO_FILE, "missing or special file"), (0, "empty file")):
        if len(bad := np.flatnonzero(sizes == wanted)):
            shown = few([split.place(int(i)) for i in bad])
            parts.append(f"{plural(len(bad), kind)} ({shown})")
    if not parts:
        return ""
    return f"among the {plural(len(sizes), 'image')} in {split.where}: {' and '.join(parts)}"
