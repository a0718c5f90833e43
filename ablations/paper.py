"""The published tables, from ``results/paper``: numbers to compare with, never results of ours.

Nothing else reads that folder. The CSV files hold only what was printed; which section a step
belongs to, what it is called and what it builds on come from :mod:`modernize.steps`.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modernize.errors import RoadmapError
from modernize.steps import REGIMES, STEPS, until

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path(__file__).parent.parent / "results" / "paper"

TABLES: Mapping[str, str] = {"resnet50": "table10_resnet50", "resnet200": "table11_resnet200"}
"""Regime -> the table that the paper has of it, as a file name without its suffix."""

THROUGHPUT_TABLE = "table12_a100_throughput"
MODEL_TABLES = (
    "table1_v100_throughput",
    "table2_isotropic",
    "table8_robustness",
    THROUGHPUT_TABLE,
)
"""The tables of whole models, as file names without their suffix."""

UNITS: Mapping[str, int] = {"params_m": 10**6, "gflops": 10**9}
"""Column of what a model costs -> how many parameters or FLOPs are 1 there."""

REFERENCE_STEP = "swin"
SEEDS = 3
"""How many seeds a mean with a deviation is over; a row without one is one run."""
PRINTED_UNIT = 0.01
"""The last printed digit of accuracies and their deviations, in percentage points."""

_COLUMNS = ("step", "label", "top1", "top1_std", "gflops")
_MISPRINT_COLUMNS = ("table", "step", "column", "printed", "reason")
_PRETRAINING_COLUMNS = ("pretraining", "data")  # as Tables 1 and 8 call it
_TOP1_COLUMNS = {"top1": "1K", "clean": "1K", "in1k_top1": "1K", "in22k_top1": "22K"}
"""Column of an accuracy -> the data it was trained on first, unless a column of its own says it."""
_IMAGE_SIZE = 224  # of a table without a column for it


class PaperError(RoadmapError):
    """A published table is missing or is not as it was committed."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """The model that a roadmap is measured against.

    Attributes:
        label: its name.
        top1: accuracy in percent.
        gflops: multiply-accumulates of one image, in units of 1e9.
    """

    label: str
    top1: float
    gflops: float


@dataclasses.dataclass(frozen=True)
class Cell:
    """One published figure of what a whole model costs.

    Attributes:
        model: its name in the table.
        image_size: height and width in pixels.
        column: ``"params_m"`` or ``"gflops"``.
        printed: the figure exactly as printed.
        table: the table's number.
        pretraining: the data that the row's model was pre-trained on, where the table says so.
        misprint: whether the cell is taken for a misprint.
    """

    model: str
    image_size: int
    column: str
    printed: str
    table: str
    pretraining: str = ""
    misprint: bool = False


@dataclasses.dataclass(frozen=True)
class Top1:
    """One published accuracy of a network on ImageNet's validation images.

    Attributes:
        printed: percent, exactly as printed.
        table: the table's number.
        pretraining: ``"1K"`` or ``"22K"``: the ImageNet that it was trained on first.
    """

    printed: str
    table: str
    pretraining: str


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What Table 12 prints of a model at one image size.

    Attributes:
        images_per_second: inference on an A100, in TF32 and channels-last.
        top1: accuracy in percent, pre-trained on nothing but ImageNet-1K; None where not printed.
    """

    images_per_second: float
    top1: float | None


def published(regime: str) -> pd.DataFrame | None:
    """Returns the paper's roadmap in the format of a summary, one row a step.

    Columns: ``step``, ``label``, ``n`` (seeds), ``top1`` and ``top1_std`` (percent; no deviation
    is NaN), ``gflops`` (1e9 multiply-accumulates), ``status``, ``section``, ``adopted``, ``parent``
    (empty for the first).

    Returns:
        None for a regime that the paper does not have.

    Raises:
        PaperError: for a file that is missing or malformed.
    """
    if regime not in TABLES:
        return None
    import pandas as pd

    cells = _table(regime)
    rows = []
    for variant in until(STEPS[-1].key, regime):
        row = cells[variant.key]
        deviation = _number(row, "top1_std", TABLES[regime]) if row["top1_std"] else math.nan
        rows.append(
            {
                "step": variant.key,
                "label": variant.title,
                "n": 1 if math.isnan(deviation) else SEEDS,
                "top1": _number(row, "top1", TABLES[regime]),
                "top1_std": deviation,
                "gflops": _number(row, "gflops", TABLES[regime]),
                "status": "finished",
                "section": variant.section,
                "adopted": variant.adopted,
                "parent": variant.parent or "",
            }
        )
    return pd.DataFrame(rows)


def reference(regime: str) -> Reference | None:
    """Returns the Transformer that the paper sets beside a regime; None where it has none.

    Raises:
        PaperError: for a file that is missing or malformed.
    """
    if regime not in TABLES:
        return None
    row, name = _table(regime)[REFERENCE_STEP], TABLES[regime]
    return Reference(row["label"], _number(row, "top1", name), _number(row, "gflops", name))


def printed_gflops(regime: str) -> dict[str, str]:
    """Returns step -> the GFLOPs cell exactly as printed ("4.10"); empty without a table.

    Raises:
        PaperError: for a file that is missing or malformed.
    """
    if regime not in TABLES:
        return {}
    cells = _table(regime)
    return {step.key: cells[step.key]["gflops"] for step in STEPS}


def misprints(regime: str) -> dict[str, str]:
    """Returns step -> why its GFLOPs cell is taken for a misprint; empty without a table.

    Raises:
        PaperError: for a file that is missing or malformed, or a misprint that the table lacks.
    """
    if regime not in TABLES:
        return {}
    printed, found = printed_gflops(regime), {}
    for row in _read("misprints", _MISPRINT_COLUMNS):
        if (row["table"], row["column"]) != (TABLES[regime], "gflops"):
            continue
        if printed.get(row["step"]) != row["printed"]:
            raise PaperError(
                f"{FOLDER / 'misprints.csv'} gives {row['printed']!r} as the printed GFLOPs of "
                f"{row['step']!r}; {TABLES[regime]}.csv has {printed.get(row['step'])!r}."
            )
        found[row["step"]] = row["reason"]
    return found


def model_cells() -> list[Cell]:
    """Returns what the paper prints of whole models: the tables of models, the ends of the roads.

    Raises:
        PaperError: for a file that is missing or malformed.
    """
    cells = []
    for name in MODEL_TABLES:
        for row in _read(name, ("model", "gflops")):
            pretraining = next((row[c] for c in _PRETRAINING_COLUMNS if c in row), "")
            sized = "image_size" in row
            size = int(_number(row, "image_size", name)) if sized else _IMAGE_SIZE
            for column in UNITS:
                if column in row:
                    _number(row, column, name)
                    cells.append(
                        Cell(row["model"], size, column, row[column], _number_of(name), pretraining)
                    )
    for regime, name in TABLES.items():
        table, road, wrong = _table(regime), REGIMES[regime], misprints(regime)
        ends = {
            STEPS[0].key: road.start,
            STEPS[-1].key: road.end,
            REFERENCE_STEP: table[REFERENCE_STEP]["label"],
        }
        for step, model in ends.items():
            _number(table[step], "gflops", name)
            cells.append(
                Cell(
                    model,
                    road.image_size,
                    "gflops",
                    table[step]["gflops"],
                    _number_of(name),
                    misprint=step in wrong,
                )
            )
    return cells


def printed_top1(model: str, image_size: int) -> list[Top1]:
    """Returns every accuracy that the tables of models print of a network; none if it is in none.

    Args:
        model: its name there.
        image_size: height and width in pixels of the evaluation.

    Raises:
        PaperError: for a file that is missing or malformed.
    """
    found = []
    for name in MODEL_TABLES:
        for row in _read(name, ("model",)):
            if row["model"] != model or int(row.get("image_size", _IMAGE_SIZE)) != image_size:
                continue
            stated = next((row[c] for c in _PRETRAINING_COLUMNS if c in row), None)
            found += [
                Top1(row[column], _number_of(name), stated or pretraining)
                for column, pretraining in _TOP1_COLUMNS.items()
                if row.get(column)
            ]
    return found


def printed_top1_of_step(step: str, regime: str) -> Top1 | None:
    """Returns the accuracy that the roadmap's table prints of a step; None where there is no table.

    Raises:
        PaperError: for a file that is missing or malformed.
    """
    if regime not in TABLES:
        return None
    return Top1(_table(regime)[step]["top1"], _number_of(TABLES[regime]), "1K")


def throughputs() -> dict[tuple[str, int], Throughput]:
    """Returns (model, image size in pixels) -> its row of Table 12.

    Raises:
        PaperError: for a file that is missing or malformed.
    """
    name = THROUGHPUT_TABLE
    rows = {}
    for row in _read(name, ("model", "image_size", "images_per_second", "in1k_top1")):
        rows[row["model"], int(_number(row, "image_size", name))] = Throughput(
            _number(row, "images_per_second", name),
            _number(row, "in1k_top1", name) if row["in1k_top1"] else None,
        )
    return rows


def _number_of(name: str) -> str:
    """Returns a table's number, which its file name begins with."""
    return name.partition("_")[0].removeprefix("table")


def _table(regime: str) -> dict[str, dict[str, str]]:
    """Returns step -> its cells as text, having checked that every step is there once."""
    rows = _read(TABLES[regime], _COLUMNS)
    expected = [*(step.key for step in STEPS), REFERENCE_STEP]
    found = [row["step"] for row in rows]
    if sorted(found) != sorted(expected):
        faults = [f"{key!r} is missing" for key in expected if key not in found]
        faults += [f"{key!r} is unknown" for key in found if key not in expected]
        faults += [f"{key!r} stands twice" for key in sorted(set(found)) if found.count(key) > 1]
        raise PaperError(f"{FOLDER / TABLES[regime]}.csv: {'; '.join(faults)}.")
    return {row["step"]: row for row in rows}


def _read(name: str, columns: Iterable[str]) -> list[dict[str, str]]:
    """Returns the rows of a CSV file of the folder; every cell is text."""
    path = FOLDER / f"{name}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PaperError(
            f"cannot read the published table {path} ({error}); restore it from the repository."
        ) from error
    missing = [c for c in columns if not rows or c not in rows[0]]
    if missing:
        raise PaperError(f"{path} lacks the columns {', '.join(missing)}, or has no rows.")
    if any(None in row or None in row.values() for row in rows):
        raise PaperError(f"{path} has a row with more or fewer cells than its first line.")
    return rows


def _number(row: Mapping[str, str], column: str, name: str) -> float:
    """Returns a cell of a file as a finite number; the file's first column says which row it is."""
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        key, which = next(iter(row.items()))
        raise PaperError(
            f"{FOLDER / name}.csv, {key} {which!r}: {column} is {row[column]!r}, not a number."
        )
    return value
