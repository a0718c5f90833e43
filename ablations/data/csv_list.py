"""CSV files of the paths and labels of images: listed, not read. Does not import torch."""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ablations.data.directory import stat_files
from ablations.data.found import VALIDATION, Found, Split, index_classes, splits_used
from ablations.data.images import DataError, MissingImagesError
from ablations.data.readers import FileReader
from ablations.paths import expand
from modernize.text import few, plural

COLUMNS = ("path", "label")  # and "split", in a file for training and validation

_EXPECTED = (
    "name with --data a CSV file with the columns path, label and, for validation images, split; "
    "or a folder with train.csv and val.csv. Paths are relative to the folder of the file"
)


class _Row(NamedTuple):
    """A line of a CSV file."""

    file: Path
    line: int
    split: str
    path: str
    label: str

    def place(self) -> str:
        return f"{self.path}, line {self.line}"


def find_csv(source: str, *, only_train: bool = False) -> Found:
    """Returns the images that CSV files list.

    Args:
        source: a file with the columns path, label and perhaps split (train, or val, validation or
            test); or a folder with ``train.csv`` and ``val.csv`` (or ``validation.csv``, or
            ``test.csv``).
        only_train: whether the validation images are ignored.

    Raises:
        DataError: for a missing or damaged file.
    """
    given = Path(expand(source))
    if given.is_dir():
        root, files = given, [(given / "train.csv", "train")]
        files += [(given / f"{name}.csv", name) for name in VALIDATION]
        files = [(path, name) for path, name in files if path.is_file()]
    else:
        root, files = given.parent, [(given, "train")] if given.is_file() else []
    if not files or files[0][1] != "train":
        raise MissingImagesError(f"there is no CSV file {given}; {_EXPECTED}.")
    faults: list[str] = []
    rows = [row for path, split in files for row in _read(path, split, faults)]
    faults += _repeated(rows)
    names = splits_used({row.split for row in rows}, only_train=only_train)
    splits = [_list(root, [row for row in rows if row.split == n], given, n) for n in names]
    if not len(splits[0].items):
        faults.append(f"{given} lists no training images")
    return Found(str(given), splits, functools.partial(FileReader, root), faults)


def _read(path: Path, split: str, faults: list[str]) -> list[_Row]:
    """Returns the lines of a file; ``split`` is that of lines without the column."""
    rows, wrong = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            if missing := [name for name in COLUMNS if name not in header]:
                raise DataError(
                    f"{path} has no column {' and no column '.join(missing)}; its first line is "
                    f"{','.join(header)!r}. The first line must be path,label or path,label,split."
                )
            for values in reader:
                line, named = reader.line_num, values.get("split", split)
                if not values["path"] or not values["label"]:
                    wrong.append(f"line {line} has no {'label' if values['path'] else 'path'}")
                elif named not in ("train", *VALIDATION):
                    wrong.append(f"line {line} has the split {named!r}")
                else:
                    rows.append(_Row(path, line, str(named), values["path"], values["label"]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV in UTF-8: {error}.") from error
    if wrong:
        faults.append(
            f"{path}: {few(wrong)}. Every line needs a path and a label; splits are train, "
            f"{', '.join(VALIDATION)}"
        )
    return rows


def _repeated(rows: Sequence[_Row]) -> list[str]:
    first: dict[str, _Row] = {}
    repeated = [
        f"{row.place()} (first {seen.file.name}, line {seen.line})"
        for row in rows
        if (seen := first.setdefault(row.path, row)) is not row
    ]
    return [f"{plural(len(repeated), 'image')} listed twice: {few(repeated)}"] if repeated else []


def _list(root: Path, rows: Sequence[_Row], given: Path, name: str) -> Split:
    files = stat_files(root, [row.path for row in rows])
    classes, labels = index_classes([row.label for row in rows])
    return Split(
        where=str(rows[0].file if rows else given),
        classes=classes,
        items=np.array([file.path for file in files], np.bytes_),
        names=[f"{row.label}\0{row.path}".encode() for row in rows],
        labels=labels,
        sizes=[file.size for file in files],
        times=[file.time for file in files],
        describe=lambda i: rows[i].place(),
        name=name,
    )
