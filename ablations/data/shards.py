"""WebDataset: tar archives (shards) of images and labels, listed by where each image begins.

A stream of shards cannot be read in the order that a seed decides. So the shards are listed once,
and each image is then read by its offset, in any order, by any number of processes. The package
``webdataset`` decides which members of a shard make a sample.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablations.data.extras import extra_library
from ablations.data.found import (
    VALIDATION,
    Found,
    Split,
    existing_folder,
    index_classes,
    splits_used,
)
from ablations.data.image_folder import SUFFIXES
from ablations.data.images import DataError
from ablations.data.readers import decode_bytes
from modernize.cache import cache_folder
from modernize.files import UnwritableFileError, read_bytes, write_bytes
from modernize.text import few
from modernize.user_code import digest_of

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
    root = existing_folder(source, _EXPECTED)
    shards = _find(root)
    if "train" not in shards:
        raise DataError(f"{root} has no shard of training images; {_EXPECTED}.")
    faults: list[str] = []
    names = splits_used(shards, only_train=only_train)
    paths = tuple(path for name in names for path in shards[name])
    numbers = {path: number for number, path in enumerate(paths)}
    samples = [
        [sample for path in shards[name] for sample in _list(path, numbers[path], faults)]
        for name in names
    ]
    if faults:
        raise DataError(
            f"{few(faults, 10)}. Write these shards again: every sample needs one image "
            f"(.{', .'.join(sorted(SUFFIXES))}) and its label (.{LABEL})."
        )
    splits = [_split(root, *part, paths) for part in zip(names, samples, strict=True)]
    reader = functools.partial(ShardReader, tuple(map(str, paths)))
    return Found(str(root), splits, reader)


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
    """Returns the samples of a shard; adds to ``faults`` if it is damaged.

    The list is kept in the user's cache folder, for the shard's path, size and modification time: a
    job need not list a million samples again, which takes minutes.
    """
    try:
        status = path.stat()
    except OSError as error:  # a broken link
        faults.append(f"{path}: {error.strerror or error}")
        return []
    key = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    kept = cache_folder() / "shards" / f"{digest_of(os.fsencode(key))}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [_Sample(number, *fields) for fields in json.loads(read_bytes(kept))]
    samples, wrong = _scan(path, number)
    faults += [f"{path}: {text}" for text in wrong]
    if not wrong:
        with contextlib.suppress(OSError, UnwritableFileError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(kept, json.dumps([s[1:] for s in samples]).encode(), flush=False)
    return samples


def _scan(path: Path, number: int) -> tuple[list[_Sample], list[str]]:
    """Returns the samples of a shard, and its faults."""
    group = extra_library("webdataset.tariterators", "webdataset").group_by_keys
    samples, wrong = [], []
    try:
        with path.open("rb") as file:
            for members in group(_members(path)):
                key, images = members["__key__"], [members[s] for s in members if s in SUFFIXES]
                label = _label(file, members[LABEL]) if LABEL in members else ""
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
    return samples, wrong


def _members(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the files in a shard as webdataset has them, with offset and size as their data."""
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.isreg() and not _HIDDEN.match(member.name):
                place = (member.offset_data, member.size)
                yield {"fname": member.name, "data": place, "__url__": str(path)}
            tar.members = []  # type: ignore[attr-defined]  # they would fill memory


def _label(file: IO[bytes], place: tuple[int, int]) -> str:
    offset, size = place
    file.seek(offset)
    return file.read(min(size, LONGEST_LABEL)).decode().strip()


def _split(root: Path, name: str, samples: Sequence[_Sample], paths: Sequence[Path]) -> Split:
    classes, labels = index_classes([sample.label for sample in samples])
    shards = [path.relative_to(root) for path in paths]
    longest = max((len(os.fsencode(sample.key)) for sample in samples), default=0)
    places = [("shard", np.int32), ("offset", np.int64), ("size", np.int64)]
    kind = [*places, ("key", f"S{longest + 1}")]
    items = np.array([(s.shard, s.offset, s.size, os.fsencode(s.key)) for s in samples], kind)
    times = [int(path.stat().st_mtime) for path in paths]
    return Split(
        where=f"{root} ({name})",
        classes=classes,
        items=items,
        names=[os.fsencode(f"{s.label}\0{shards[s.shard].name}/{s.key}") for s in samples],
        labels=labels,
        sizes=[s.size for s in samples],
        times=[times[s.shard] for s in samples],
        describe=lambda i: f"{shards[samples[i].shard]}: {samples[i].key}",
        name=name,
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
        with open(self.shards[item["shard"]], "rb", buffering=0) as file:  # noqa: PTH123  # speed
            file.seek(int(item["offset"]))
            return file.read(int(item["size"]))

    def __call__(self, index: int) -> Image.Image:
        """Returns an image."""
        return decode_bytes(self.contents(index))
