"""What the chart shows: a summary read into rows, with the text of every cell.

Nothing here knows of the page: :mod:`ablations.charts.layout` finds the places and
:mod:`ablations.charts.chart` draws.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablations.units import Unit, choose_unit, decimals
from modernize.errors import UnknownNameError, UsageError
from modernize.text import plural

if TYPE_CHECKING:
    import pandas as pd

    from ablations.paper import Reference

COLUMNS = (
    *("step", "label", "n", "top1", "top1_std", "gflops"),
    *("status", "section", "adopted", "parent"),
)
"""What a table must have; further columns are ignored.

``n`` is how many seeds finished, ``top1`` their mean and ``top1_std`` their sample deviation in
percent (NaN: none), ``gflops`` in 1e9 multiply-accumulates, ``parent`` the step that one builds on
(empty: none), ``adopted`` False for a side branch. A change is measured from the parent, or where
there is a column ``against`` from the step that it names.
"""

DRAWN = ("finished", "partial")
"""The statuses with an accuracy to compare, which is drawn as a bar."""

WRITTEN = ("missing", "running", "failed", "diverged", "collapsed")
"""All other statuses; they are written out in place of a bar."""

MINUS = "\N{MINUS SIGN}"
NO_COST = "\N{EN DASH}"
ELSEWHERE = "\N{DAGGER}"
"""Marks a change from another step than that of the row above."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a summary; its texts are empty where there is nothing to show.

    Attributes:
        series: the table that it is of, "main" or "second".
        step: its key.
        label: its name.
        section: the name of its section.
        adopted: False for a side branch.
        against: the key of the step that its change is measured from.
        status: one of :data:`DRAWN` and :data:`WRITTEN`.
        n: how many seeds finished.
        top1: accuracy in percent, whether or not it can be compared.
        std: the deviation of the accuracy that its bar shows.
        cost: its GFLOPs or MFLOPs.
        note: a footnote to its cost.
        change: the change of accuracy from that step, in percentage points.
        base: that step's name, where there is a change.
        elsewhere: whether that step is another than that of the row above.
    """

    series: str
    step: str
    label: str
    section: str
    adopted: bool
    against: str
    status: str
    n: int
    top1: float | None
    std: float | None
    cost: str
    note: str
    change: str = ""
    base: str = ""
    elsewhere: bool = False

    @property
    def bar(self) -> float | None:
        """The accuracy in percent, where it is one to compare."""
        return self.top1 if self.status in DRAWN else None

    @property
    def ends(self) -> tuple[float, ...]:
        """The accuracies between which its whisker lies; none without a bar."""
        return () if self.bar is None else (self.bar - (self.std or 0), self.bar + (self.std or 0))

    @property
    def accuracy(self) -> str:
        """The accuracy as a cell."""
        return "" if self.bar is None else f"{self.bar:.2f}"

    @property
    def deviation(self) -> str:
        """The deviation as a cell."""
        return "" if self.std is None else f"± {self.std:.2f}"

    @property
    def word(self) -> str:
        """Says what became of it, where its bar does not."""
        if self.status in DRAWN and self.top1 is None:
            return f"{self.status}, no accuracy recorded"
        if self.status == "partial":
            return f"partial, {plural(self.n, 'seed')}"
        if self.status in ("collapsed", "diverged") and self.top1 is not None:
            return f"{self.status} at {self.top1:.1f} %"
        return "" if self.status == "finished" else self.status


@dataclasses.dataclass(frozen=True)
class Line:
    """One step of the chart: a row of the main table, and of the second where it has the step."""

    main: Row
    second: Row | None

    @property
    def rows(self) -> list[Row]:
        """The rows that there are."""
        return [self.main] if self.second is None else [self.main, self.second]


def unit_of(*tables: pd.DataFrame) -> Unit:
    """Returns the unit in which the costs of some tables are shown, the same for all of them."""
    costs = [_number(cost) or 0.0 for table in tables for cost in table.get("gflops", ())]
    return choose_unit(cost * 1e9 for cost in costs)


def read(table: pd.DataFrame, series: str, notes: Mapping[str, str], unit: Unit) -> list[Row]:
    """Reads a summary.

    Args:
        table: has the :data:`COLUMNS`.
        series: what to call it in its rows.
        notes: step -> a footnote to its cost.
        unit: of the costs.

    Raises:
        UsageError: for a table without rows, without a column, or with a step twice.
        UnknownNameError: for an unknown status.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise UsageError(
            f"cannot draw a table without the column{'s' * (len(missing) > 1)} "
            f"{', '.join(missing)}. It needs: {', '.join(COLUMNS)}."
        )
    if not len(table):
        raise UsageError("cannot draw a table without rows; give it at least one step.")
    records = table.to_dict("records")
    costs = [_cost(record, unit) for record in records]
    places = decimals(costs)
    texts = [NO_COST if cost is None else f"{cost:.{places}f}" for cost in costs]
    rows = [_row(r, series, notes, text) for r, text in zip(records, texts, strict=True)]
    steps = [row.step for row in rows]
    twice = sorted({step for step in steps if steps.count(step) > 1})
    if twice:
        raise UsageError(f"cannot draw a step twice: {', '.join(twice)}; give each its own key.")
    for row in rows:
        if row.status not in (*DRAWN, *WRITTEN):
            raise UnknownNameError("status", row.status, (*DRAWN, *WRITTEN))
    by_step = {row.step: row for row in rows}
    before = ["", *steps]
    return [_with_change(r, by_step.get(r.against), above=before[i]) for i, r in enumerate(rows)]


def _with_change(row: Row, base: Row | None, above: str) -> Row:
    change = _change(row.bar, base.bar if base else None)
    if base is None or not change:
        return row
    return dataclasses.replace(row, change=change, base=base.label, elsewhere=base.step != above)


def pair(main: Sequence[Row], second: Sequence[Row]) -> list[Line]:
    """Matches two tables by step; a step that only the second has is missing in the first."""
    ours, theirs = ({row.step: row for row in rows} for rows in (main, second))
    order, place = list(ours), 0
    for step in theirs:
        if step not in ours:
            order.insert(place, step)
        place = order.index(step) + 1
    return [Line(ours.get(step) or _absent(theirs[step]), theirs.get(step)) for step in order]


def describe_seeds(rows: Iterable[Row]) -> tuple[str, bool]:
    """Returns what may be said of the seeds, and whether each row has to state its own number."""
    bars = [row for row in rows if row.bar is not None]
    several = sorted({row.n for row in bars if row.n > 1})
    if not bars:
        return "", False
    if not several:
        return "one seed per bar", False
    spread = all(row.std is not None for row in bars if row.n > 1)
    mean = "mean ± one deviation" if spread else "mean"
    if len(several) > 1 or not spread:
        return f"{mean} over n seeds", True
    single = "; without ±: one seed" if any(row.n <= 1 for row in bars) else ""
    return f"{mean} over {several[0]} seeds{single}", False


def describe_reference(reference: Reference) -> str:
    """Returns a reference as the text beside its line."""
    gflops = f"{reference.gflops:.{decimals([reference.gflops])}f}"
    return f"{reference.label}  {reference.top1:.2f} %, {gflops} G"


@dataclasses.dataclass(frozen=True)
class Scale:
    """The accuracy axis, in percent."""

    low: float
    high: float
    tick: float


def choose_scale(rows: Iterable[Row], references: Iterable[Reference]) -> Scale:
    """Chooses an axis from the bars and the references alone; from 0 unless that hides the rest."""
    ends = [end for row in rows for end in row.ends]
    if not ends:
        return Scale(0.0, 100.0, 20.0)
    ends += [reference.top1 for reference in references]
    span = max(max(ends) - min(ends), 1.0)
    tick = next((t for t in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if span * 1.2 / t <= 9), 50.0)
    low = tick * math.floor((min(ends) - 0.12 * span) / tick)
    high = max(ends) + 0.04 * span
    if low < 0.4 * high:
        low = 0.0
    return Scale(low, min(high, 100.0), tick)


def _row(record: Mapping[Any, Any], series: str, notes: Mapping[str, str], cost: str) -> Row:
    step, status = str(record["step"]), str(record["status"])
    top1 = _number(record["top1"])
    return Row(
        series=series,
        step=step,
        label=_text(record["label"]) or step,
        section=_text(record["section"]),
        adopted=bool(record["adopted"]),
        against=_text(record.get("against", record["parent"])),
        status=status,
        n=int(_number(record["n"]) or 0),
        top1=top1,
        std=_number(record["top1_std"]) if status in DRAWN and top1 is not None else None,
        cost=cost,
        note="" if cost == NO_COST else notes.get(step, ""),
    )


def _cost(record: Mapping[Any, Any], unit: Unit) -> float | None:
    gflops = _number(record["gflops"])
    return None if gflops is None else gflops * (1e9 / unit.flops)


def _absent(row: Row) -> Row:
    """Returns what stands in the main table for a step that only the second has."""
    gone: dict[str, Any] = {"n": 0, "top1": None, "std": None, "cost": NO_COST}
    gone |= {"change": "", "base": "", "elsewhere": False}
    return dataclasses.replace(row, series="main", status="missing", **gone)


def _text(value: Any) -> str:
    """Returns a cell as one line of text; None and NaN are empty."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """Returns a cell as a number; None, NaN and infinity are None."""
    number = math.nan if value is None or value != value else float(value)
    return number if math.isfinite(number) else None


def _change(value: float | None, before: float | None) -> str:
    """Returns a difference with two decimals and its sign; 0 has none."""
    if value is None or before is None:
        return ""
    text = f"{value - before:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)
