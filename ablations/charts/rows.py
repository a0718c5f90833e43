"""The content of the chart: a summary as rows, with the text of every cell.

:mod:`ablations.charts.layout` places it on the page and :mod:`ablations.charts.chart` draws it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablations.analysis.baselines import baseline_of
from ablations.analysis.summary import PARTIAL
from ablations.metrics import CLASSIFICATION, Metric, metrics_in
from ablations.records import Status
from ablations.units import Unit, choose_unit, decimals, deviation, fixed, percent, signed
from modernize.errors import UnknownNameError, UsageError
from modernize.text import plural

if TYPE_CHECKING:
    import pandas as pd

    from ablations.paper import Reference


def columns(metric: Metric) -> tuple[str, ...]:
    """Returns the columns that a table must have; see :data:`COLUMNS`."""
    return (
        *("step", "label", "n", metric.key, f"{metric.key}_std", "flops"),
        *("status", "section", "adopted", "parent"),
    )


COLUMNS = columns(CLASSIFICATION.headline)
"""The columns that a table must have; others are ignored.

Instead of ``top1`` there may be the headline of another task, such as ``box_ap``.

``n`` is the number of finished seeds, ``top1`` their mean and ``top1_std`` their sample standard
deviation in percent (NaN: unknown), ``flops`` of one image in MACs, ``parent`` the step that one
builds on (empty: none), ``adopted`` False for a side branch. A change is measured from the parent,
or from the step in the column ``baseline`` if there is one.
"""

DRAWN = (str(Status.FINISHED), PARTIAL)
"""The statuses with an accuracy to compare, which is drawn as a bar."""

WRITTEN = tuple(str(status) for status in Status if status is not Status.FINISHED)
"""All other statuses, which are written as text instead of a bar."""

MINUS = "\N{MINUS SIGN}"
NO_COST = "\N{EN DASH}"
ELSEWHERE = "\N{DAGGER}"
"""Marks a change that is not from the step of the row above."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a summary; a text with nothing to show is empty.

    Attributes:
        series: its table, "main" or "second".
        step: its key.
        label: its name.
        section: the name of its section.
        adopted: False for a side branch.
        baseline: the key of the step that its change is measured from.
        status: one of :data:`DRAWN` and :data:`WRITTEN`.
        n: number of finished seeds.
        metric: that its bar shows.
        value: of the metric, also if it is not one to compare.
        std: the standard deviation of the accuracy that its bar shows.
        cost: in GFLOPs or MFLOPs.
        note: a footnote to its cost.
        change: the change of accuracy from that step, in percentage points.
        baseline_label: that step's name, if there is a change.
        elsewhere: whether that step is not the one of the row above.
    """

    series: str
    step: str
    label: str
    section: str
    adopted: bool
    baseline: str
    status: str
    n: int
    metric: Metric
    value: float | None
    std: float | None
    cost: str
    note: str
    change: str = ""
    baseline_label: str = ""
    elsewhere: bool = False

    @property
    def bar(self) -> float | None:
        """The accuracy in percent, if it is one to compare."""
        return self.value if self.status in DRAWN else None

    @property
    def extent(self) -> tuple[float, ...]:
        """The accuracies at the two ends of its whisker; none without a bar."""
        return () if self.bar is None else (self.bar - (self.std or 0), self.bar + (self.std or 0))

    @property
    def accuracy(self) -> str:
        """The accuracy as a cell."""
        return fixed(self.bar)

    @property
    def spread(self) -> str:
        """The standard deviation as a cell."""
        return deviation(self.std)

    @property
    def status_text(self) -> str:
        """The status as text, if the bar does not show it."""
        if self.status in DRAWN and self.value is None:
            return f"{self.status}, no accuracy recorded"
        if self.status == PARTIAL:
            return f"{PARTIAL}, {plural(self.n, 'seed')}"
        if self.status in (Status.COLLAPSED, Status.DIVERGED) and self.value is not None:
            return f"{self.status} at {self.metric.show(self.value, 1)}"
        return "" if self.status == Status.FINISHED else self.status


@dataclasses.dataclass(frozen=True)
class Line:
    """One step of the chart: a row of the main table, and of the second if it has the step."""

    main: Row
    second: Row | None

    @property
    def rows(self) -> list[Row]:
        """One or two rows."""
        return [self.main] if self.second is None else [self.main, self.second]


def metric_of(*tables: pd.DataFrame) -> Metric:
    """Returns the metric of the bars; without any, top-1, whose columns are then missing.

    Raises:
        UsageError: if the tables have different ones.
    """
    found = []
    for table in tables:
        with contextlib.suppress(KeyError):
            found.append(metrics_in(table.columns).headline)
    if len(set(found)) > 1:
        labels = " and ".join(metric.label for metric in found)
        raise UsageError(f"cannot draw {labels} in one chart; draw a chart of each.")
    return found[0] if found else CLASSIFICATION.headline


def unit_of(*tables: pd.DataFrame) -> Unit:
    """Returns the unit of the costs of these tables, the same for all of them."""
    return choose_unit(_number(cost) or 0.0 for table in tables for cost in table.get("flops", ()))


def read(
    table: pd.DataFrame,
    series: str,
    notes: Mapping[str, str],
    unit: Unit,
    metric: Metric,
    only: Collection[str] | None = None,
) -> list[Row]:
    """Reads a summary.

    Args:
        table: has the :func:`columns`.
        series: of its rows.
        notes: step -> a footnote to its cost.
        unit: of the costs.
        metric: that bars show.
        only: the steps to read; None: all.

    Raises:
        UsageError: for a table without rows, without a column, or with a step twice.
        UnknownNameError: for an unknown status.
    """
    needed = columns(metric)
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise UsageError(
            f"cannot draw a table without the column{'s' * (len(missing) > 1)} "
            f"{', '.join(missing)}. It needs: {', '.join(needed)}."
        )
    if not len(table):
        raise UsageError("cannot draw a table without rows; give it at least one step.")
    records = table.to_dict("records")
    costs = [_cost(record, unit) for record in records]
    places = decimals(costs)
    texts = [NO_COST if cost is None else fixed(cost, places) for cost in costs]
    rows = [_row(r, series, notes, metric, text) for r, text in zip(records, texts, strict=True)]
    steps = [row.step for row in rows]
    twice = sorted({step for step in steps if steps.count(step) > 1})
    if twice:
        raise UsageError(f"cannot draw a step twice: {', '.join(twice)}; give each its own key.")
    for row in rows:
        if row.status not in (*DRAWN, *WRITTEN):
            raise UnknownNameError("status", row.status, (*DRAWN, *WRITTEN))
    if only is not None:
        shown = [row.step for row in rows if row.step in only]
        parents = {row.step: row.baseline for row in rows}
        rows = [
            dataclasses.replace(row, baseline=baseline_of(row.step, parents, shown))
            for row in rows
            if row.step in only
        ]
    by_step = {row.step: row for row in rows}
    before = ["", *by_step]
    return [_with_change(r, by_step.get(r.baseline), above=before[i]) for i, r in enumerate(rows)]


def _with_change(row: Row, base: Row | None, above: str) -> Row:
    if base is None or row.bar is None or base.bar is None:
        return row
    change = signed(row.bar - base.bar).replace("-", MINUS)
    elsewhere = base.step != above
    return dataclasses.replace(row, change=change, baseline_label=base.label, elsewhere=elsewhere)


def pair(main: Sequence[Row], second: Sequence[Row]) -> list[Line]:
    """Matches two tables by step; a step of the second alone is missing in the first."""
    ours, theirs = ({row.step: row for row in rows} for rows in (main, second))
    order, place = list(ours), 0
    for step in theirs:
        if step not in ours:
            order.insert(place, step)
        place = order.index(step) + 1
    return [Line(ours.get(step) or _absent(theirs[step]), theirs.get(step)) for step in order]


def seeds_legend(rows: Iterable[Row]) -> tuple[str, bool]:
    """Returns the legend's text about seeds, and whether each row must show its own number."""
    bars = [row for row in rows if row.bar is not None]
    several = sorted({row.n for row in bars if row.n > 1})
    if not bars:
        return "", False
    if not several:
        return "one seed per bar", False
    spread = all(row.std is not None for row in bars if row.n > 1)
    mean = "mean ± standard deviation" if spread else "mean"
    if len(several) > 1 or not spread:
        return f"{mean} over n seeds", True
    single = "; without ±: one seed" if any(row.n <= 1 for row in bars) else ""
    return f"{mean} over {several[0]} seeds{single}", False


def reference_text(reference: Reference) -> str:
    """Returns the text beside the line of a reference."""
    gflops = fixed(reference.gflops, decimals([reference.gflops]))
    return f"{reference.label}  {percent(reference.top1)}, {gflops} G"


@dataclasses.dataclass(frozen=True)
class Scale:
    """The accuracy axis, in percent."""

    low: float
    high: float
    tick: float


def choose_scale(rows: Iterable[Row], references: Iterable[Reference], most: int = 9) -> Scale:
    """Chooses an axis for the bars and references; from 0 unless that hides the differences.

    It has about as many ticks as ``most``, or fewer.
    """
    ends = [end for row in rows for end in row.extent]
    if not ends:
        return Scale(0.0, 100.0, 20.0 if most > 5 else 50.0)
    ends += [reference.top1 for reference in references]
    span = max(max(ends) - min(ends), 1.0)
    tick = next((t for t in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if span * 1.2 / t <= most), 50.0)
    low = tick * math.floor((min(ends) - 0.12 * span) / tick)
    high = max(ends) + 0.04 * span
    if low < 0.4 * high:
        low = 0.0
    return Scale(low, min(high, 100.0), tick)


def _row(
    record: Mapping[Any, Any], series: str, notes: Mapping[str, str], metric: Metric, cost: str
) -> Row:
    step, status = str(record["step"]), str(record["status"])
    value = _number(record[metric.key])
    return Row(
        series=series,
        step=step,
        label=_text(record["label"]) or step,
        section=_text(record["section"]),
        adopted=bool(record["adopted"]),
        baseline=_text(record.get("baseline", record["parent"])),
        status=status,
        n=int(_number(record["n"]) or 0),
        metric=metric,
        value=value,
        std=_number(record[f"{metric.key}_std"]) if status in DRAWN and value is not None else None,
        cost=cost,
        note="" if cost == NO_COST else notes.get(step, ""),
    )


def _cost(record: Mapping[Any, Any], unit: Unit) -> float | None:
    flops = _number(record["flops"])
    return None if flops is None else flops / unit.flops


def _absent(row: Row) -> Row:
    """Returns the row of the main table for a step that only the second has."""
    gone: dict[str, Any] = {"n": 0, "value": None, "std": None, "cost": NO_COST}
    gone |= {"change": "", "baseline_label": "", "elsewhere": False}
    return dataclasses.replace(row, series="main", status=str(Status.MISSING), **gone)


def _text(value: Any) -> str:
    """Returns a cell as one line of text; None and NaN are empty."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    """Returns a cell as a number; None, NaN and infinity are None."""
    number = math.nan if value is None or value != value else float(value)
    return number if math.isfinite(number) else None
