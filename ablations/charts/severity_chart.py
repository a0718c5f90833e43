"""Draws the accuracy of networks at each severity of corruptions: a row of points for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ablations.analysis.robustness import StudyRobustness
from ablations.analysis.robustness import title as title_of
from ablations.analysis.statistics import summarise_values
from ablations.charts.colors import Palette, blend, luminance
from ablations.charts.layout import (
    MARGIN,
    NOTE_LINE,
    TITLE_LINE,
    note_lines,
    sheet_of,
    shorten,
    width,
    wrap,
)
from ablations.charts.settings import ChartSettings
from ablations.metrics import CLASSIFICATION
from modernize.errors import UsageError

CLEAN = 0
"""The severity of images without corruption."""

NOTE = "Mean over the corruptions. Lines: one standard deviation over runs to either side."

ROW, NARROW_ROW = 0.20, 0.17  # inches from a network to the next
MOST_LABEL = 0.42  # of the page's width
LEGEND, FOOT = 0.24, 0.40  # inches for the legend, and for the axis with its name
RADIUS = 2.6  # of a point, in points


@dataclasses.dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        label: its name.
        means: severity -> mean accuracy in percent; 0 is without corruption.
        stds: severity -> sample standard deviation over runs, where it is known.
    """

    label: str
    means: Mapping[int, float]
    stds: Mapping[int, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, label: str, accuracies: Mapping[int, Sequence[float]]) -> Row:
        """Returns a row from severity -> the accuracy of each run, in percent."""
        found = {severity: summarise_values(values) for severity, values in accuracies.items()}
        stds = {severity: each.std for severity, each in found.items() if each.std}
        return cls(label, {severity: each.mean for severity, each in found.items()}, stds)


def draw(
    rows: Sequence[Row], *, title: str, note: str = "", settings: ChartSettings | None = None
) -> Figure:
    """Returns a chart with a row of points for each network, by default 170 mm wide.

    Args:
        rows: the networks, from top to bottom.
        title: above the chart.
        note: below it.
        settings: how it looks.

    Raises:
        UsageError: if there are no rows.
    """
    if not rows:
        raise UsageError("cannot draw a chart without networks; give it at least one.")
    settings = settings or ChartSettings()
    sheet, palette = sheet_of(settings.width), settings.palette
    severities = sorted({severity for row in rows for severity in row.means})
    looks = {severity: _look(severity, palette) for severity in severities}
    with settings.context():
        titles = wrap(title, sheet.inner, sheet.title, "bold") if settings.title else []
        notes = note_lines(note, sheet)
        labels = [shorten(row.label, MOST_LABEL * sheet.width, sheet.size) for row in rows]
        left = MARGIN + max(width(label, sheet.size) for label in labels) + 0.08
        top = MARGIN + TITLE_LINE * len(titles) + LEGEND
        height_of_rows = len(rows) * (NARROW_ROW if sheet.narrow else ROW)
        height = top + height_of_rows + FOOT + NOTE_LINE * len(notes) + MARGIN
        figure = Figure(figsize=(sheet.width, height), dpi=settings.dpi, facecolor=palette.paper)
        FigureCanvasAgg(figure)
        page = figure.add_axes((0, 0, 1, 1), xlim=(0, sheet.width), ylim=(height, 0))
        page.set_axis_off()
        for number, line in enumerate(titles):
            y = MARGIN + 0.08 + TITLE_LINE * number
            _write(page, MARGIN, y, line, sheet.title, palette.ink, weight="bold")
        _draw_legend(page, left, top - LEGEND / 2, looks, sheet.small, palette)
        for number, line in enumerate(notes):
            y = top + height_of_rows + FOOT + 0.04 + NOTE_LINE * number
            _write(page, MARGIN, y, line, sheet.small, palette.grey)
        panel = figure.add_axes(
            (
                left / sheet.width,
                1 - (top + height_of_rows) / height,
                (sheet.width - left - 2 * MARGIN) / sheet.width,
                height_of_rows / height,
            ),
            ylim=(len(rows) - 0.5, -0.5),
            facecolor="none",
            axisbelow=True,
        )
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set(color=palette.ink, linewidth=0.8)
        panel.grid(axis="x", color=palette.rule, linewidth=0.5)
        panel.set_yticks(range(len(rows)), labels, fontsize=sheet.size, color=palette.ink)
        panel.tick_params(length=0, pad=4)
        panel.tick_params(axis="x", labelsize=sheet.small, labelcolor=palette.grey)
        for place, row in enumerate(rows):
            ends = min(row.means.values()), max(row.means.values())
            panel.plot(ends, (place, place), color=palette.rule, linewidth=1.2, zorder=1)
            for severity, mean in row.means.items():
                look, name = looks[severity], f"{row.label}-{severity}"
                if std := row.stds.get(severity):
                    line_look: dict[str, Any] = {"color": look["markeredgecolor"], "zorder": 2}
                    panel.plot((mean - std, mean + std), (place,) * 2, linewidth=0.8, **line_look)
                panel.plot([mean], [place], zorder=3 + severity, gid=name, **look)
        panel.margins(x=0.03)
        panel.set_xlabel(CLASSIFICATION.headline.directed, fontsize=sheet.small, color=palette.grey)
    return figure


def study_figure(found: StudyRobustness, settings: ChartSettings | None = None) -> Figure:
    """Returns the chart of a study under corruption, a row for each step."""
    rows = [Row.of(step.title, step.by_severity()) for step in found.steps]
    return draw(rows, title=title_of(found), note=NOTE, settings=settings)


def _look(severity: int, palette: Palette) -> dict[str, Any]:
    """Returns how a point looks: hollow without corruption, nearer to ink for higher severities."""
    hue = palette.up
    if severity != CLEAN:
        away = "#ffffff" if luminance(palette.ink) < 0.5 else "#000000"
        share = (severity - 3) * 0.28
        hue = blend(palette.up, palette.ink if share > 0 else away, abs(share))
    face = palette.paper if severity == CLEAN else hue
    return {"marker": "o", "markersize": 2 * RADIUS, "linestyle": "none", "markerfacecolor": face,
            "markeredgecolor": hue, "markeredgewidth": 1.0}  # fmt: skip


def _draw_legend(
    page: Axes,
    x: float,
    y: float,
    looks: Mapping[int, dict[str, Any]],
    size: float,
    palette: Palette,
) -> None:
    """Draws the legend from ``x`` on, or farther left if it would not fit the page."""
    words = {severity: "clean" if severity == CLEAN else str(severity) for severity in looks}
    words[max(looks)] = f"severity {max(looks)}"
    widths = {severity: 0.26 + width(text, size) for severity, text in words.items()}
    x = max(MARGIN, min(x, page.get_xlim()[1] - sum(widths.values())))
    for severity, look in sorted(looks.items(), reverse=True):
        page.plot([x + 0.05], [y], **look)
        _write(page, x + 0.12, y, words[severity], size, palette.grey)
        x += widths[severity]


def _write(page: Axes, x: float, y: float, text: str, size: float, color: str, **how: Any) -> None:
    page.text(x, y, text, fontsize=size, color=color, va="center_baseline", **how)
