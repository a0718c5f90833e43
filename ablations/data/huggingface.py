"""Data sets that Hugging Face's package ``datasets`` has saved on disk (``save_to_disk``)."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.data.decoding import decode_image
from ablations.data.directory import NO_FILE
from ablations.data.extras import extra_library
from ablations.data.found import Found, Split, existing_folder, index_classes, splits_used
from ablations.data.images import DataError
from ablations.data.readers import decode_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

LABEL = "label"  # the column of labels, if none is a ClassLabel
BATCH = 1000  # rows


def find_huggingface(source: str, *, only_train: bool = False) -> Found:
    """Returns the images of a folder that ``save_to_disk`` wrote.

    Args:
        source: the folder, of a ``DatasetDict`` with train and validation (or val, or test), or of
            one ``Dataset``, which is all training images.
        only_train: whether the validation images are ignored.

    Raises:
        DataError: if the folder has no such data set, its columns are not clear, or the package
            datasets is not installed.
    """
    root = existing_folder(source, "name with --data a folder that save_to_disk wrote")
    splits = _open(str(root), _times(root))
    if "train" not in splits:
        raise DataError(f"{root} has no split train; it has {', '.join(splits)}.")
    column, label = _columns(root, splits["train"])
    names = splits_used(splits, only_train=only_train)
    parts = [_split(root, name, splits[name], column, label) for name in names]
    return Found(str(root), parts, functools.partial(RowReader, str(root), _times(root), column))


def _times(root: Path) -> int:
    """Returns the time of the last modification of the data set's files, in seconds."""
    return max((int(path.stat().st_mtime) for path in root.rglob("*.arrow")), default=0)


@functools.lru_cache(maxsize=4)
def _open(root: str, times: int) -> dict[str, Any]:  # noqa: ARG001  # other files, other entry
    """Returns the splits of a data set, once for each process."""
    datasets = extra_library("datasets", "huggingface")
    try:
        loaded = datasets.load_from_disk(root)
    except Exception as error:  # of pyarrow and others, for damaged files
        raise DataError(
            f"{root} is not a folder that save_to_disk of datasets wrote, or it is damaged: {error}"
        ) from error
    splits = dict(loaded) if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    return {name: _undecoded(split) for name, split in splits.items()}


def _undecoded(split: Any) -> Any:
    """Returns a split whose images come as the bytes of their files."""
    datasets = extra_library("datasets", "huggingface")
    for name, feature in split.features.items():
        if isinstance(feature, datasets.Image):
            split = split.cast_column(name, datasets.Image(decode=False))
    return split


def _columns(root: Path, split: Any) -> tuple[str, str]:
    """Returns the names of the columns of images and of labels."""
    datasets = extra_library("datasets", "huggingface")
    features = split.features
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [n for n, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    labels = labels or [name for name in features if name == LABEL]
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    has = f"{', '.join(images) or 'no images'} and {', '.join(labels) or 'no labels'}"
    raise DataError(
        f"{root} must have one column of images and one of labels (a ClassLabel, or the column "
        f"{LABEL}); it has {has}. Remove the other columns with remove_columns, and save the data "
        "set again."
    )


def _split(root: Path, name: str, split: Any, column: str, label: str) -> Split:
    values = list(split[label][:])
    where = f"{root} ({name})"
    names = getattr(split.features[label], "names", None)
    if wrong := [i for i, value in enumerate(values) if value is None or (names and value < 0)]:
        raise DataError(f"{where}: {len(wrong)} rows have no label; the first is row {wrong[0]}.")
    if names:
        classes, labels = names, np.array(values, np.int64)
    else:
        classes, labels = index_classes([str(value) for value in values])
    sizes = [size for batch in split.select_columns(column).with_format("arrow").iter(BATCH)
             for size in _sizes(batch, column)]  # fmt: skip
    return Split(
        where=where,
        classes=classes,
        items=np.array([(name.encode(), row) for row in range(len(values))],
                       [("split", f"S{len(name.encode())}"), ("row", np.int64)]),
        names=[f"{classes[i]}\0{row}".encode() for row, i in enumerate(labels)],
        labels=labels,
        sizes=sizes,
        times=[_times(root)] * len(values),
        describe=lambda i: f"row {i}",
        name=name,
    )  # fmt: skip


def _sizes(batch: Any, column: str) -> list[int]:
    """Returns the bytes of each image of an Arrow table: in it, or of its file."""
    compute = extra_library("pyarrow.compute", "huggingface")
    sizes: list[int] = []
    for chunk in batch.column(column).chunks:
        inside = compute.binary_length(chunk.field("bytes")).to_pylist()
        for size, path in zip(inside, chunk.field("path").to_pylist(), strict=True):
            sizes.append(_size_of(path) if size is None else size)
    return sizes


def _size_of(path: str | None) -> int:
    try:
        return os.stat(path or "").st_size  # noqa: PTH116  # an empty Path is the current folder
    except OSError:
        return NO_FILE


@dataclasses.dataclass(frozen=True)
class RowReader:
    """Reads images from the rows of a saved data set; raises the errors of Pillow.

    Attributes:
        root: the folder of the data set.
        times: the time of its last modification.
        column: of the images.
        items: (N,), each with ``split`` and ``row``.
    """

    root: str
    times: int
    column: str
    items: NDArray[Any]

    def __len__(self) -> int:
        return len(self.items)

    def path(self, index: int) -> str:
        """Returns the split and the row of an image."""
        return (
            f"{self.root} ({self.items[index]['split'].decode()}), row {self.items[index]['row']}"
        )

    def _value(self, index: int) -> dict[str, Any]:
        split, row = self.items[index]
        value = _open(self.root, self.times)[split.decode()][int(row)][self.column]
        if value is None:
            raise ValueError("the row has no image")
        return value  # type: ignore[no-any-return]

    def contents(self, index: int) -> bytes:
        """Returns the content of the image's file."""
        value = self._value(index)
        return value["bytes"] or Path(value["path"]).read_bytes()

    def __call__(self, index: int) -> Image.Image:
        """Returns an image."""
        value = self._value(index)
        return decode_bytes(value["bytes"]) if value["bytes"] else decode_image(value["path"])
