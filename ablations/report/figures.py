"""The figures of a report: learning curves, accuracy against cost, a tornado chart of changes.

Each function takes numbers and returns a figure that is narrow enough for a phone.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from ablations.charts import fonts
from ablations.charts.colors import NONE, Palette
from ablations.charts.labels import Box, place_labels
from ablations.charts.layout import shorten, width, wrap
from ablations.charts.rows import MINUS
from ablations.charts.settings import ChartSettings
from ablations.metrics import CLASSIFICATION, Metric, metrics_in
from ablations.report.data import Curve, FloatArray
from ablations.units import signed

if TYPE_CHECKING:
    import pandas as pd

SIZE = 7.5  # points
PANEL_WIDTH, VALUES_HEIGHT, LOSS_HEIGHT = 1.9, 0.9, 0.45  # inches
TITLE_LINE, TITLE_LINES, TITLE_LEFT = 0.14, 3, 0.05  # a line's height; the maximum of lines
THIN_LINES = 5  # with more seeds than this, a band replaces a line for each
MOST_UNFINISHED = 10  # unfinished runs of one step that are drawn
PLOT_WIDTH = 3.8
EDGE, NARROWEST = 0.02, 0.2  # inches around everything; the smallest fraction of the width
MOST_FITS = 4
NAME_WIDTH = 1.4  # inches; longer names of points are shortened
DOT, HAIR, GAP = 0.049, 0.014, 0.035  # inches: a point's radius, half a line, up to a name

Values = Callable[[Curve], FloatArray]
VALUES: Values = operator.attrgetter("values")
LOSS: Values = operator.attrgetter("loss")


def mean_curve(
    curves: Sequence[Curve], values: Values = VALUES
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns epochs, mean and sample standard deviation (0 for one run) of the finished runs.

    Only epochs for which all of them have a value; all three are empty if no run finished.

    Args:
        curves: of the runs.
        values: :data:`VALUES` or :data:`LOSS`.
    """
    finished = [curve for curve in curves if curve.finished]
    if not finished:
        return np.empty(0), np.empty(0), np.empty(0)
    length = min(len(curve.epochs) for curve in finished)
    found = np.stack([values(curve)[:length] for curve in finished])
    spread = found.std(axis=0, ddof=1) if len(finished) > 1 else np.zeros(length)
    known = np.isfinite(found).all(axis=0)
    return finished[0].epochs[:length][known], found.mean(axis=0)[known], spread[known]


def title_lines(titles: Sequence[str], settings: ChartSettings) -> int:
    """Returns the number of lines that the longest of these titles needs."""
    return max((len(_wrapped(title, settings)) for title in titles), default=1)


@dataclasses.dataclass(frozen=True)
class Limits:
    """The axes of learning curves.

    Attributes:
        values, loss: lowest and highest value.
        last: the last epoch.
    """

    values: tuple[float, float]
    loss: tuple[float, float]
    last: float


def curves_limits(curves: Sequence[Curve]) -> Limits:
    """Returns axes for all of these curves, of which there must be one or more."""
    return Limits(
        values=_limits(np.concatenate([curve.values for curve in curves]), 0.5, 100.0),
        loss=_limits(np.concatenate([curve.loss for curve in curves]), 0.01, math.inf),
        last=float(max(curve.epochs[-1] for curve in curves)),
    )


def _limits(values: FloatArray, least: float, most: float) -> tuple[float, float]:
    """Returns an axis around the values, with ``least`` room or more, between 0 and ``most``."""
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, min(most, 1.0))
    pad = max(0.05 * (high - low), least)
    return float(max(low - pad, 0)), float(min(high + pad, most))


def curves_figure(
    title: str,
    curves: Sequence[Curve],
    baseline: Sequence[Curve],
    limits: Limits,
    color: str,
    settings: ChartSettings,
    lines: int = 1,
    metric: Metric = CLASSIFICATION.headline,
) -> Figure:
    """Draws the learning curves of one step: the headline above, training loss below.

    Args:
        title: of the figure.
        curves: of the step's runs.
        baseline: curves of the step's baseline, whose mean is drawn in grey.
        limits: the same for all steps.
        color: of the step.
        settings: how the figure looks.
        lines: the number of lines that are reserved for the title.
        metric: the headline.
    """
    head = 0.08 + lines * TITLE_LINE
    foot, between = 0.34, 0.10
    height = head + VALUES_HEIGHT + between + LOSS_HEIGHT + foot
    above = {"left": 0.34, "right": 0.06, "top": head, "bottom": foot + LOSS_HEIGHT + between}
    width, palette = panel_width(settings), settings.palette
    with settings.context():
        figure = _sheet(width, height, settings)
        upper = _axes(figure, palette, **above)
        below = above | {"top": height - foot - LOSS_HEIGHT, "bottom": foot}
        lower = _axes(figure, palette, **below)
        text = "\n".join(_wrapped(title, settings))
        figure.text(
            TITLE_LEFT / width, 1 - 0.04 / height, text, size=SIZE, weight="bold",
            color=palette.ink, va="top",
        )  # fmt: skip
        panels = ((upper, VALUES, limits.values, metric.key), (lower, LOSS, limits.loss, "loss"))
        for axes, values, (low, high), name in panels:
            last = limits.last
            axes.set(ylim=(low, high), xlim=(min(1.0, last - 0.5), last + 0.03 * last))
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
            axes.yaxis.set_major_locator(MaxNLocator(4 if axes is upper else 2))
            _draw_curves(axes, curves, baseline, values, color, name, palette)
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("epoch", size=SIZE, color=palette.grey, labelpad=1)
        _keep_inside(figure, upper, lower)
    return figure


def _draw_curves(
    axes: Axes,
    curves: Sequence[Curve],
    baseline: Sequence[Curve],
    values: Values,
    color: str,
    name: str,
    palette: Palette,
) -> None:
    """Draws the runs, their mean, and the mean of the baseline."""
    epochs, mean, _ = mean_curve(baseline, values)
    _line(axes, epochs, mean, color=palette.faint, linewidth=0.9, gid=f"{name}-baseline")
    for curve in [c for c in curves if not c.finished][:MOST_UNFINISHED]:
        how: dict[str, Any] = {"color": palette.grey, "linewidth": 0.8, "linestyle": (0, (3, 1.5))}
        _line(axes, curve.epochs, values(curve), gid=f"{name}-unfinished-{curve.seed}", **how)
    finished = [c for c in curves if c.finished]
    epochs, mean, spread = mean_curve(finished, values)
    if len(finished) > THIN_LINES:
        band: dict[str, Any] = {"color": color, "alpha": 0.25, "linewidth": 0}
        axes.fill_between(epochs, mean - spread, mean + spread, gid=f"{name}-band", **band)
    elif len(finished) > 1:
        for curve in finished:
            how = {"color": color, "linewidth": 0.6, "alpha": 0.6}
            _line(axes, curve.epochs, values(curve), gid=f"{name}-seed-{curve.seed}", **how)
    _line(axes, epochs, mean, color=color, linewidth=1.5, gid=f"{name}-mean")


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """Tells which points are on the Pareto front: no other is better in one and as good in both.

    Points that are equal in both are on the front together.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -values[i]))
    front = [False] * len(costs)
    best, best_cost = -math.inf, math.nan
    for i in order:
        if values[i] > best:
            best, best_cost = values[i], costs[i]
        front[i] = values[i] == best and costs[i] == best_cost
    return front


def cost_figure(table: pd.DataFrame, axis: str, settings: ChartSettings) -> Figure:
    """Draws accuracy against the cost of a network, with the Pareto front.

    Args:
        table: a row per step, with ``step``, ``cost``, the headline such as ``top1``, its
            ``top1_std`` (NaN: unknown), ``adopted`` (False: drawn hollow) and ``color``.
        axis: the name of the cost, with its unit.
        settings: how the figure looks.
    """
    palette, metric = settings.palette, metrics_in(table.columns).headline
    front = pareto_front(list(table["cost"]), list(table[metric.key]))
    with settings.context():
        figure = _sheet(settings.width or PLOT_WIDTH, 3.2, settings)
        axes = _axes(figure, palette, left=0.42, right=0.12, top=0.12, bottom=0.42)
        costs, values = (table[name].to_numpy(float) for name in ("cost", metric.key))
        if costs.max() > 10 * costs.min() > 0:
            axes.set_xscale("log")
            between = (1, 2, 5) if costs.max() < 1000 * costs.min() else (1,)
            axes.xaxis.set_major_locator(LogLocator(subs=between))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        spread = table[f"{metric.key}_std"].fillna(0).to_numpy(float)
        axes.errorbar(
            costs, values, spread, fmt="none", ecolor=palette.faint, elinewidth=0.8, zorder=1
        )
        on = sorted({(x, y) for x, y, is_on in zip(costs, values, front, strict=True) if is_on})
        line: dict[str, Any] = {
            "where": "post",
            "color": palette.front,
            "linewidth": 1.0,
            "zorder": 2,
        }
        axes.step([x for x, _ in on], [y for _, y in on], gid="front", **line)
        for row, is_on in zip(table.to_dict("records"), front, strict=True):
            axes.plot(
                row["cost"], row[metric.key], marker="o", markersize=5 if is_on else 4, zorder=3,
                markerfacecolor=row["color"] if row["adopted"] else palette.paper,
                markeredgecolor=palette.front if is_on else row["color"],
                markeredgewidth=1.2 if is_on else 0.8, gid=f"point-{row['step']}",
            )  # fmt: skip
        axes.margins(x=0.09, y=0.09)
        axes.set_xlabel(axis, size=SIZE, color=palette.grey)
        axes.set_ylabel(f"{metric.header}, {metric.direction}", size=SIZE, color=palette.grey)
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        _keep_inside(figure, axes)  # which fixes the limits of the axes
        _name_points(figure, axes, table, front, palette)
    return figure


def tornado_figure(
    table: pd.DataFrame,
    settings: ChartSettings | None = None,
    metric: Metric = CLASSIFICATION.headline,
) -> Figure:
    """Draws changes from one baseline, the largest first, with their 95 % intervals.

    Args:
        table: a row per step, with ``step``, ``label``, ``change``, ``change_low`` and
            ``change_high`` (NaN: no interval) in percentage points.
        settings: how the figure looks.
        metric: that changes.
    """
    settings = settings or ChartSettings()
    palette, page = settings.palette, settings.width or PLOT_WIDTH
    rows = table.loc[table["change"].abs().sort_values(ascending=False, kind="stable").index]
    pitch, head, foot = 0.30, 0.06, 0.44
    height = head + foot + pitch * len(rows)
    with settings.context():
        figure = _sheet(page, height, settings)
        axes = _axes(figure, palette, left=0.12, right=0.12, top=head, bottom=foot)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks([])
        axes.xaxis.grid(visible=True, color=palette.rule, linewidth=0.5)
        for y, row in enumerate(rows.to_dict("records")):
            change = float(row["change"])
            name = f"change-{row['step']}"
            text = signed(change).replace("-", MINUS)
            face = palette.up if change >= 0 else palette.down
            axes.barh(y + 0.17, change, height=0.3, color=face, zorder=2, gid=name)
            if not math.isnan(row["change_low"]):
                ends = row["change_low"], row["change_high"]
                how: dict[str, Any] = {"color": palette.ink, "linewidth": 0.9, "marker": "|"}
                axes.plot(ends, (y + 0.17,) * 2, markersize=4, zorder=3, **how)
            label = shorten(row["label"], page - 0.4 - width(text, SIZE), SIZE)
            axes.annotate(
                f"{label}  {text}", (0, y - 0.2), xycoords=("axes fraction", "data"),
                size=SIZE, color=palette.ink, va="center", zorder=4,
                bbox={"boxstyle": "square,pad=0.08", "facecolor": palette.paper, "edgecolor": NONE},
            )  # fmt: skip
        axes.axvline(0, color=palette.ink, linewidth=0.8, zorder=2.5)
        axes.margins(x=0.06)
        axes.set_xlabel(
            f"change of {metric.label} (percentage points), {metric.direction}",
            size=SIZE,
            color=palette.grey,
        )
        _keep_inside(figure, axes)
    return figure


def _keep_inside(figure: Figure, *panels: Axes) -> None:
    """Narrows panels until their labels are inside the figure."""
    for _ in range(MOST_FITS):  # a narrower panel may get other tick labels
        with fonts.quietly():
            figure.draw_without_rendering()
        boxes = [box for axes in panels if (box := axes.get_tightbbox()) is not None]
        edge, page = EDGE * figure.dpi, figure.bbox
        left = max(edge - min(box.x0 for box in boxes), 0) / page.width
        right = max(max(box.x1 for box in boxes) + edge - page.width, 0) / page.width
        if left + right == 0:
            return
        for axes in panels:
            place = axes.get_position()
            width = max(place.width - left - right, NARROWEST)
            axes.set_position((place.x0 + left, place.y0, width, place.height))


def panel_width(settings: ChartSettings) -> float:
    """Returns the width of learning curves in inches: two or more are beside each other."""
    return min(PANEL_WIDTH, (settings.width or math.inf) / 2)


def _sheet(width: float, height: float, settings: ChartSettings) -> Figure:
    """Returns an empty figure; lengths in inches."""
    figure = Figure(figsize=(width, height), dpi=settings.dpi, facecolor=settings.palette.paper)
    FigureCanvasAgg(figure)
    return figure


def _axes(
    figure: Figure, palette: Palette, *, left: float, right: float, top: float, bottom: float
) -> Axes:
    """Adds axes at these distances from the edges, in inches."""
    width, height = figure.get_size_inches()
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    axes = figure.add_axes(box, facecolor=NONE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=palette.rule)
    axes.tick_params(labelsize=SIZE, labelcolor=palette.grey, color=palette.rule, length=2.5, pad=2)
    axes.yaxis.grid(visible=True, color=palette.rule, linewidth=0.5)
    axes.set_axisbelow(True)
    return axes


def _line(axes: Axes, epochs: FloatArray, values: FloatArray, **how: Any) -> None:
    """Draws a curve; a single epoch as a point, because a line would not show it."""
    known = np.isfinite(values)  # not every epoch is evaluated
    epochs, values = epochs[known], values[known]
    if len(epochs) == 1:
        how |= {"marker": "o", "markersize": 3}
    if len(epochs):
        axes.plot(epochs, values, **how)


def _wrapped(title: str, settings: ChartSettings) -> list[str]:
    """Returns a title in lines as wide as a panel; a long title ends in an ellipsis."""
    room = panel_width(settings) - 2 * TITLE_LEFT
    with settings.context():
        return wrap(title, room, SIZE, "bold", most=TITLE_LINES)


def _name_points(
    figure: Figure, axes: Axes, table: pd.DataFrame, front: Sequence[bool], palette: Palette
) -> None:
    """Writes the names of points: near those on the front; beside the others, or not at all.

    Farther from its point, a name could be read as the name of a neighbour.
    """
    across, up = axes.bbox.width / figure.dpi, axes.bbox.height / figure.dpi  # inches
    panel, size = Box(0, 0, across, up), SIZE - 0.5
    to_axes = axes.transData - axes.transAxes
    places_of = ["cost", metrics_in(table.columns).headline.key]

    def centres(rows: pd.DataFrame) -> list[tuple[float, float]]:
        places = to_axes.transform(rows[places_of].to_numpy(float))
        return [(float(x) * across, float(y) * up) for x, y in places]

    def write(step: str, name: str, place: Box, **look: Any) -> None:
        x, y = (place.left + place.right) / 2 / across, (place.low + place.high) / 2 / up
        look |= {"size": size, "ha": "center", "va": "center_baseline"}
        axes.text(x, y, name, transform=axes.transAxes, gid=f"name-{step}", **look)

    on = np.array(front)
    best, others = table[on].sort_values(places_of), table[~on]
    taken = [Box.around(x, y, 2 * DOT, 2 * DOT) for x, y in centres(table)]
    taken += _stairs(centres(best))
    for step, (x, y) in zip(best["step"], centres(best), strict=True):  # from the left
        name = shorten(step, NAME_WIDTH, size, "bold")
        extent = width(name, size, "bold"), SIZE / 72
        (place,) = place_labels([(x, y)], [extent], DOT, panel, taken)
        write(step, name, place, color=palette.ink, weight="bold")
        taken.append(place)
        if place.far_from(x, y, 2 * DOT):
            ends = np.array([(x, y), place.nearest(x, y)]) / (across, up)
            how: dict[str, Any] = {"color": palette.ink, "linewidth": 0.5, "zorder": 2.5}
            axes.plot(*ends.T, transform=axes.transAxes, **how)
    for step, (x, y) in zip(others["step"], centres(others), strict=True):
        name = shorten(step, NAME_WIDTH, size)
        long, half = width(name, size), SIZE / 72 / 2
        for left in (x + DOT + GAP, x - DOT - GAP - long):
            place = Box(left, y - half, left + long, y + half)
            inside = place.overlap(panel) > 0.999 * long * 2 * half
            if inside and not any(place.overlap(other) for other in taken):
                taken.append(place)
                write(step, name, place, color=palette.grey)
                break


def _stairs(points: Sequence[tuple[float, float]]) -> list[Box]:
    """Returns the front's line as thin boxes, two for each step of the stairs."""
    boxes = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        boxes += [Box(x0, y0 - HAIR, x1, y0 + HAIR), Box(x1 - HAIR, y0, x1 + HAIR, y1)]
    return boxes
