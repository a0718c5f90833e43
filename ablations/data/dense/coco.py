"""COCO's layout: a folder of images and a JSON file of annotations for each split. No torch.

Annotations are kept in a few arrays, because worker processes get copies. Those that cannot be
used for training are left out there, and a note counts them; the metric gets all of them.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import marshal
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablations.data.decoding import explain
from ablations.data.dense import image_files
from ablations.data.dense.shapes import CORNERS, check_shape, decode_shape, valid_shape
from ablations.data.dense.splits import DenseImages, Objects
from ablations.data.directory import File, stat_files
from ablations.data.found import existing_folder
from ablations.data.images import DataError
from modernize.text import few, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST = 32  # pixels of the shorter side of a training image
EXPECTED = (
    "the folder must have annotations/instances_train2017.json and instances_val2017.json, with "
    "the images in train2017 and val2017, or another text in place of 2017"
)


class _Place(NamedTuple):
    """Where the images and annotations of a split are, relative to the data set's folder.

    Attributes:
        images: the folder.
        annotations: the JSON file.
    """

    images: str
    annotations: str


@dataclasses.dataclass(frozen=True)
class _Annotations:
    """All annotations of a split, in the order of the images.

    Attributes:
        boxes: float64 (M, 4), x y width height.
        labels: int64 (M,), from 0.
        areas: float64 (M,), in pixels, as the file has them.
        crowd: bool (M,).
        usable: bool (M,), for training.
        shapes: all polygons and run lengths, packed one after the other, uint8.
        ends: int64 (M + 1,), where each ends in ``shapes``, after a first 0.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    usable: NDArray[np.bool_]
    shapes: NDArray[np.uint8]
    ends: NDArray[np.int64]

    def shape(self, number: int) -> Any:
        """Returns polygons without those of less than three corners, or run lengths."""
        packed = self.shapes[self.ends[number] : self.ends[number + 1]]
        return valid_shape(marshal.loads(packed.tobytes()))  # noqa: S302  # this process packed it


@dataclasses.dataclass(frozen=True)
class CocoSplit:
    """The images of a split.

    Attributes:
        folder: of the images.
        names: bytes (N,), of their files.
        ids: int64 (N,), in the JSON file.
        sizes: int64 (N, 2), heights and widths.
        first: int64 (N,), number of each image's first annotation.
        counts: int64 (N,), of each image's annotations.
        annotations: of all images.
        classes: the names.
    """

    folder: Path
    names: NDArray[np.bytes_]
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]
    counts: NDArray[np.int64]
    annotations: _Annotations
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> str:
        """Returns the path of an image."""
        return str(self.folder / os.fsdecode(self.names[index]))

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Returns an image (H, W, 3).

        Raises:
            ValueError: if its size is not that of the JSON file.
        """
        pixels = image_files.read_pixels(self.path(index))
        self._compare(index, pixels.shape[:2])
        return pixels

    def contents(self, index: int) -> bytes:
        """Returns the content of an image's file."""
        return Path(self.path(index)).read_bytes()

    def check(self, index: int) -> None:
        """Raises OSError or ValueError if an image's file is no image, or of another size."""
        try:
            size = image_files.image_size(Path(self.path(index)))
        except OSError as error:
            raise ValueError(f"{self._name(index)} cannot be read: {explain(error)}") from error
        self._compare(index, size)

    def _name(self, index: int) -> str:
        return f"{os.fsdecode(self.names[index])} (image {self.ids[index]})"

    def _compare(self, index: int, size: Sequence[int]) -> None:
        height, width = self.sizes[index].tolist()
        if tuple(size) != (height, width):
            raise ValueError(
                f"{self._name(index)} has {size[1]} x {size[0]} pixels, but {width} x {height} in "
                "the annotations"
            )

    def target(self, index: int) -> Objects:
        """Returns the objects of an image that can be used for training, and its crowds."""
        height, width = self.sizes[index].tolist()
        known, mine = self.annotations, self._numbers(index)
        boxes = known.boxes[mine].copy()
        boxes[:, 2:] += boxes[:, :2]
        boxes = boxes.clip(0, [width, height, width, height])
        used = known.usable[mine]
        masks = np.zeros((int(used.sum()), height, width), np.uint8)
        for mask, number in zip(masks, mine[used].tolist(), strict=True):
            mask[:] = decode_shape(known.shape(number), height, width)
        ignored = boxes[known.crowd[mine]].astype(np.float32)
        return Objects(boxes[used].astype(np.float32), known.labels[mine][used], masks, ignored)

    def _numbers(self, index: int) -> NDArray[np.int64]:
        first, count = int(self.first[index]), int(self.counts[index])
        return np.arange(first, first + count)

    def take(self, chosen: NDArray[np.int64]) -> CocoSplit:
        """Returns some of the images, by their numbers (n,)."""
        fields = ("names", "ids", "sizes", "first", "counts")
        return dataclasses.replace(self, **{name: getattr(self, name)[chosen] for name in fields})

    def truth(self) -> dict[str, Any]:
        """Returns all annotations in COCO's format, with numbers of images and labels as ids."""
        known = self.annotations
        images = [
            {"id": i, "height": height, "width": width}
            for i, (height, width) in enumerate(self.sizes.tolist())
        ]
        annotations = [
            {
                "id": number + 1,
                "image_id": i,
                "category_id": int(known.labels[number]),
                "bbox": known.boxes[number].tolist(),
                "area": float(known.areas[number]),
                "iscrowd": int(known.crowd[number]),
                "segmentation": known.shape(number)
                or {"size": self.sizes[i].tolist(), "counts": [int(self.sizes[i].prod())]},
            }
            for i in range(len(self))
            for number in self._numbers(i).tolist()
        ]
        categories = [{"id": label, "name": name} for label, name in enumerate(self.classes)]
        return {"images": images, "annotations": annotations, "categories": categories}


def find_coco(source: str) -> DenseImages[CocoSplit]:
    """Returns the images of a folder in COCO's layout; images are not read, except for some.

    Training images without usable objects, or with a side below 32 pixels, are left out.

    Raises:
        DataError: naming all faults: file, id of the image, id of the annotation.
    """
    root = existing_folder(source, EXPECTED)
    files = [_File(root, _find(root, split)) for split in ("train", "val")]
    faults = [fault for file in files for fault in file.faults]
    if files[0].categories != files[1].categories:
        faults.append(
            f"{files[1].path} has other categories than {files[0].path}; both must list the same "
            "ids and names"
        )
    if faults:
        raise DataError(". ".join(faults) + ".")
    whole, val_split = (file.split() for file in files)
    train_split = whole.take(_trainable(whole))
    if not len(train_split):
        raise DataError(f"{files[0].path} has no training images with objects.")
    if not len(val_split):
        raise DataError(f"{files[1].path} has no validation images.")
    for split in (train_split, val_split):
        faults += image_files.faults_of(len(split), split.check, str(split.folder))
    if faults:
        raise DataError(". ".join(faults) + ".")
    notes = [note for file in files for note in file.notes]
    if dropped := len(whole) - len(train_split):
        notes.append(
            f"{plural(dropped, 'training image')} of {len(whole):,} left out: no usable object, or "
            f"a side below {SMALLEST} pixels."
        )
    listed = [one for file in files for one in file.images]
    digest, times, newest = image_files.identify(listed, *(file.digest for file in files))
    return DenseImages(
        name="coco",
        source=str(root),
        train=train_split,
        val=val_split,
        classes=train_split.classes,
        digest=digest,
        times=times,
        newest=newest,
        notes=tuple(notes),
    )


def _trainable(split: CocoSplit) -> NDArray[np.int64]:
    """Returns the numbers of the images that training can use."""
    before = _ends(split.annotations.usable)  # (M + 1,) usable annotations before each
    objects = before[split.first + split.counts] - before[split.first]
    return np.flatnonzero((objects > 0) & (split.sizes.min(1) >= SMALLEST))


def _find(root: Path, split: str) -> _Place:
    """Returns the usual names of a split's files.

    Raises:
        DataError: naming the missing or the possible ones.
    """
    found = sorted(path.name for path in (root / "annotations").glob(f"instances_{split}*.json"))
    preferred = f"instances_{split}2017.json"
    if len(found) > 1 and preferred in found:
        found = [preferred]
    if len(found) != 1:
        has = f"{few(found)} are there" if found else f"no annotations/instances_{split}*.json is"
        raise DataError(f"{root}: {has}{'' if found else ' there'}; {EXPECTED}.")
    name = found[0].removeprefix("instances_").removesuffix(".json")
    folder = next((path for path in (name, f"images/{name}") if (root / path).is_dir()), None)
    if folder is None:
        raise DataError(f"{root} has no folder {name} or images/{name} of the images; {EXPECTED}.")
    return _Place(folder, f"annotations/{found[0]}")


class _File:
    """A file of annotations, read and checked.

    Attributes:
        path: of the file.
        faults: why it cannot be used.
        notes: about annotations that training leaves out.
        categories: name by id.
        digest: of its content.
        images: names, sizes and times of the image files, from the data set's folder on.
    """

    def __init__(self, root: Path, place: _Place) -> None:
        self.path, self.root, self.place = root / place.annotations, root, place
        self.faults: list[str] = []
        self.notes: list[str] = []
        content = self._read()
        self.digest = hashlib.sha256(content).digest()
        whole = self._parse(content)
        self.categories = {
            int(row["id"]): str(row["name"]) for row in self._rows(whole, "categories", _category)
        }
        self.labels = {number: label for label, number in enumerate(sorted(self.categories))}
        rows = self._rows(whole, "images", _image)
        self.sizes = {int(row["id"]): (int(row["height"]), int(row["width"])) for row in rows}
        self.names = {int(row["id"]): str(row["file_name"]) for row in rows}
        self.images: list[File] = []
        if not self.faults:
            paths = [f"{place.images}/{name}" for name in self.names.values()]
            self.images = stat_files(root, paths)
            self.faults += image_files.missing_faults(self.images, str(root))
        self.rows = self._rows(whole, "annotations", self._annotation)

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{self.path} cannot be read: {reason}; {EXPECTED}.") from error

    def _parse(self, content: bytes) -> Mapping[str, Any]:
        try:
            whole = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self.path} is no complete JSON: {error}. It may be cut off: get the file again."
            ) from error
        names = ("images", "annotations", "categories")
        if not isinstance(whole, dict) or not all(isinstance(whole.get(n), list) for n in names):
            raise DataError(
                f"{self.path} must have the lists images, annotations and categories; it may be "
                "another file of COCO's, such as that of captions."
            )
        return whole

    def _rows(self, whole: Mapping[str, Any], name: str, check: Any) -> list[Any]:
        """Returns the rows of a list that a check accepts; adds a fault for the others."""
        good, wrong, seen = [], [], set[int]()
        for position, row in enumerate(whole[name]):
            try:
                number = row["id"]
                if type(number) is not int or abs(number) >= 2**63:
                    raise ValueError(f"its id {number!r} is no integer of 64 bits")
                if number in seen:
                    raise ValueError("its id occurs twice")
                seen.add(number)
                check(row)
                good.append(row)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                reason = f"no {error}" if isinstance(error, KeyError) else str(error)
                known = isinstance(row, dict) and "id" in row
                which = f"id {row['id']}" if known else f"number {position}"
                image = f" of image {row['image_id']}" if known and "image_id" in row else ""
                wrong.append(f"{which}{image}: {reason}")
        if wrong:
            self.faults.append(f"{self.path}: wrong in {name}: {few(wrong, 3)}")
        return good

    def _annotation(self, row: Mapping[str, Any]) -> None:
        if row["image_id"] not in self.sizes:
            raise ValueError(f"there is no image {row['image_id']!r}")
        if row["category_id"] not in self.labels:
            raise ValueError(f"there is no category {row['category_id']!r}")
        box = row["bbox"]
        if len(box) != 4 or not all(map(math.isfinite, box)):
            raise ValueError(f"its bbox {box} is not four numbers")
        if not math.isfinite(row["area"]):
            raise ValueError(f"its area is {row['area']}")
        if row.get("iscrowd", 0) not in (0, 1):
            raise ValueError(f"its iscrowd is {row['iscrowd']!r}, not 0 or 1")
        check_shape(row["segmentation"], self.sizes[row["image_id"]])

    def split(self) -> CocoSplit:
        """Returns the images with their annotations; adds notes."""
        order = {number: index for index, number in enumerate(self.names)}
        rows = sorted(self.rows, key=lambda row: order[row["image_id"]])  # stable
        counts = np.zeros(len(order), np.int64)
        skipped: dict[str, list[str]] = collections.defaultdict(list)
        usable, shapes = [], []
        for row in rows:
            counts[order[row["image_id"]]] += 1
            reason = _useless(row, self.sizes[row["image_id"]])
            usable.append(not reason and not row.get("iscrowd", 0))
            if reason:
                skipped[reason].append(f"{row['id']} of image {row['image_id']}")
            shapes.append(marshal.dumps(row["segmentation"]))  # much faster than JSON
        for reason, names in skipped.items():
            self.notes.append(
                f"{self.path.name}: {plural(len(names), 'annotation')} not used for training, "
                f"{reason}: {few(names, 3)}."
            )
        annotations = _Annotations(
            boxes=np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4),
            labels=np.array([self.labels[row["category_id"]] for row in rows], np.int64),
            areas=np.array([row["area"] for row in rows], np.float64),
            crowd=np.array([row.get("iscrowd", 0) for row in rows], np.bool_),
            usable=np.array(usable, np.bool_),
            shapes=np.frombuffer(b"".join(shapes), np.uint8),
            ends=_ends([len(shape) for shape in shapes]),
        )
        return CocoSplit(
            folder=self.root / self.place.images,
            names=np.array([os.fsencode(name) for name in self.names.values()], np.bytes_),
            ids=np.array(list(self.names), np.int64),
            sizes=np.array(list(self.sizes.values()), np.int64).reshape(-1, 2),
            first=_ends(counts)[:-1],
            counts=counts,
            annotations=annotations,
            classes=tuple(self.categories[number] for number in self.labels),
        )


def _ends(lengths: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)


def _category(row: Mapping[str, Any]) -> None:
    if not isinstance(row["name"], str):
        raise ValueError(f"its name is {row['name']!r}")


def _image(row: Mapping[str, Any]) -> None:
    name = row["file_name"]
    if not isinstance(name, str) or not name or name.startswith("/") or ".." in Path(name).parts:
        raise ValueError(f"its file_name is {name!r}; a path in the folder of images is expected")
    for side in ("height", "width"):
        if type(row[side]) is not int or row[side] < 1:
            raise ValueError(f"its {side} is {row[side]!r}")


def _useless(row: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Returns why training cannot use an annotation; an empty text if it can."""
    x, y, width, height = row["bbox"]
    inside = min(x + width, size[1]) > max(x, 0) and min(y + height, size[0]) > max(y, 0)
    if row["area"] <= 0 or width < 1 or height < 1 or not inside:
        return "boxes without area"
    return "" if valid_shape(row["segmentation"]) else f"polygons of fewer than {CORNERS} points"
