"""WebDataset: tar archives (shards) of images and labels, listed by where each image begins.

A stream of shards cannot be read in the order that a seed decides. So the shards are listed once,
and each image is then read by its offset, in any order, by any number of processes. The package
``webdataset`` decides which members of a shard make a sample.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablations.data.extras import extra_library
from ablations.data.image_folder import SUFFIXES
from ablations.data.images import (
    VALIDATION,
    DataError,
    Found,
    MissingImagesError,
    Split,
    index_classes,
    note_test,
)
from ablations.data.readers import decode_bytes
from ablations.paths import expand
from modernize.text import few

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

LABEL = "cls"  # the suffix of labels
LONGEST_LABEL = 1000  # bytes
END = bytes(1024)  # of a tar archive
_HIDDEN = re.compile(r"__[^/]*__($|/)")  # members that webdataset leaves out

_EXPECTED = (
    "name with --data a folder of tar archives whose names have the word train or val (or "
    "validation, or test), or that are in folders of these names"
)


class _Sample(NamedTuple):
    """An image in a shard: its key, and where it and its label are."""

    shard: int
    key: str
    offset: int
    size: int
    label: str


def find_shards(source: str, *, only_train: bool = False) -> Found:
    """Returns the images of the shards in a folder.

    Args:
        source: the folder of the shards.
        only_train: whether shards of validation images are ignored.

    Raises:
        DataError: if there are no shards, a shard has another or no split, or the package
            webdataset is not installed.
    """
    root = Path(expand(source))
    if not root.is_dir():
        raise MissingImagesError(f"there is no folder {root}; {_EXPECTED}.")
    shards = _find(root)
    used = next((name for name in VALIDATION if name in shards), "")
    if "train" not in shards:
        raise DataError(f"{root} has no shard of training images; {_EXPECTED}.")
    faults: list[str] = []
    names = ["train", used] if used and not only_train else ["train"]
    paths = tuple(path for name in names for path in shards[name])
    numbers = {path: number for number, path in enumerate(paths)}
    splits = []
    for name in names:
        samples = [sample for path in shards[name] for sample in _list(path, numbers[path], faults)]
        splits.append(_split(root, name, paths, samples))
    if faults:
        raise DataError(
            f"{few(faults, 10)}. Write these shards again: every sample needs one image "
            f"(.{', .'.join(sorted(SUFFIXES))}) and its label (.{LABEL})."
        )
    reader = functools.partial(ShardReader, tuple(map(str, paths)))
    return Found(
        str(root), splits[0], splits[1] if splits[1:] else None, reader, (), note_test(names)
    )


def _find(root: Path) -> dict[str, list[Path]]:
    """Returns the shards of each split: those of a folder with its name, or with it as a word."""
    found: dict[str, list[Path]] = {}
    strange = []
    for path in sorted([*root.glob("*.tar"), *root.glob("*/*.tar")]):
        if path.name.startswith("."):
            continue
        folder = [] if path.parent == root else [path.parent.name]
        words = [*folder, *re.findall("[a-z]+", path.stem.lower())]
        split = next((word for word in words if word in ("train", *VALIDATION)), None)
        if split is None:
            strange.append(str(path.relative_to(root)))
        else:
            found.setdefault(split, []).append(path)
    if strange:
        raise DataError(
            f"the names of these shards in {root} say no split: {few(strange)}; {_EXPECTED}."
        )
    return found


def _list(path: Path, number: int, faults: list[str]) -> list[_Sample]:
    """Returns the samples of a shard; adds to ``faults`` if it is damaged."""
    group = extra_library("webdataset.tariterators", "webdataset").group_by_keys
    samples, wrong = [], []
    try:
        with path.open("rb") as file:
            for members in group(_members(path)):
                key, images = members["__key__"], [members[s] for s in members if s in SUFFIXES]
                label = _label(file.fileno(), members[LABEL]) if LABEL in members else ""
                if len(images) == 1 and label:
                    offset, size = images[0]
                    samples.append(_Sample(number, key, offset, size, label))
                elif len(images) != 1:
                    wrong.append(f"{key} has {len(images)} images")
                else:
                    wrong.append(f"{key} has no label")
            file.seek(-min(len(END), path.stat().st_size), os.SEEK_END)
            if file.read() != END:
                wrong.append("it is cut off, because the end of the archive is missing")
    except (OSError, ValueError, tarfile.TarError) as error:
        wrong.append(f"it is cut off or damaged ({error})")
    if not samples and not wrong:
        wrong.append("it has no samples")
    faults += [f"{path}: {text}" for text in wrong]
    return samples


def _members(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the files in a shard as webdataset has them, with offset and size as their data."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.isreg() and not _HIDDEN.match(member.name):
                place = (member.offset_data, member.size)
                yield {"fname": member.name, "data": place, "__url__": str(path)}
            tar.members = []  # type: ignore[attr-defined]  # they would fill memory


def _label(handle: int, place: tuple[int, int]) -> str:
    offset, size = place
    return os.pread(handle, min(size, LONGEST_LABEL), offset).decode().strip()


def _split(root: Path, name: str, paths: Sequence[Path], samples: Sequence[_Sample]) -> Split:
    classes, labels = index_classes([sample.label for sample in samples])
    shards = [path.relative_to(root) for path in paths]
    longest = max((len(sample.key.encode()) for sample in samples), default=0)
    places = [("shard", np.int32), ("offset", np.int64), ("size", np.int64)]
    kind = [*places, ("key", f"S{longest + 1}")]
    items = np.array([(s.shard, s.offset, s.size, s.key.encode()) for s in samples], kind)
    times = [int(path.stat().st_mtime) for path in paths]
    return Split(
        where=f"{root} ({name})",
        classes=classes,
        items=items,
        names=[f"{s.label}\0{shards[s.shard].name}/{s.key}".encode() for s in samples],
        labels=labels,
        sizes=[s.size for s in samples],
        times=[times[s.shard] for s in samples],
        describe=lambda i: f"{shards[samples[i].shard]}: {samples[i].key}",
    )


@dataclasses.dataclass(frozen=True)
class ShardReader:
    """Reads images from shards by their offset; raises the errors of Pillow.

    Attributes:
        shards: paths of the tar archives.
        items: (N,), each with ``shard``, ``offset``, ``size`` and ``key``.
    """

    shards: tuple[str, ...]
    items: NDArray[Any]

    def __len__(self) -> int:
        return len(self.items)

    def path(self, index: int) -> str:
        """Returns the shard and the key of an image."""
        item = self.items[index]
        return f"{self.shards[item['shard']]}: {os.fsdecode(item['key'])}"

    def contents(self, index: int) -> bytes:
        """Returns the content of the image's file."""
        item = self.items[index]
        handle = os.open(self.shards[item["shard"]], os.O_RDONLY)
        try:
            return os.pread(handle, int(item["size"]), int(item["offset"]))
        finally:
            os.close(handle)

    def __call__(self, index: int) -> Image.Image:
        """Returns an image."""
        return decode_bytes(self.contents(index))
