"""The published figures, each exactly as printed: numbers to compare with, never results of ours.

``paper_tables/values.csv`` has one row for each figure. Titles, sections and parents of steps come
from :mod:`modernize.steps`.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modernize.errors import RoadmapError, UnknownNameError
from modernize.steps import REGIMES, STEPS, until

if TYPE_CHECKING:
    import pandas as pd

FILE = Path(__file__).parent / "paper_tables" / "values.csv"
TABLES: Mapping[str, str] = {"resnet50": "10", "resnet200": "11"}
"""Regime -> the table of its roadmap."""
SEEDS = 3
"""The number of seeds of a mean with a standard deviation; a mean without one is a single run."""
PRINTED_UNIT = 0.01
"""The last printed digit of a roadmap's accuracies, in percentage points."""


class PaperError(RoadmapError):
    """The file of published figures is missing or damaged."""


@dataclasses.dataclass(frozen=True)
class PrintedValue:
    """One published figure and its place in the paper; a field that does not apply is empty.

    Attributes:
        table: the table's number, or ``"coco"`` or ``"ade20k"``.
        model: the row's name, as printed.
        step: the step, if the row is one of a roadmap.
        method: the detector or segmenter that the model is a backbone of.
        pretraining: ``"1K"`` or ``"22K"``, the ImageNet of the first training.
        image_size: height and width in pixels, such as ``"224"`` or ``"1280x800"``.
        dataset: of an accuracy or error.
        metric: ``"top1"``, ``"params"``, ``"flops"`` (MACs), ...
        printed: the figure, as printed.
        unit: of the figure: ``"%"``, ``"M"``, ``"G"``, ...
        misprint: why the figure is probably a misprint.
    """

    table: str
    model: str
    step: str
    method: str
    pretraining: str
    image_size: str
    dataset: str
    metric: str
    printed: str
    unit: str
    misprint: str

    @property
    def number(self) -> float:
        """The figure as a number, in its unit."""
        return float(self.printed)


@dataclasses.dataclass(frozen=True)
class Reference:
    """The Transformer beside a roadmap: its name, top-1 in percent and 1e9 MACs of one image."""

    label: str
    top1: float
    gflops: float


def select(**fields: str) -> list[PrintedValue]:
    """Returns the published figures that have these fields, in the order of the tables.

    Raises:
        PaperError: if the file is missing or damaged.
    """
    try:
        with FILE.open(encoding="utf-8", newline="") as file:
            values = [PrintedValue(**row) for row in csv.DictReader(file, strict=True)]
        if bad := [v for v in values if not math.isfinite(v.number)]:
            raise ValueError(f"{bad[0].printed} is not finite")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise PaperError(
            f"cannot read the published figures in {FILE} ({error}); restore the file, or install "
            "the package again."
        ) from error
    return [v for v in values if all(getattr(v, name) == fields[name] for name in fields)]


def published(regime: str = "resnet50") -> pd.DataFrame:
    """Returns the paper's roadmap in the format of a summary, one row for each published step.

    Columns: ``step``, ``label``, ``n`` (seeds), ``top1`` and ``top1_std`` (percent; NaN if there
    is no standard deviation), ``flops`` (MACs of one image), ``status``, ``section``, ``adopted``,
    ``parent`` (the nearest published one; empty for the first step).

    Raises:
        UnknownNameError: for a regime that is not in the paper.
    """
    if regime not in TABLES:
        raise UnknownNameError("published regime", regime, TABLES)
    import pandas as pd

    cells = _roadmap(regime)
    nearest: dict[str, str] = {}  # step -> itself if it is published, or else its nearest parent
    rows = []
    for variant in until(STEPS[-1].key, regime):
        parent = nearest.get(variant.parent or "", "")
        nearest[variant.key] = variant.key if variant.key in cells else parent
        if row := cells.get(variant.key):
            rows.append(
                {
                    "step": variant.key,
                    "label": variant.title,
                    "n": SEEDS if "top1_std" in row else 1,
                    "top1": row["top1"],
                    "top1_std": row.get("top1_std", math.nan),
                    "flops": round(row["flops"] * 1e9),
                    "status": "finished",
                    "section": variant.section,
                    "adopted": variant.adopted,
                    "parent": parent,
                }
            )
    return pd.DataFrame(rows)


def reference(regime: str) -> Reference | None:
    """Returns the Transformer that the paper compares a regime with; None without a table."""
    for value in select(table=TABLES.get(regime, ""), step="", metric="top1"):
        return Reference(value.model, value.number, _roadmap(regime)[""]["flops"])
    return None


def printed_flops(regime: str) -> dict[str, PrintedValue]:
    """Returns step -> its published FLOPs; steps without any are missing."""
    found = select(table=TABLES.get(regime, ""), metric="flops")
    return {value.step: value for value in found if value.step}


def misprints(regime: str) -> dict[str, str]:
    """Returns step -> why its published FLOPs are probably a misprint."""
    return {step: v.misprint for step, v in printed_flops(regime).items() if v.misprint}


def printed_costs() -> list[PrintedValue]:
    """Returns the published parameters and FLOPs of classifiers, also of both ends of the roads."""
    values = [v for v in select(method="") if v.metric in ("params", "flops")]
    costs = [v for v in values if v.table not in TABLES.values()]
    for regime, table in TABLES.items():
        road, other = list(printed_flops(regime).values()), select(table=table, metric="flops")
        costs += [
            dataclasses.replace(road[0], model=REGIMES[regime].start),
            dataclasses.replace(road[-1], model=REGIMES[regime].end),
            *(v for v in other if not v.step),
        ]
    return costs


def _roadmap(regime: str) -> dict[str, dict[str, float]]:
    """Returns step -> metric -> number of a regime's table; the step of the reference is empty."""
    rows: dict[str, dict[str, float]] = {}
    for value in select(table=TABLES[regime]):
        rows.setdefault(value.step, {})[value.metric] = value.number
    return rows
