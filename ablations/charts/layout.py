"""The layout of the roadmap chart: texts measured and wrapped, columns and rows placed.

Lengths are inches from the top left of the page. Columns and rows are as large as their measured
content, so that nothing is cut; the bars get the remaining width.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from ablations.charts import fonts
from ablations.charts.rows import (
    ELSEWHERE,
    Line,
    Row,
    Scale,
    choose_scale,
    reference_text,
    seeds_legend,
)
from modernize.text import one_line, visible

if TYPE_CHECKING:
    from ablations.metrics import Metric
    from ablations.paper import Reference

SIZE, SMALL, TITLE = 7.0, 6.5, 9.5  # points
PAGE_WIDTH = 170 / 25.4
NARROW = 5.0  # below this, texts are smaller, and names of sections are above their steps
MARGIN = 0.06
GAP = 0.09
COLUMN_GAP = 0.108
SPREAD_GAP = 0.04
CELL_PADDING = 0.05  # after the last column
SECTION_X = MARGIN + GAP
SECTION_WIDTH, LABEL_WIDTH = 0.80, 1.62  # maximum; longer texts are wrapped
LEAST_LABEL, LEAST_BARS = 0.6, 0.6  # minimum of a narrow page
FOR_WORDS = 0.12  # of the bars, to keep a long word of a name in one line
TICK_ROOM = 0.24  # between ticks
SYMBOL = 0.28  # a symbol of the legend and the space after it
STATUS_X = 0.07  # from the axis to a status or a marker

# Line heights.
LINE, TITLE_LINE, LEGEND_LINE, REFERENCE_LINE, NOTE_LINE = 0.125, 0.17, 0.16, 0.135, 0.115
ROW_PADDING = 0.075
MOST_LINES, MOST_NOTE_LINES = 6, 40  # of one text; longer texts are shortened
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

CHANGE = "change"  # a column header


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A page's width in inches, and the sizes of its texts in points."""

    width: float
    size: float
    small: float
    title: float

    @property
    def narrow(self) -> bool:
        """Whether there is no room for a column of sections."""
        return self.width < NARROW

    @property
    def inner(self) -> float:
        """The width between the margins."""
        return self.width - 2 * MARGIN


def sheet_of(width: float | None) -> Sheet:
    """Returns the page of this width in inches; by default of 170 mm."""
    page = width or PAGE_WIDTH
    return Sheet(page, *((6.5, 6.0, 8.0) if page < NARROW else (SIZE, SMALL, TITLE)))


@dataclasses.dataclass(frozen=True)
class Columns:
    """The left edges of names and bars, and the right edges of numbers.

    ``value`` is the edge of the accuracies, ``value_end`` of the standard deviations after them.
    """

    label: float
    bars: float
    bars_end: float
    value: float
    value_end: float
    n: float
    change: float
    cost: float


@dataclasses.dataclass(frozen=True)
class Entry:
    """A text of the legend, after its symbol if it has one."""

    x: float
    y: float
    symbol: str
    text: str


@dataclasses.dataclass(frozen=True)
class Step:
    """A step, its name in lines, and the places of its first row (``y``) and of its name."""

    line: Line
    label: list[str]
    second_label: list[str]
    y: float
    label_y: float


@dataclasses.dataclass(frozen=True)
class Section:
    """Consecutive steps of one section, with its name as one text and in lines."""

    title: str
    name: list[str]
    name_y: float  # of its first line
    top: float
    height: float
    steps: list[Step]


@dataclasses.dataclass(frozen=True)
class ReferenceLine:
    """A reference: its line starts at ``top``, its text is at ``text_x`` and ``text_y``."""

    series: str
    top1: float
    top: float
    text: str
    text_x: float
    text_y: float


@dataclasses.dataclass(frozen=True)
class Layout:
    """The page: the title in lines, and the places of everything below it."""

    sheet: Sheet
    title: list[str]
    legend: list[Entry]
    scale: Scale
    columns: Columns
    metric: Metric  # of the bars
    unit: str  # of the costs
    show_n: bool
    marks: bool  # whether changes that are not from the row above are marked
    sections: list[Section]
    references: list[ReferenceLine]
    top: float  # of the first section
    bottom: float  # of the last
    footnotes: list[str]
    height: float

    def place(self, value: float) -> float:
        """Returns the place of an accuracy on the page."""
        return _place(value, self.scale, self.columns)

    def status_x(self, row: Row) -> float:
        """Returns the left edge of a status: on its bar, or after the bar if that is short."""
        size = width(row.status_text, self.sheet.small)
        start, end = map(self.place, row.extent)
        if self.columns.bars + STATUS_X + size + 0.05 <= start:
            return self.columns.bars + STATUS_X
        return min(end + STATUS_X, self.columns.bars_end - size)


def lay_out(
    lines: Sequence[Line],
    sheet: Sheet,
    *,
    title: str,
    unit: str,
    labels: Mapping[str, str],
    references: Mapping[str, Reference],
) -> Layout:
    """Returns the places of everything.

    Args:
        lines: the steps, in order.
        sheet: the page.
        title: of the chart; may be empty.
        unit: of the costs.
        labels: series -> name of its bars.
        references: series -> its reference.
    """
    rows = [row for line in lines for row in line.rows]
    metric = rows[0].metric
    seeds, show_n = seeds_legend(rows)
    titles = wrap(title, sheet.inner, sheet.title, "bold") if title else []
    head = MARGIN + TITLE_LINE * len(titles) - 0.04 * (not titles)
    legend = _legend(rows, labels, seeds, head + 0.10, sheet)
    legend_lines = len({entry.y for entry in legend})
    top = head + LEGEND_LINE * legend_lines + 0.08 + REFERENCE_LINE * max(1, len(references))
    numbers = _number_columns(rows, (metric.header, unit), show_n, sheet)
    sections = _sections(lines, top, sheet, _label_width(lines, numbers, sheet))
    columns = _with_names(numbers, sections, sheet)
    most = int((columns.bars_end - columns.bars) / TICK_ROOM)
    scale = choose_scale(rows, references.values(), most=min(max(most, 3), 9))
    bottom = sections[-1].top + sections[-1].height
    footnotes = _footnotes(rows, sheet)
    return Layout(
        sheet=sheet,
        title=titles,
        legend=legend,
        scale=scale,
        columns=columns,
        metric=metric,
        unit=unit,
        show_n=show_n,
        marks=_marks(rows),
        sections=sections,
        references=_references(references, scale, columns, top, sheet),
        top=top,
        bottom=bottom,
        footnotes=footnotes,
        height=bottom + 0.31 + NOTE_LINE * len(footnotes) + MARGIN,
    )


# --- text ----------------------------------------------------------------------------------------


def width(text: str, size: float = SIZE, weight: str = "normal") -> float:
    """Returns the width of a line of text."""
    text = visible(text)
    font = FontProperties(family=fonts.families(text), size=size, weight=weight)
    with fonts.quietly():
        points = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return float(points) / 72


def wrap(
    text: str, limit: float, size: float = SIZE, weight: str = "normal", most: int = MOST_LINES
) -> list[str]:
    """Wraps text into lines no wider than the limit: between words, or within a long word.

    A text of more than ``most`` lines is shortened and ends in an ellipsis.
    """
    lines = [""]
    for word in one_line(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if width(longer, size, weight) <= limit:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and width(lines[-1] + letter, size, weight) > limit:
                lines.append("")
            if len(lines) > most:
                return [*lines[: most - 1], _with_ellipsis(lines[most - 1], limit, size, weight)]
            lines[-1] += letter
    return lines


def shorten(text: str, limit: float, size: float = SIZE, weight: str = "normal") -> str:
    """Returns a text in one line no wider than the limit; a shortened one ends in an ellipsis."""
    return wrap(text, limit, size, weight, most=1)[0]


def _with_ellipsis(line: str, limit: float, size: float, weight: str) -> str:
    while line and width(line + ELLIPSIS, size, weight) > limit:
        line = line[:-1].rstrip()
    return line + ELLIPSIS


def _widest(texts: Iterable[str], size: float, weight: str = "normal") -> float:
    return max((width(text, size, weight) for text in texts if text), default=0.0)


def _name(line: Line, limit: float, sheet: Sheet) -> tuple[list[str], list[str]]:
    """Wraps a step's name; of the second table's name only the words that differ."""
    label = wrap(line.main.label, limit, sheet.size)
    if line.second is None or line.second.label == line.main.label:
        return label, []
    ours, theirs = line.main.label.split(), line.second.label.split()
    if len(ours) == len(theirs):
        theirs = [word for word, other in zip(theirs, ours, strict=True) if word != other]
    return label, wrap(" ".join(theirs), limit, sheet.small)


def _footnotes(rows: Sequence[Row], sheet: Sheet) -> list[str]:
    """Returns the footnotes in lines; steps with the same footnote share it."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            names.setdefault(row.note, []).append(row.label)
    texts = [f"* {', '.join(labels)}: {note}" for note, labels in names.items()]
    texts += _footnotes_to_changes(rows)
    return [line for text in texts for line in note_lines(text, sheet)]


def note_lines(text: str, sheet: Sheet) -> list[str]:
    """Returns a note below a chart in lines."""
    return wrap(text, sheet.inner, sheet.small, most=MOST_NOTE_LINES) if text else []


def _footnotes_to_changes(rows: Sequence[Row]) -> list[str]:
    """Returns the baselines of changes that are not from the row above."""
    if not any(row.elsewhere for row in rows):
        return []
    if not _marks(rows):
        return [f"change: from {next(row.baseline_label for row in rows if row.baseline_label)}"]
    bases: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.elsewhere:
            bases.setdefault(row.baseline_label, {})[row.label] = None
    texts = [f"from {base}: {', '.join(labels)}" for base, labels in bases.items()]
    return [f"{ELSEWHERE} change {'; '.join(texts)}"]


def _marks(rows: Sequence[Row]) -> bool:
    """Tells whether changes that are not from the row above are marked; not if all are from one."""
    bases = {row.baseline_label for row in rows if row.baseline_label}
    return any(row.elsewhere for row in rows) and len(bases) > 1


# --- places --------------------------------------------------------------------------------------


def _legend(
    rows: Sequence[Row], labels: Mapping[str, str], seeds: str, y: float, sheet: Sheet
) -> list[Entry]:
    """Places the symbols that the chart uses, in as many lines as they need."""
    used = [(series, labels[series]) for series in dict.fromkeys(row.series for row in rows)]
    if any(row.bar is not None and not row.adopted for row in rows):
        used.append(("hatched", "side branch, not adopted"))
    used.append(("whisker" if any(row.std is not None for row in rows) else "", seeds))
    entries: list[Entry] = []
    x = MARGIN
    for symbol, text in used:
        indent = SYMBOL if symbol else 0.0
        for number, piece in enumerate(
            wrap(text, sheet.inner - indent, sheet.small) if text else []
        ):
            end = x + indent + width(piece, sheet.small)
            if entries and (number or end > sheet.width - MARGIN):
                x, y, end = MARGIN, y + LEGEND_LINE, end - x + MARGIN
            entries.append(Entry(x, y, symbol if number == 0 else "", piece))
            x = end + 2 * GAP
    return entries


def _sections(lines: Sequence[Line], top: float, sheet: Sheet, limit: float) -> list[Section]:
    """Places the steps from top to bottom."""
    row_count = max(len(line.rows) for line in lines)
    sections: list[Section] = []
    for name, group in itertools.groupby(lines, key=lambda line: line.main.section):
        members = [(line, *_name(line, limit, sheet)) for line in group]
        texts = [max(len(label) + len(second), row_count) for _, label, second in members]
        heights = [count * LINE + ROW_PADDING for count in texts]
        across = limit if sheet.narrow else SECTION_WIDTH
        name_lines = wrap(name, across, sheet.size, "bold") if name else []
        name_height = len(name_lines) * LINE
        stretch, steps, y = 1.0, [], top + name_height + 0.04
        if not sheet.narrow or not name:
            stretch, y = max(1.0, (name_height + 0.02) / sum(heights)), top
        for (line, label, second), count, height in zip(members, texts, heights, strict=True):
            middle = y + stretch * height / 2
            first = middle - (count - 1) / 2 * LINE
            steps.append(Step(line, label, second, middle if row_count == 1 else first, first))
            y += stretch * height
        name_y = top + (ROW_PADDING + LINE) / 2  # beside the first of several steps
        if len(steps) == 1 and not sheet.narrow:
            name_y = (top + y - (len(name_lines) - 1) * LINE) / 2
        sections.append(Section(name, name_lines, name_y, top, y - top, steps))
        top = y
    return sections


def _number_columns(
    rows: Sequence[Row], headers: tuple[str, str], show_n: bool, sheet: Sheet
) -> Columns:
    """Places the columns of numbers, from the right edge of the page; the others are 0."""
    header, unit = headers  # of the bars' metric and of the costs
    size, small = sheet.size, sheet.small
    gap = COLUMN_GAP * (0.75 if sheet.narrow else 1)
    star = width("*", size) if any(row.note for row in rows) else 0
    cost = sheet.width - MARGIN - CELL_PADDING - star
    change = cost - max(_widest((row.cost for row in rows), size), width(unit, small)) - gap
    change -= width(ELSEWHERE, size) if _marks(rows) else 0
    n = change - max(_widest((row.change for row in rows), size), width(CHANGE, small)) - gap
    value_end = n - (_widest((str(row.n) for row in rows), size) + gap if show_n else 0)
    spreads = _widest((row.spread for row in rows), size)
    value = value_end - (SPREAD_GAP + spreads if spreads else 0)
    accuracies = _widest((row.accuracy for row in rows), size)
    numbers = min(value - accuracies, value_end - width(header, small))
    return Columns(0, 0, numbers - GAP, value, value_end, n, change, cost)


def _label_width(lines: Sequence[Line], numbers: Columns, sheet: Sheet) -> float:
    """Returns the maximal width of names: as wide as the bars and statuses allow."""
    rows = [row for line in lines for row in line.rows]
    on_bars = (row.status_text for row in rows if row.bar is not None)
    instead = (row.status_text for row in rows if row.bar is None)
    bars = max(LEAST_BARS, STATUS_X + 0.05 + _widest(on_bars, sheet.small))
    status = STATUS_X + 0.1 + _widest(instead, sheet.size)  # may reach into empty cells
    end = min(numbers.bars_end - bars, numbers.change - status)
    section = 0 if sheet.narrow else SECTION_WIDTH + 1.5 * GAP
    room = end - SECTION_X - section - GAP
    words = _widest((word for line in lines for word in line.main.label.split()), sheet.size)
    return min(max(room, min(words, room + FOR_WORDS), LEAST_LABEL), LABEL_WIDTH)


def _with_names(numbers: Columns, sections: Sequence[Section], sheet: Sheet) -> Columns:
    """Adds the columns of names and bars."""
    names = _widest((text for s in sections for text in s.name), sheet.size, "bold")
    texts = (t for s in sections for step in s.steps for t in (*step.label, *step.second_label))
    widest, label = _widest(texts, sheet.size), SECTION_X
    if sheet.narrow:
        widest = max(widest, names)
    elif names:
        label += names + 1.5 * GAP
    return dataclasses.replace(numbers, label=label, bars=label + widest + GAP)


def _references(
    references: Mapping[str, Reference],
    scale: Scale,
    columns: Columns,
    top: float,
    sheet: Sheet,
) -> list[ReferenceLine]:
    """Places the references; the text of the rightmost is at the top, clear of the others."""
    lines = []
    for level, (series, reference) in enumerate(
        sorted(references.items(), key=lambda item: item[1].top1)
    ):
        text = reference_text(reference)
        if width(text, sheet.small) > columns.bars_end - MARGIN:
            text = shorten(text, columns.bars_end - MARGIN, sheet.small)
        y = top - 0.085 - REFERENCE_LINE * level
        left = _place(reference.top1, scale, columns) - 0.05 - width(text, sheet.small)
        above = y - 0.04 if left >= MARGIN else y + 0.06  # not through its own text
        lines.append(ReferenceLine(series, reference.top1, above, text, max(left, MARGIN), y))
    return lines


def _place(value: float, scale: Scale, columns: Columns) -> float:
    share = (value - scale.low) / (scale.high - scale.low)
    return columns.bars + share * (columns.bars_end - columns.bars)
