"""The roadmap chart: a bar of accuracy for each step, with its change and its cost.

:func:`roadmap_figure` takes a summary (one row per step, see :data:`COLUMNS`) and returns a figure;
:func:`save_figure` writes it. :mod:`~ablations.charts.rows` has the text of the cells,
:mod:`~ablations.charts.layout` their places, and :mod:`~ablations.charts.canvas` the figure with
its lines, boxes and texts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.analysis.summary import PARTIAL
from ablations.charts import layout as at
from ablations.charts.canvas import Canvas, boxes_note, render
from ablations.charts.colors import section_hues
from ablations.charts.layout import MARGIN, Layout, Section, Step
from ablations.charts.rows import COLUMNS, ELSEWHERE, Row, metric_of, pair, read, unit_of
from ablations.charts.settings import ChartSettings
from ablations.records import Status
from modernize.errors import UnknownNameError, UsageError
from modernize.files import make_folder, write_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ablations.paper import Reference

__all__ = ["COLUMNS", "as_png", "boxes_note", "roadmap_figure", "save_figure"]

SUFFIXES = (".png", ".svg", ".pdf", ".eps", ".ps")

HATCH = "//////"
_WAITING = (Status.MISSING, Status.QUEUED, Status.STOPPED, Status.UNKNOWN)
MARKERS = {**{str(status): "o" for status in _WAITING}, str(Status.RUNNING): ">"}
"""Status -> the marker beside its name, which replaces a bar; a cross for all others."""


@dataclasses.dataclass(frozen=True)
class _Look:
    """How one table's rows look; an empty face or edge means the colour of the section."""

    size: float
    color: str
    bar: float  # height in inches
    face: str
    edge: str
    whisker: float  # height of its ends in points
    dashes: tuple[float, float]  # of the reference line


def _look(canvas: Canvas, series: str) -> _Look:
    sheet, palette = canvas.sheet, canvas.palette
    if series == "main":
        return _Look(sheet.size, palette.ink, 0.115, "", "", whisker=5, dashes=(5, 2))
    grey = palette.second, palette.second_edge
    return _Look(sheet.small, palette.grey, 0.062, *grey, whisker=3, dashes=(1.5, 1.2))


def roadmap_figure(
    summary: pd.DataFrame,
    *,
    title: str = "",
    reference: Reference | None = None,
    second: pd.DataFrame | None = None,
    second_label: str = "",
    label: str = "",
    second_reference: Reference | None = None,
    notes: Mapping[str, str] | None = None,
    sections: Sequence[str] = (),
    steps: Collection[str] | None = None,
    settings: ChartSettings | None = None,
) -> Figure:
    """Draws a roadmap from top to bottom, by default 170 mm wide, and as high as needed.

    Args:
        summary: its steps are the main bars, in order; has the :data:`COLUMNS`.
        title: of the chart.
        reference: a vertical line to compare the bars with.
        second: another summary, as thin grey bars below the main ones; matched by step.
        second_label: name of the grey bars.
        label: name of the main bars.
        second_reference: a grey vertical line.
        notes: step -> a footnote to its cost in ``summary``; steps that are not drawn are ignored.
        sections: all possible sections in order, so that the colours do not depend on the steps.
        steps: the steps to draw; None: all. A change is then from the nearest drawn step before.
        settings: how the chart looks.

    Raises:
        UsageError: for a table without rows, without a column, or with a step twice.
        UnknownNameError: for an unknown status or step.
    """
    settings = settings or ChartSettings()
    tables = [table for table in (summary, second) if table is not None]
    if steps is not None:
        known = list(dict.fromkeys(str(step) for table in tables for step in table["step"]))
        for step in steps:
            if step not in known:
                raise UnknownNameError("step", step, known)
    unit, metric = unit_of(*tables), metric_of(*tables)
    lines = pair(
        read(summary, "main", notes or {}, unit, metric, steps),
        [] if second is None else read(second, "second", {}, unit, metric, steps),
    )
    references = {"main": reference, "second": second_reference}
    with settings.context():
        layout = at.lay_out(
            lines,
            at.sheet_of(settings.width),
            title=title if settings.title else "",
            unit=unit.name,
            labels={"main": label, "second": second_label},
            references={series: ref for series, ref in references.items() if ref is not None},
        )
        canvas = Canvas(layout, settings)
        shown = (section.title for section in layout.sections)
        hues = section_hues(shown, sections, canvas.palette.hues)
        _draw_header(canvas, layout, hues)
        for number, section in enumerate(layout.sections):
            _draw_section(canvas, section, hues[section.title], banded=number % 2 == 0)
            for placed in section.steps:
                _draw_step(canvas, layout, placed, hues[section.title])
        _draw_references(canvas, layout)
        _draw_footer(canvas, layout)
    return canvas.figure


def save_figure(figure: Figure, path: str | Path, settings: ChartSettings | None = None) -> Path:
    """Writes a figure as PNG, SVG, PDF, EPS or PS, by the suffix; equal figures give equal bytes.

    Args:
        figure: as it was drawn with the same settings.
        path: of the file.
        settings: the dpi of a PNG, and whether an SVG keeps texts as texts.

    Returns:
        The path.

    Raises:
        UsageError: for another suffix.
        UnwritableFileError: if the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"cannot draw to {str(path)!r}: its suffix is {path.suffix!r}. "
            f"Valid: {', '.join(SUFFIXES)}."
        )
    drawn = render(figure, suffix[1:], settings or ChartSettings())
    make_folder(path.parent)
    write_bytes(path, drawn)
    return path


def as_png(figure: Figure, settings: ChartSettings | None = None) -> bytes:
    """Returns the bytes of a figure's PNG file, as :func:`save_figure` writes it."""
    return render(figure, "png", settings or ChartSettings())


def _draw_header(canvas: Canvas, layout: Layout, hues: Mapping[str, str]) -> None:
    """Draws the title, the legend and the column headers."""
    sheet, grey = canvas.sheet, canvas.palette.grey
    title: dict[str, Any] = {"step": at.TITLE_LINE, "size": sheet.title, "weight": "bold"}
    canvas.write_lines(MARGIN, MARGIN + 0.08, layout.title, **title)
    first = list(dict.fromkeys(hues[section.title] for section in layout.sections))[:4]
    for entry in layout.legend:
        _draw_symbol(canvas, entry.symbol, entry.x, entry.y, first)
        indent = at.SYMBOL if entry.symbol else 0
        canvas.write(entry.x + indent, entry.y, entry.text, size=sheet.small)
    columns = layout.columns
    for x, text in (
        (columns.value_end, layout.metric.header),
        (columns.n, "n" if layout.show_n else ""),
        (columns.change, at.CHANGE),
        (columns.cost, layout.unit),
    ):
        canvas.write(x, layout.top - 0.085, text, size=sheet.small, color=grey, ha="right")


def _draw_symbol(canvas: Canvas, symbol: str, x: float, y: float, hues: list[str]) -> None:
    """Draws a symbol of the legend; that of the main bars has some of their colours."""
    length, height, look = 0.22, 0.09, _look(canvas, "second")
    how: dict[str, Any] = {"linewidth": 0.6}
    if symbol == "main":
        part = length / len(hues)
        for number, hue in enumerate(hues):
            canvas.box(canvas.page, x + number * part, y, part, height, facecolor=hue)
    elif symbol == "second":
        how |= {"facecolor": look.face, "edgecolor": look.edge}
        canvas.box(canvas.page, x, y, length, look.bar, **how)
    elif symbol == "hatched":
        palette = canvas.palette
        how |= {"facecolor": palette.paper, "edgecolor": palette.grey, "hatch": HATCH}
        canvas.box(canvas.page, x, y, length, height, **how)
    elif symbol == "whisker":
        canvas.line(canvas.page, (x + 0.02, x + 0.20), (y, y), marker="|", markersize=4)


def _draw_section(canvas: Canvas, section: Section, hue: str, *, banded: bool) -> None:
    """Draws a section's background, its coloured edge and its name."""
    page, height = canvas.page, section.height
    middle = section.top + height / 2
    if banded:
        width = canvas.sheet.inner
        canvas.box(page, MARGIN, middle, width, height, facecolor=canvas.palette.band)
    canvas.box(page, MARGIN, middle, 0.045, height - 0.03, facecolor=hue)
    canvas.write_lines(at.SECTION_X, section.name_y, section.name, weight="bold")


def _draw_step(canvas: Canvas, layout: Layout, step: Step, hue: str) -> None:
    """Draws one step: its name, and a row of each table."""
    x, y = layout.columns.label, step.label_y
    canvas.write_lines(x, y, step.label)
    y += len(step.label) * at.LINE
    look = _look(canvas, "second")
    canvas.write_lines(x, y, step.second_label, size=look.size, color=look.color)
    for number, row in enumerate(step.line.rows):
        _draw_row(canvas, layout, row, step.y + number * at.LINE, hue)


def _draw_row(canvas: Canvas, layout: Layout, row: Row, y: float, hue: str) -> None:
    """Draws a bar, or a status instead, and the numbers."""
    look, columns = _look(canvas, row.series), layout.columns
    if row.bar is None:
        _draw_status(canvas, layout, row, y)
    else:
        _draw_bar(canvas, layout, row, y, hue)
    star = at.width("*", look.size) if row.note else 0
    mark = ELSEWHERE if row.elsewhere and layout.marks else ""
    for x, text in (
        (columns.value, row.accuracy),
        (columns.n, str(row.n) if layout.show_n and row.bar is not None else ""),
        (columns.change, row.change),
        (columns.cost + star, row.cost + "*" * bool(row.note)),
    ):
        canvas.write(x, y, text, size=look.size, color=look.color, ha="right")
    for x, text in ((columns.value + at.SPREAD_GAP, row.spread), (columns.change, mark)):
        canvas.write(x, y, text, size=look.size, color=look.color)


def _draw_bar(canvas: Canvas, layout: Layout, row: Row, y: float, hue: str) -> None:
    """Draws a bar, which starts at 0 even if the axis does not, and its whisker."""
    look, name = _look(canvas, row.series), f"{row.series}-{row.step}"
    canvas.box(
        *(canvas.panel, 0, y, row.bar or 0, look.bar),
        facecolor=(look.face or hue) if row.adopted else canvas.palette.paper,
        edgecolor=look.edge or hue,
        linewidth=0.7,
        linestyle="--" if row.status == PARTIAL else "-",
        hatch=None if row.adopted else HATCH,
        gid=f"bar-{name}",
    )
    if row.std is not None:
        how: dict[str, Any] = {"marker": "|", "markersize": look.whisker, "zorder": 4}
        canvas.line(canvas.panel, row.extent, (y, y), halo=1.4, gid=f"whisker-{name}", **how)
    if row.status_text:
        size = canvas.sheet.small
        canvas.write(layout.status_x(row), y, row.status_text, size=size, boxed=True)


def _draw_status(canvas: Canvas, layout: Layout, row: Row, y: float) -> None:
    """Writes a step's status instead of its bar, after a marker at the axis."""
    look, x = _look(canvas, row.series), layout.columns.bars + at.STATUS_X
    mark: dict[str, Any] = {"marker": MARKERS.get(row.status, "x"), "markersize": 3.5}
    mark |= {"linestyle": "none", "markerfacecolor": "none", "color": look.color}
    canvas.line(canvas.front, [x], [y], gid=f"mark-{row.series}-{row.step}", **mark)
    how: dict[str, Any] = {"size": look.size, "color": look.color, "style": "italic"}
    canvas.write(x + 0.08, y, row.status_text, boxed=True, **how)


def _draw_references(canvas: Canvas, layout: Layout) -> None:
    """Draws the references: above the bars, with white between the dashes, and below the texts."""
    for ref in layout.references:
        look = _look(canvas, ref.series)
        small: dict[str, Any] = {"size": canvas.sheet.small, "color": look.color}
        canvas.write(ref.text_x, ref.text_y, ref.text, boxed=True, **small)
        how: dict[str, Any] = {"color": look.color, "linestyle": (0, look.dashes), "zorder": 3}
        x, y = (ref.top1, ref.top1), (ref.top, layout.bottom)
        name = f"reference-{ref.series}"
        canvas.line(canvas.panel, x, y, halo=0, clip_on=False, gid=name, **how)


def _draw_footer(canvas: Canvas, layout: Layout) -> None:
    """Draws the name of the axis, its break, and the footnotes."""
    columns, bottom, sheet = layout.columns, layout.bottom, canvas.sheet
    small: dict[str, Any] = {"size": sheet.small, "color": canvas.palette.grey}
    names = [layout.metric.directed, layout.metric.axis]  # the first for which there is room
    if layout.scale.low > 0:
        names = [f"{name}; the axis starts at {layout.scale.low:g}, not at 0" for name in names]
        for x in (columns.bars - 0.02, columns.bars + 0.02):
            canvas.line(canvas.page, (x - 0.025, x + 0.025), (bottom + 0.03, bottom - 0.03))
    text = next((name for name in names if at.width(name, sheet.small) <= sheet.inner), names[-1])
    half = at.width(text, sheet.small) / 2
    middle = (columns.bars + columns.bars_end) / 2
    middle = min(max(middle, MARGIN + half), sheet.width - MARGIN - half)
    canvas.write(middle, bottom + 0.24, text, ha="center", **small)
    canvas.write_lines(MARGIN, bottom + 0.40, layout.footnotes, step=at.NOTE_LINE, **small)
