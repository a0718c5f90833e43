"""Draws accuracy against measured throughput, and beside it against FLOPs.

:func:`draw` takes a table (one row a network, see :data:`COLUMNS`) and returns a figure, which
:func:`ablations.charts.chart.save` writes. :mod:`~ablations.charts.labels` places the labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ablations.charts.canvas import GREY, INK, PNG_DPI, RULE, STYLE
from ablations.charts.colors import section_hues
from ablations.charts.labels import Box, place_labels
from ablations.charts.layout import (
    LINE,
    MARGIN,
    MOST_NOTE_LINES,
    NOTE_LINE,
    PAGE_WIDTH,
    SIZE,
    SMALL,
    TITLE,
    TITLE_LINE,
    WIDTH,
    shorten,
    width,
    wrap,
)
from ablations.charts.rows import unit_of
from modernize.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

SPEED = "images_per_second"
COST = "cost"  # a column computed here, in the unit of the axis
COLUMNS = (
    *("name", "label", "group", "parent", "adopted", "top1", "top1_std", "gflops"),
    *(SPEED, f"{SPEED}_min", f"{SPEED}_max"),
)
"""The columns that a table must have; other columns are ignored.

``group`` decides the colour; ``parent`` is the name of the network from which a line leads here
(empty: no line); ``adopted`` is False for a side branch, which is drawn hollow; ``top1`` and its
standard deviation (NaN: unknown) are in percent, ``gflops`` in 1e9 MACs.
"""

NAMED = 8  # up to this many networks are labelled by name; more are numbered
PANEL_HEIGHT = 2.9
LEFT, BETWEEN, RIGHT = 0.50, 0.16, 0.10  # beside the panels, which share the accuracy axis
PANEL_WIDTH = (PAGE_WIDTH - LEFT - BETWEEN - RIGHT) / 2
BELOW = 0.44  # ticks and names of the axes
RADIUS = 0.038  # of a point
ROOM = 0.10  # fraction of a panel's side that stays free around the points
HAIR = 0.02  # width of a line as an obstacle for labels
KEY_COLUMNS = 3
LEAST_TOP1 = 1.0  # the least range of the accuracy axis; for less its numbers are too long


def draw(
    table: pd.DataFrame, *, title: str, speed_label: str, note: str = "", groups: Sequence[str] = ()
) -> Figure:
    """Draws the two panels, 170 mm wide in all, and below them the names if they are numbered.

    Args:
        table: the networks, in order.
        title: above the panels.
        speed_label: the name of the throughput's axis.
        note: below the panels.
        groups: all possible groups, in order, so that the colour of a group is always the same.

    Raises:
        UsageError: for a table without rows, with a column missing, or with a network twice.
    """
    unit = unit_of(table)
    rows = [{**row, COST: row["gflops"] * (1e9 / unit.flops)} for row in _read(table)]
    hues = section_hues((row["group"] for row in rows), groups)
    named = len(rows) <= NAMED
    names = [shorten(row["label"], WIDTH / KEY_COLUMNS - 0.4) for row in rows]
    labels = names if named else [str(number) for number in range(1, len(rows) + 1)]
    titles = wrap(title, WIDTH, TITLE, "bold")
    notes = wrap(note, WIDTH, SMALL, most=MOST_NOTE_LINES) if note else []
    key_lines = 0 if named else math.ceil(len(rows) / KEY_COLUMNS)
    top = MARGIN + TITLE_LINE * len(titles) + 0.06
    key = top + PANEL_HEIGHT + BELOW
    foot = key + (key_lines * LINE + 0.10 if key_lines else 0)
    height = foot + NOTE_LINE * len(notes) + MARGIN
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_WIDTH, height), dpi=PNG_DPI)
        FigureCanvasAgg(figure)
        page = figure.add_axes((0, 0, 1, 1), xlim=(0, PAGE_WIDTH), ylim=(height, 0))
        page.set_axis_off()
        _write(page, MARGIN, MARGIN + 0.08, titles, TITLE_LINE, TITLE, weight="bold")
        for number, (column, name) in enumerate(
            ((SPEED, speed_label), (COST, f"{unit.name} per image"))
        ):
            left = LEFT + number * (PANEL_WIDTH + BETWEEN)
            panel = figure.add_axes(
                (
                    left / PAGE_WIDTH,
                    1 - (top + PANEL_HEIGHT) / height,
                    PANEL_WIDTH / PAGE_WIDTH,
                    PANEL_HEIGHT / height,
                )
            )
            _draw_panel(panel, rows, column, labels, hues, numbered=not named)
            panel.set_xlabel(name, fontsize=SMALL, color=GREY, labelpad=3)
            if number:
                panel.tick_params(labelleft=False)
            else:
                panel.set_ylabel("top-1 accuracy (%)", fontsize=SMALL, color=GREY, labelpad=3)
        if not named:
            _draw_key(page, rows, names, hues, key)
        _write(page, MARGIN, foot + 0.04, notes, NOTE_LINE, SMALL, color=GREY)
    return figure


def _read(table: pd.DataFrame) -> list[dict[str, Any]]:
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise UsageError(f"cannot draw a table without {', '.join(missing)}.")
    rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]  # names are text
    if not rows:
        raise UsageError("cannot draw a table without rows; give it at least one network.")
    names = [row["name"] for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"cannot draw a network twice: {', '.join(twice)}.")
    return rows


def _draw_panel(
    panel: Axes,
    rows: list[dict[str, Any]],
    column: str,
    labels: list[str],
    hues: dict[str, str],
    *,
    numbered: bool,
) -> None:
    """Draws accuracy against one column: lines, points, spreads, labels."""
    x_ends = [row[column] for row in rows]
    if column == SPEED:
        x_ends += [row[f"{SPEED}_{end}"] for row in rows for end in ("min", "max")]
    panel.set_xlim(*_limits(x_ends))
    panel.set_ylim(*_limits([row["top1"] for row in rows], least=LEAST_TOP1))
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set(color=INK, linewidth=0.8)
    panel.tick_params(length=0, pad=3, labelsize=SMALL, labelcolor=GREY)
    panel.grid(color=RULE, linewidth=0.5)
    panel.set_axisbelow(True)

    by_name = {row["name"]: row for row in rows}
    links = [(by_name[row["parent"]], row) for row in rows if row["parent"] in by_name]
    for parent, row in links:
        ends = [parent[column], row[column]], [parent["top1"], row["top1"]]
        style = "-" if row["adopted"] else (0, (3, 2))
        panel.plot(*ends, color="#b5b5b5", linewidth=0.8, linestyle=style, zorder=2)
    for row in rows:
        _draw_point(panel, row, column, hues[row["group"]])
    boxes = [_in_inches(panel, row[column], row["top1"]) for row in rows]
    centres = {row["name"]: box for row, box in zip(rows, boxes, strict=True)}
    size = SMALL if numbered else SIZE
    places = place_labels(
        boxes,
        [(width(text, size), size / 72) for text in labels],
        RADIUS,
        Box(0, 0, PANEL_WIDTH, PANEL_HEIGHT),
        obstacles=[
            *(box for row in rows for box in _spreads(panel, row, column)),
            *(box for link in links for box in _along(*(centres[end["name"]] for end in link))),
        ],
    )
    for row, text, (x, y), place in zip(rows, labels, boxes, places, strict=True):
        middle = (place.left + place.right) / 2, (place.low + place.high) / 2
        if place.far_from(x, y, 2.5 * RADIUS):
            to_x, to_y = place.nearest(x, y)
            panel.plot(
                [x / PANEL_WIDTH, to_x / PANEL_WIDTH],
                [y / PANEL_HEIGHT, to_y / PANEL_HEIGHT],
                transform=panel.transAxes, color=GREY, linewidth=0.4, zorder=2.5,
            )  # fmt: skip
        panel.text(
            middle[0] / PANEL_WIDTH, middle[1] / PANEL_HEIGHT, text, fontsize=size, color=INK,
            ha="center", va="center_baseline", transform=panel.transAxes, zorder=5,
            gid=f"label-{column}-{row['name']}",
        )  # fmt: skip


def _draw_point(panel: Axes, row: dict[str, Any], column: str, hue: str) -> None:
    """Draws one network, with its range of throughput and its standard deviation."""
    x, y = row[column], row["top1"]
    for across, up in _spread_lines(row, column):
        panel.plot(across, up, color=hue, linewidth=0.7, zorder=3)
    panel.plot(
        [x], [y], marker="o", markersize=2 * RADIUS * 72, linestyle="none", zorder=4,
        markerfacecolor=hue if row["adopted"] else "white", markeredgecolor=hue,
        markeredgewidth=0.8, gid=f"point-{column}-{row['name']}",
    )  # fmt: skip


def _spread_lines(row: dict[str, Any], column: str) -> list[tuple[list[float], list[float]]]:
    """Returns the lines of a network's spreads, in the units of the data."""
    x, y, std = row[column], row["top1"], row["top1_std"]
    lines = []
    if column == SPEED:
        lines.append(([row[f"{SPEED}_min"], row[f"{SPEED}_max"]], [y, y]))
    if std == std:  # not NaN
        lines.append(([x, x], [y - std, y + std]))
    return lines


def _spreads(panel: Axes, row: dict[str, Any], column: str) -> list[Box]:
    """Returns the same lines as thin boxes, in inches of the panel."""
    half = HAIR / 2
    boxes = []
    for across, up in _spread_lines(row, column):
        (left, low), (right, high) = (
            _in_inches(panel, *end) for end in zip(across, up, strict=True)
        )
        boxes.append(Box(left - half, low - half, right + half, high + half))
    return boxes


def _along(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Returns small boxes along a line, all in inches."""
    count = math.ceil(math.dist(start, end) / 0.03)
    boxes = []
    for part in range(count + 1):
        x, y = (a + (b - a) * part / max(count, 1) for a, b in zip(start, end, strict=True))
        boxes.append(Box.around(x, y, HAIR, HAIR))
    return boxes


def _draw_key(
    page: Axes, rows: list[dict[str, Any]], names: list[str], hues: dict[str, str], top: float
) -> None:
    """Writes the numbers with the names, column by column."""
    lines = math.ceil(len(rows) / KEY_COLUMNS)
    step = WIDTH / KEY_COLUMNS
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        x, y = MARGIN + step * (index // lines), top + LINE * (index % lines) + 0.05
        hue = hues[row["group"]]
        page.plot(
            [x + 0.05], [y], marker="o", markersize=2 * RADIUS * 72, linestyle="none",
            markerfacecolor=hue if row["adopted"] else "white", markeredgecolor=hue,
            markeredgewidth=0.8,
        )  # fmt: skip
        _write(page, x + 0.28, y, [str(index + 1)], LINE, SMALL, ha="right")
        _write(page, x + 0.34, y, [name], LINE, SMALL)


def _write(
    page: Axes, x: float, y: float, lines: list[str], step: float, size: float, **how: Any
) -> None:
    """Writes lines of text one below the other, the first centred on ``y``."""
    how = {"color": INK, "va": "center_baseline", **how}
    for number, text in enumerate(lines):
        page.text(x, y + step * number, text, fontsize=size, **how)


def _limits(values: list[float], least: float = 0.0) -> tuple[float, float]:
    """Returns the limits of an axis: some room around the values, and at least this range."""
    low, high = min(values), max(values)
    room = ROOM * (high - low) or max(0.05 * abs(high), 0.5)
    room = max(room, (least - (high - low)) / 2)
    return low - room, high + room


def _in_inches(panel: Axes, x: float, y: float) -> tuple[float, float]:
    """Returns a point of the data in inches from the panel's lower left corner."""
    (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    return PANEL_WIDTH * (x - left) / (right - left), PANEL_HEIGHT * (y - low) / (high - low)
