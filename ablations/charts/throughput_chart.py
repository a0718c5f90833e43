"""Draws accuracy, or another metric, against measured throughput, and beside it against FLOPs.

:func:`draw` takes a table (one row a network, see :data:`COLUMNS`) and returns a figure, which
:func:`~ablations.charts.chart.save_figure` writes. :mod:`~ablations.charts.labels` places labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ablations.charts.colors import NONE, Palette, section_hues
from ablations.charts.labels import Box, place_labels
from ablations.charts.layout import (
    LINE,
    MARGIN,
    NOTE_LINE,
    TITLE_LINE,
    Sheet,
    note_lines,
    sheet_of,
    shorten,
    width,
    wrap,
)
from ablations.charts.rows import metric_of, unit_of
from ablations.charts.settings import ChartSettings
from ablations.metrics import CLASSIFICATION, Metric
from modernize.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

SPEED = "images_per_second"
COST = "cost"  # a column computed here, in the unit of the axis
VALUE, STD = "value", "std"  # the same for the metric


def columns(metric: Metric) -> tuple[str, ...]:
    """Returns the columns that a table with this metric must have."""
    return (
        *("name", "label", "group", "parent", "adopted", metric.key, f"{metric.key}_std", "flops"),
        *(SPEED, f"{SPEED}_min", f"{SPEED}_max"),
    )


COLUMNS = columns(CLASSIFICATION.headline)
"""The columns that a table must have; other columns are ignored.

Instead of ``top1`` there may be the headline of another task, such as ``box_ap``.
``group`` decides the colour; ``parent`` is the name of the network from which a line leads here
(empty: no line); ``adopted`` is False for a side branch, which is drawn hollow; ``top1`` and its
standard deviation (NaN: unknown) are in percent, ``flops`` of one image in MACs.
"""

NAMED = 8  # up to this many networks are labelled by name; more are numbered
PANEL_HEIGHT, NARROW_HEIGHT = 2.9, 2.3
LEFT, BETWEEN, RIGHT = 0.50, 0.16, 0.10  # beside the panels, which share the accuracy axis
BELOW = 0.44  # ticks and names of the axes
RADIUS = 0.038  # of a point
ROOM = 0.10  # fraction of a panel's side that stays free around the points
HAIR = 0.02  # width of a line as an obstacle for labels
KEY_COLUMNS, NARROW_KEY_COLUMNS = 3, 2
LEAST_RANGE = 1.0  # the least range of the metric's axis; for less its numbers are too long


def draw(
    table: pd.DataFrame,
    *,
    title: str,
    speed_label: str,
    note: str = "",
    groups: Sequence[str] = (),
    settings: ChartSettings | None = None,
) -> Figure:
    """Draws the two panels, by default 170 mm wide in all, and below them the names if numbered.

    Args:
        table: the networks, in order.
        title: above the panels.
        speed_label: the name of the throughput's axis.
        note: below the panels.
        groups: all possible groups, in order, so that the colour of a group is always the same.
        settings: how the chart looks.

    Raises:
        UsageError: for a table without rows, with a column missing, or with a network twice.
    """
    settings = settings or ChartSettings()
    unit = unit_of(table)
    metric = metric_of(table)
    rows = [
        {**row, COST: row["flops"] / unit.flops, VALUE: row[metric.key],
         STD: row[f"{metric.key}_std"]}
        for row in _read(table, metric)
    ]  # fmt: skip
    sheet, palette = sheet_of(settings.width), settings.palette
    hues = section_hues((row["group"] for row in rows), groups, palette.hues)
    named = len(rows) <= NAMED and not sheet.narrow
    key_columns = NARROW_KEY_COLUMNS if sheet.narrow else KEY_COLUMNS
    across = 1 if sheet.narrow else 2  # else one panel is below the other
    panel_width = (sheet.width - LEFT - RIGHT - (across - 1) * BETWEEN) / across
    panel_height = NARROW_HEIGHT if sheet.narrow else PANEL_HEIGHT
    with settings.context():
        label_width = sheet.inner / key_columns - 0.4
        names = [wrap(row["label"], label_width, sheet.small, most=2) for row in rows]
        labels = [str(number) for number in range(1, len(rows) + 1)]
        if named:
            labels = [shorten(row["label"], label_width, sheet.small) for row in rows]
        shown = title if settings.title else ""
        titles = wrap(shown, sheet.inner, sheet.title, "bold") if shown else []
        notes = note_lines(note, sheet)
        places = _key_places(names, key_columns)
        ends = [line + len(name) for name, (_, line) in zip(names, places, strict=True)]
        key_lines = 0 if named else max(ends)
        top = MARGIN + TITLE_LINE * len(titles) + 0.06
        key = top + (panel_height + BELOW) * (2 // across)
        foot = key + (key_lines * LINE + 0.10 if key_lines else 0)
        height = foot + NOTE_LINE * len(notes) + MARGIN
        figure = Figure(figsize=(sheet.width, height), dpi=settings.dpi, facecolor=palette.paper)
        FigureCanvasAgg(figure)
        page = figure.add_axes((0, 0, 1, 1), xlim=(0, sheet.width), ylim=(height, 0))
        page.set_axis_off()
        bold: dict[str, Any] = {"color": palette.ink, "weight": "bold"}
        _write(page, MARGIN, MARGIN + 0.08, titles, TITLE_LINE, sheet.title, **bold)
        soft: dict[str, Any] = {"fontsize": sheet.small, "color": palette.grey, "labelpad": 3}
        for number, (column, name) in enumerate(
            ((SPEED, speed_label), (COST, f"{unit.name} per image"))
        ):
            left = LEFT + (number % across) * (panel_width + BETWEEN)
            low = top + panel_height + (number // across) * (panel_height + BELOW)
            panel = figure.add_axes(
                (
                    left / sheet.width,
                    1 - low / height,
                    panel_width / sheet.width,
                    panel_height / height,
                ),
                facecolor=NONE,
            )
            _draw_panel(panel, rows, column, labels, hues, sheet, palette, numbered=not named)
            panel.set_xlabel(name, **soft)
            if number % across:
                panel.tick_params(labelleft=False)
            else:
                panel.set_ylabel(metric.directed, **soft)
        if not named:
            _draw_key(page, rows, names, places, hues, key, sheet, palette, key_columns)
        _write(page, MARGIN, foot + 0.04, notes, NOTE_LINE, sheet.small, color=palette.grey)
    return figure


def _read(table: pd.DataFrame, metric: Metric) -> list[dict[str, Any]]:
    missing = [name for name in columns(metric) if name not in table.columns]
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
    sheet: Sheet,
    palette: Palette,
    *,
    numbered: bool,
) -> None:
    """Draws accuracy against one column: lines, points, spreads, labels."""
    x_ends = [row[column] for row in rows]
    if column == SPEED:
        x_ends += [row[f"{SPEED}_{end}"] for row in rows for end in ("min", "max")]
    panel.set_xlim(*_limits(x_ends))
    stds = [0 if math.isnan(row[STD]) else row[STD] for row in rows]
    y_ends = [row[VALUE] + std for row, std in zip(rows, stds, strict=True)]
    y_ends += [row[VALUE] - std for row, std in zip(rows, stds, strict=True)]
    panel.set_ylim(*_limits(y_ends, least=LEAST_RANGE))
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set(color=palette.ink, linewidth=0.8)
    panel.tick_params(length=0, pad=3, labelsize=sheet.small, labelcolor=palette.grey)
    panel.grid(color=palette.rule, linewidth=0.5)
    panel.set_axisbelow(True)

    by_name = {row["name"]: row for row in rows}
    links = [(by_name[row["parent"]], row) for row in rows if row["parent"] in by_name]
    for parent, row in links:
        ends = [parent[column], row[column]], [parent[VALUE], row[VALUE]]
        style = "-" if row["adopted"] else (0, (3, 2))
        panel.plot(*ends, color=palette.faint, linewidth=0.8, linestyle=style, zorder=2)
    for row in rows:
        _draw_point(panel, row, column, hues[row["group"]], palette.paper)
    boxes = [_in_inches(panel, row[column], row[VALUE]) for row in rows]
    centres = {row["name"]: box for row, box in zip(rows, boxes, strict=True)}
    size = sheet.small if numbered else sheet.size
    panel_width, panel_height = _size(panel)
    places = place_labels(
        boxes,
        [(width(text, size), size / 72) for text in labels],
        RADIUS,
        Box(0, 0, panel_width, panel_height),
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
                [x / panel_width, to_x / panel_width],
                [y / panel_height, to_y / panel_height],
                transform=panel.transAxes, color=palette.grey, linewidth=0.4, zorder=2.5,
            )  # fmt: skip
        panel.text(
            middle[0] / panel_width, middle[1] / panel_height, text, fontsize=size,
            color=palette.ink, ha="center", va="center_baseline", transform=panel.transAxes,
            zorder=5, gid=f"label-{column}-{row['name']}",
        )  # fmt: skip


def _draw_point(panel: Axes, row: dict[str, Any], column: str, hue: str, paper: str) -> None:
    """Draws one network, with its range of throughput and its standard deviation."""
    x, y = row[column], row[VALUE]
    for across, up in _spread_lines(row, column):
        panel.plot(across, up, color=hue, linewidth=0.7, zorder=3)
    panel.plot(
        [x], [y], marker="o", markersize=2 * RADIUS * 72, linestyle="none", zorder=4,
        markerfacecolor=hue if row["adopted"] else paper, markeredgecolor=hue,
        markeredgewidth=0.8, gid=f"point-{column}-{row['name']}",
    )  # fmt: skip


def _spread_lines(row: dict[str, Any], column: str) -> list[tuple[list[float], list[float]]]:
    """Returns the lines of a network's spreads, in the units of the data."""
    x, y, std = row[column], row[VALUE], row[STD]
    lines = []
    if column == SPEED:
        lines.append(([row[f"{SPEED}_min"], row[f"{SPEED}_max"]], [y, y]))
    if not math.isnan(std):
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


def _key_places(names: list[list[str]], columns: int) -> list[tuple[int, int]]:
    """Returns the column and the first line of each name, in columns of about equal height."""
    height, places = math.ceil(sum(map(len, names)) / columns), []
    column = line = 0
    for name in names:
        if line >= height:
            column, line = column + 1, 0
        places.append((column, line))
        line += len(name)
    return places


def _draw_key(
    page: Axes,
    rows: list[dict[str, Any]],
    names: list[list[str]],
    places: list[tuple[int, int]],
    hues: dict[str, str],
    top: float,
    sheet: Sheet,
    palette: Palette,
    columns: int,
) -> None:
    """Writes the numbers with the names, column by column."""
    step = sheet.inner / columns
    how: dict[str, Any] = {"color": palette.ink}
    for index, (row, name, (column, line)) in enumerate(zip(rows, names, places, strict=True)):
        x, y = MARGIN + step * column, top + LINE * line + 0.05
        hue = hues[row["group"]]
        page.plot(
            [x + 0.05], [y], marker="o", markersize=2 * RADIUS * 72, linestyle="none",
            markerfacecolor=hue if row["adopted"] else palette.paper, markeredgecolor=hue,
            markeredgewidth=0.8,
        )  # fmt: skip
        _write(page, x + 0.28, y, [str(index + 1)], LINE, sheet.small, ha="right", **how)
        _write(page, x + 0.34, y, name, LINE, sheet.small, **how)


def _write(
    page: Axes, x: float, y: float, lines: list[str], step: float, size: float, **how: Any
) -> None:
    """Writes lines of text one below the other, the first centred on ``y``."""
    how = {"va": "center_baseline", **how}
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
    width, height = _size(panel)
    return width * (x - left) / (right - left), height * (y - low) / (high - low)


def _size(panel: Axes) -> tuple[float, float]:
    """Returns a panel's width and height in inches."""
    dpi = panel.figure.dpi
    return panel.bbox.width / dpi, panel.bbox.height / dpi
