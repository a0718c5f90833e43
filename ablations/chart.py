"""The roadmap as a picture: bars of accuracy by step, and beside them what each step costs.

:func:`draw` takes a summary (one row a step, see :data:`COLUMNS`) and returns a figure;
:func:`save` writes it. Everything is laid out in inches on one page from the measured size of each
text, so that rows and columns grow with what stands in them and nothing is cut.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from ablations.paper import Reference
from modernize.errors import RoadmapError, UnknownNameError, UsageError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("step", "label", "n", "top1", "top1_std", "gflops"),
    *("status", "section", "adopted", "parent"),
)
"""What a table must have; further columns are ignored.

``n`` is how many seeds finished, ``top1`` their mean and ``top1_std`` their sample deviation in
percent (NaN: none), ``gflops`` in 1e9 multiply-accumulates, ``parent`` the step that a change is
measured from (empty: none), ``adopted`` False for a side branch.
"""

DRAWN = ("finished", "partial")
MARKERS: Mapping[str, str] = {
    "missing": "o",
    "running": ">",
    "failed": "x",
    "diverged": "x",
    "collapsed": "x",
}
"""What stands in place of a bar, beside the word; the keys and :data:`DRAWN` are all statuses."""

SUFFIXES = (".png", ".svg", ".pdf")
PNG_DPI = 200

# Inches.
PAGE_WIDTH = 170 / 25.4
MARGIN = 0.06
GAP = 0.09
LINE = 0.125  # from one line of text to the next
ROW_PADDING = 0.075
BAR, SECOND_BAR = 0.115, 0.062
SECTION_WIDTH, LABEL_WIDTH = 0.80, 1.62  # at most; longer texts wrap

# Points.
SIZE, SMALL, TITLE = 7.0, 6.5, 9.5

INK, GREY, RULE, BAND = "#1a1a1a", "#5c5c5c", "#d9d9d9", "#f5f5f3"
SECOND_FACE, SECOND_EDGE = "#c4c4c4", "#7d7d7d"
HATCH = "//////"
# Neighbours differ in hue and in lightness, to every kind of colour vision and on paper.
HUES = ("#4a5f7f", "#6fa3c8", "#2f7f86", "#8fb98a", "#8a6d24", "#cf8558", "#8c4a5c")

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "text.usetex": False,
    "axes.unicode_minus": True,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "hatch.linewidth": 0.8,
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "roadmap",
}
"""Laid over whatever settings the process has, while drawing and while saving."""


def draw(
    table: pd.DataFrame,
    *,
    title: str,
    reference: Reference | None = None,
    second: pd.DataFrame | None = None,
    second_label: str = "",
    label: str = "",
    second_reference: Reference | None = None,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draws a roadmap, top to bottom, 170 mm wide and as high as it needs to be.

    Args:
        table: the summary whose steps are the main bars, in order.
        title: stands above the chart.
        reference: a vertical line to hold the bars against.
        second: another summary, as thin grey bars beneath; matched by step.
        second_label: what the grey bars are.
        label: what the main bars are.
        second_reference: a grey vertical line.
        notes: step -> a footnote to its GFLOPs in ``table``; steps that are not drawn are ignored.

    Raises:
        UsageError: for a table without rows or with a column missing.
        UnknownNameError: for a status that is not one of those that a summary has.
    """
    lines = _pair(_rows(table), _rows(second) if second is not None else [])
    with mpl.rc_context(STYLE):
        return _Chart(
            lines,
            title=title,
            labels=(label, second_label),
            references=(reference, second_reference),
            notes=notes or {},
        ).draw()


def save(figure: Figure, path: str | Path) -> Path:
    """Writes a figure as PNG (200 dpi), SVG or PDF, by the suffix; the same figure, the same bytes.

    Returns:
        The path.

    Raises:
        UsageError: for another suffix.
        RoadmapError: when the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"cannot draw to {str(path)!r}: its suffix is {path.suffix!r}. "
            f"Valid: {', '.join(SUFFIXES)}."
        )
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            figure.savefig(path, format=suffix[1:], dpi=PNG_DPI, metadata=metadata)
    except OSError as error:
        raise RoadmapError(f"cannot write the chart {str(path)!r}: {error}.") from error
    return path


# --- what is drawn -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Row:
    """One row of a summary; None stands for its NaN."""

    step: str
    label: str
    section: str
    adopted: bool
    parent: str
    status: str
    n: int
    top1: float | None
    std: float | None
    gflops: float | None

    @property
    def has_bar(self) -> bool:
        """Whether its accuracy is one to compare."""
        return self.status in DRAWN and self.top1 is not None

    @property
    def word(self) -> str:
        """Says what became of it, where the bar does not: "" for a finished step."""
        if self.status in DRAWN and self.top1 is None:
            return f"{self.status}, no accuracy recorded"
        if self.status == "partial":
            return f"partial, {self.n} seed{'s' * (self.n != 1)}"
        if self.status in ("collapsed", "diverged") and self.top1 is not None:
            return f"{self.status} at {self.top1:.1f} %"
        return "" if self.status == "finished" else self.status


@dataclasses.dataclass(frozen=True)
class _Line:
    """One step of the chart: a row of the main table, and of the second where it has the step."""

    main: _Row
    second: _Row | None


def _rows(table: pd.DataFrame) -> list[_Row]:
    """Reads a summary."""
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise UsageError(
            f"cannot draw a table without the column{'s' * (len(missing) > 1)} "
            f"{', '.join(missing)}. It needs: {', '.join(COLUMNS)}."
        )
    if not len(table):
        raise UsageError("cannot draw a table without rows; give it at least one step.")
    rows = [_row(record) for record in table.to_dict("records")]
    steps = [row.step for row in rows]
    twice = sorted({step for step in steps if steps.count(step) > 1})
    if twice:
        raise UsageError(f"cannot draw a step twice: {', '.join(twice)}; give each its own key.")
    for row in rows:
        if row.status not in (*DRAWN, *MARKERS):
            raise UnknownNameError("status", row.status, (*DRAWN, *MARKERS))
    return rows


def _row(record: Mapping[Any, Any]) -> _Row:
    return _Row(
        step=str(record["step"]),
        label=" ".join((_text(record["label"]) or str(record["step"])).split()),
        section=" ".join(_text(record["section"]).split()),
        adopted=bool(record["adopted"]),
        parent=_text(record["parent"]),
        status=str(record["status"]),
        n=int(_finite(record["n"]) or 0),
        top1=_finite(record["top1"]),
        std=_finite(record["top1_std"]),
        gflops=_finite(record["gflops"]),
    )


def _text(value: Any) -> str:
    """Returns a cell as text; None and NaN are empty."""
    return value if isinstance(value, str) else ""


def _finite(value: Any) -> float | None:
    """Returns a cell as a number; None, NaN and infinity are None."""
    number = math.nan if value is None or value != value else float(value)
    return number if math.isfinite(number) else None


def _pair(rows: Sequence[_Row], second: Sequence[_Row]) -> list[_Line]:
    """Matches two tables by step; a step that only the second has is missing in the first."""
    partners = {row.step: row for row in second}
    lines = [_Line(row, partners.get(row.step)) for row in rows]
    place = 0
    for row in second:
        steps = [line.main.step for line in lines]
        if row.step not in steps:
            absent = dataclasses.replace(
                row, status="missing", n=0, top1=None, std=None, gflops=None
            )
            lines.insert(place, _Line(absent, row))
        place = [line.main.step for line in lines].index(row.step) + 1
    return lines


def _changes(rows: Sequence[_Row]) -> dict[str, str]:
    """Returns step -> the signed change of accuracy from its parent, in percentage points."""
    bars = {row.step: row.top1 for row in rows if row.has_bar and row.top1 is not None}
    return {
        row.step: _signed(bars[row.step] - bars[row.parent])
        for row in rows
        if row.step in bars and row.parent in bars
    }


def _signed(value: float) -> str:
    """Returns a number with two decimals and its sign, a true minus; nothing has no sign."""
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _seeds(rows: Sequence[_Row]) -> tuple[str, bool]:
    """Returns what may be said of the seeds, and whether each row has to state its own number."""
    bars = [row for row in rows if row.has_bar]
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


def _decimals(rows: Sequence[_Row | Reference]) -> int:
    """Returns how many decimals show the least of some GFLOPs to three digits; 2 at least."""
    least = min((row.gflops for row in rows if row.gflops and row.gflops > 0), default=1.0)
    return max(2, 2 - math.floor(math.log10(least)))


@dataclasses.dataclass(frozen=True)
class _Scale:
    """The accuracy axis, in percent."""

    low: float
    high: float
    tick: float


def _scale(rows: Sequence[_Row], references: Sequence[Reference | None]) -> _Scale:
    """Chooses an axis from the bars and the references alone; at 0 unless that hides the rest."""
    ends: list[float] = []
    for row in rows:
        if row.has_bar and row.top1 is not None:
            ends += [row.top1 - (row.std or 0.0), row.top1 + (row.std or 0.0)]
    if not ends:
        return _Scale(0.0, 100.0, 20.0)
    ends += [ref.top1 for ref in references if ref is not None]
    span = max(max(ends) - min(ends), 1.0)
    tick = next((t for t in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0) if span * 1.2 / t <= 9), 50.0)
    low = tick * math.floor((min(ends) - 0.12 * span) / tick)
    high = max(ends) + 0.04 * span
    if low < 0.4 * high:
        low = 0.0
    return _Scale(low, min(high, 100.0), tick)


# --- how it is laid out --------------------------------------------------------------------------


class _Ruler:
    """Measures and breaks text, in inches."""

    def width(self, text: str, size: float = SIZE, weight: str = "normal") -> float:
        font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
        points = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
        return float(points) / 72

    def widest(self, texts: Sequence[str], size: float = SIZE, weight: str = "normal") -> float:
        return max((self.width(text, size, weight) for text in texts if text), default=0.0)

    def wrap(
        self, text: str, limit: float, size: float = SIZE, weight: str = "normal"
    ) -> list[str]:
        """Breaks text into lines no wider than the limit: between words, else within one."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if self.width(longer, size, weight) <= limit:
                lines[-1] = longer
                continue
            if lines[-1]:
                lines.append("")
            for letter in word:
                if lines[-1] and self.width(lines[-1] + letter, size, weight) > limit:
                    lines.append("")
                lines[-1] += letter
        return lines


@dataclasses.dataclass(frozen=True)
class _Label:
    """The name of a step in lines, the second table's own part of it apart."""

    main: list[str]
    second: list[str]

    @property
    def lines(self) -> int:
        return len(self.main) + len(self.second)


@dataclasses.dataclass(frozen=True)
class _Group:
    """Neighbouring lines of one section."""

    name: list[str]
    lines: list[int]
    hue: str


class _Chart:
    """Lays out and draws one chart; lengths are inches from the top left of the page."""

    def __init__(
        self,
        lines: Sequence[_Line],
        *,
        title: str,
        labels: tuple[str, str],
        references: tuple[Reference | None, Reference | None],
        notes: Mapping[str, str],
    ) -> None:
        self.lines, self.labels, self.references = lines, labels, references
        self.ruler = _Ruler()
        self.main = [line.main for line in lines]
        self.second = [line.second for line in lines if line.second is not None]
        self.rows = [*self.main, *self.second]
        self.changes = (_changes(self.main), _changes(self.second))
        self.seeds, self.show_n = _seeds(self.rows)
        self.scale = _scale(self.rows, references)
        noted = [row.step for row in self.main if row.step in notes and row.gflops is not None]
        self.notes = {step: notes[step] for step in noted}
        self.decimals = (_decimals(self.main), _decimals(self.second))
        self.title = self.ruler.wrap(title, PAGE_WIDTH - 2 * MARGIN, TITLE, "bold")
        self._set_columns()
        self._set_rows()

    def draw(self) -> Figure:
        """Draws every part, from the top of the page to its foot."""
        figure = Figure(figsize=(PAGE_WIDTH, self.height), dpi=PNG_DPI)
        FigureCanvasAgg(figure)
        self.page = self._add_page(figure)
        self.panel = self._add_panel(figure)
        self.front = self._add_page(figure)
        self._draw_head()
        self._draw_sections()
        for index in range(len(self.lines)):
            self._draw_line(index)
        self._draw_references()
        self._draw_foot()
        return figure

    # Measures ------------------------------------------------------------------------------------

    def _set_columns(self) -> None:
        """Places the columns, from the page's edges inwards; the bars get what is left."""
        ruler = self.ruler
        names = [line.main.section for line in self.lines]
        hues = dict(zip(dict.fromkeys(names), itertools.cycle(HUES), strict=False))
        self.groups = [
            _Group(ruler.wrap(name, SECTION_WIDTH, SIZE, "bold"), list(lines), hues[name])
            for name, lines in itertools.groupby(range(len(names)), key=names.__getitem__)
        ]
        self.hues = [group.hue for group in self.groups for _ in group.lines]
        self.step_labels = [self._label(line) for line in self.lines]

        self.section_x = MARGIN + 0.09
        widest = max(ruler.widest(group.name, SIZE, "bold") for group in self.groups)
        self.label_x = self.section_x + widest + (1.5 * GAP if widest else 0)
        widest = max(ruler.widest([*label.main, *label.second]) for label in self.step_labels)
        self.panel_x = self.label_x + widest + GAP

        # Right edges of right-aligned columns, but for the deviations, which have a left edge.
        self.star = ruler.width("*")
        cells = [self._cost(row, 0) for row in self.main]
        cells += [self._cost(row, 1) for row in self.second]
        self.cost_x = PAGE_WIDTH - MARGIN - (self.star if self.notes else 0.02)
        change_x = self.cost_x - max(ruler.widest(cells), ruler.width("GFLOPs", SMALL))
        self.change_x = change_x - 1.2 * GAP
        cells = [text for changes in self.changes for text in changes.values()]
        self.n_x = self.change_x - max(ruler.widest(cells), ruler.width("change", SMALL))
        self.n_x -= 1.2 * GAP
        widest = ruler.widest([str(row.n) for row in self.rows]) if self.show_n else 0
        deviations_end = self.n_x - (widest + 1.2 * GAP if widest else 0)
        cells = [self._deviation(row) for row in self.rows]
        self.deviation_x = deviations_end - ruler.widest(cells)
        self.top1_x = self.deviation_x - (0.04 if any(cells) else 0)
        widest = ruler.widest([f"{row.top1:.2f}" for row in self.rows if row.has_bar])
        header = ruler.width("top-1 (%)", SMALL)
        self.header_x = deviations_end
        numbers_x = min(self.top1_x - widest, self.header_x - header)
        self.panel_end = numbers_x - GAP

    def _set_rows(self) -> None:
        """Places the lines, from the top of the page down."""
        refs = sum(ref is not None for ref in self.references)
        self.legend = self._flow(self._legend())
        self.head_y = MARGIN + 0.17 * len(self.title) + (0.16 * len(self.legend) + 0.03)
        self.rows_y = self.head_y + 0.05 + 0.135 * max(1, refs)
        heights = [
            max(label.lines, 2 if self.second else 1) * LINE + ROW_PADDING
            for label in self.step_labels
        ]
        for group in self.groups:
            need = (len(group.name) * LINE + 0.02) / sum(heights[i] for i in group.lines)
            for i in group.lines:
                heights[i] *= max(1.0, need)
        self.heights = heights
        self.tops = [self.rows_y + above for above in itertools.accumulate([0, *heights[:-1]])]
        self.rows_end = self.tops[-1] + heights[-1]
        self.footnotes = self._footnotes()
        self.height = self.rows_end + 0.31 + 0.115 * len(self.footnotes) + MARGIN

    def _label(self, line: _Line) -> _Label:
        """Breaks a step's name; of the second table's name only the words that differ."""
        main = self.ruler.wrap(line.main.label, LABEL_WIDTH)
        if line.second is None or line.second.label == line.main.label:
            return _Label(main, [])
        ours, theirs = line.main.label.split(), line.second.label.split()
        if len(ours) == len(theirs):
            theirs = [word for word, other in zip(theirs, ours, strict=True) if word != other]
        return _Label(main, self.ruler.wrap(" ".join(theirs), LABEL_WIDTH, SMALL))

    def _cost(self, row: _Row, which: int) -> str:
        return "\N{EN DASH}" if row.gflops is None else f"{row.gflops:.{self.decimals[which]}f}"

    def _deviation(self, row: _Row) -> str:
        return f"± {row.std:.2f}" if row.has_bar and row.std is not None else ""

    def _footnotes(self) -> list[str]:
        """Returns the footnotes in lines; steps that share one are named together."""
        names: dict[str, list[str]] = {}
        for row in self.main:
            if row.step in self.notes:
                names.setdefault(self.notes[row.step], []).append(row.label)
        texts = [f"* {', '.join(labels)}: {note}" for note, labels in names.items()]
        limit = PAGE_WIDTH - 2 * MARGIN
        return [line for text in texts for line in self.ruler.wrap(text, limit, SMALL)]

    def _legend(self) -> list[tuple[str, str]]:
        """Returns (kind of glyph, text) of every sign that the chart uses."""
        entries = [("main", self.labels[0])]
        if self.second:
            entries.append(("second", self.labels[1]))
        if any(not row.adopted and row.has_bar for row in self.rows):
            entries.append(("hatched", "side branch, not adopted"))
        whiskers = any(row.has_bar and row.std is not None for row in self.rows)
        entries.append(("whisker" if whiskers else "", self.seeds))
        return [(kind, text) for kind, text in entries if text]

    def _flow(self, entries: Sequence[tuple[str, str]]) -> list[list[tuple[float, str, str]]]:
        """Sets legend entries one after the other: lines of (left edge, glyph, text)."""
        lines: list[list[tuple[float, str, str]]] = []
        x = PAGE_WIDTH
        for kind, text in entries:
            limit = PAGE_WIDTH - 2 * MARGIN - (0.28 if kind else 0)
            for part, piece in enumerate(self.ruler.wrap(text, limit, SMALL)):
                glyph = kind if part == 0 else ""
                width = self.ruler.width(piece, SMALL) + (0.28 if kind else 0)
                if part or x + width > PAGE_WIDTH - MARGIN:
                    lines.append([])
                    x = MARGIN
                lines[-1].append((x, glyph, piece))
                x += width + 2 * GAP
        return lines

    # Ink -----------------------------------------------------------------------------------------

    def _add_page(self, figure: Figure) -> Axes:
        """Adds axes over the whole page: inches across, inches down."""
        page = figure.add_axes((0, 0, 1, 1), xlim=(0, PAGE_WIDTH), ylim=(self.height, 0))
        page.set_axis_off()
        return page

    def _add_panel(self, figure: Figure) -> Axes:
        """Adds the axes of the bars: percent across, inches of the page down."""
        width, height = self.panel_end - self.panel_x, self.rows_end - self.rows_y
        box = (
            self.panel_x / PAGE_WIDTH,
            1 - self.rows_end / self.height,
            width / PAGE_WIDTH,
            height / self.height,
        )
        panel = figure.add_axes(
            box,
            xlim=(self.scale.low, self.scale.high),
            ylim=(self.rows_end, self.rows_y),
            facecolor="none",
            axisbelow=True,
        )
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.spines["left"].set(color=INK, linewidth=0.8)
        panel.set_yticks([])
        count = math.floor((self.scale.high - self.scale.low) / self.scale.tick + 1e-9)
        ticks = [self.scale.low + i * self.scale.tick for i in range(count + 1)]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=SMALL, color=GREY)
        panel.tick_params(axis="x", length=0, pad=3)
        panel.grid(axis="x", color=RULE, linewidth=0.5)
        return panel

    def _write(
        self, x: float, y: float, text: str, *, size: float = SIZE, color: str = INK, **how: Any
    ) -> None:
        """Writes one line of text, centred on y, before everything else."""
        if text:
            how = {"va": "center_baseline", "parse_math": False, **how}
            self.front.text(x, y, text, fontsize=size, color=color, **how)

    def _write_boxed(self, x: float, y: float, text: str, **how: Any) -> None:
        """Writes on a white ground, to be read above bars and lines."""
        box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
        self._write(x, y, text, bbox=box, **{"size": SMALL, **how})

    def _draw_head(self) -> None:
        """Draws the title, the legend and the names of the columns."""
        for i, text in enumerate(self.title):
            self._write(MARGIN, MARGIN + 0.08 + 0.17 * i, text, size=TITLE, weight="bold")
        y = MARGIN + 0.17 * len(self.title) + 0.10
        for i, entries in enumerate(self.legend):
            for x, kind, text in entries:
                self._draw_glyph(kind, x, y + 0.16 * i)
                self._write(x + (0.28 if kind else 0), y + 0.16 * i, text, size=SMALL)
        y = self.rows_y - 0.085
        for x, text in (
            (self.header_x, "top-1 (%)"),
            (self.n_x, "n" if self.show_n else ""),
            (self.change_x, "change"),
            (self.cost_x, "GFLOPs"),
        ):
            self._write(x, y, text, size=SMALL, color=GREY, ha="right")

    def _draw_glyph(self, kind: str, x: float, y: float) -> None:
        """Draws the sign of a legend entry."""
        if kind == "whisker":
            self._add_line([x + 0.02, x + 0.20], [y, y], marker="|", markersize=4)
        elif kind == "main":  # the colours of the sections
            hues = list(dict.fromkeys(self.hues))[:4]
            for i, hue in enumerate(hues):
                width = 0.22 / len(hues)
                self._add_box(x + i * width, y - 0.045, width, 0.09, facecolor=hue)
        elif kind == "second":
            look = {"facecolor": SECOND_FACE, "edgecolor": SECOND_EDGE, "linewidth": 0.6}
            self._add_box(x, y - SECOND_BAR / 2, 0.22, SECOND_BAR, **look)
        elif kind == "hatched":
            look = {"facecolor": "white", "edgecolor": GREY, "hatch": HATCH, "linewidth": 0.6}
            self._add_box(x, y - 0.045, 0.22, 0.09, **look)

    def _add_box(self, x: float, y: float, width: float, height: float, **how: Any) -> None:
        """Adds a rectangle to the page by its top left corner."""
        self.page.add_patch(Rectangle((x, y), width, height, **{"linewidth": 0.0, **how}))

    def _add_line(
        self, x: Sequence[float], y: Sequence[float], axes: Axes | None = None, **how: Any
    ) -> None:
        """Adds a thin line to the page, or to other axes."""
        how = {"color": INK, "linewidth": 0.8, **how}
        (axes or self.page).add_line(Line2D(list(x), list(y), **how))

    def _draw_sections(self) -> None:
        """Draws a band and a coloured edge behind each section, and its name."""
        for number, group in enumerate(self.groups):
            top = self.tops[group.lines[0]]
            height = sum(self.heights[i] for i in group.lines)
            if number % 2 == 0:
                width = PAGE_WIDTH - 2 * MARGIN
                self._add_box(MARGIN, top, width, height, facecolor=BAND)
            self._add_box(MARGIN, top + 0.015, 0.045, height - 0.03, facecolor=group.hue)
            middle = top + (ROW_PADDING + len(group.name) * LINE) / 2  # beside its first line
            if len(group.lines) == 1:
                middle = top + height / 2
            self._write_lines(self.section_x, middle, group.name, weight="bold")

    def _write_lines(self, x: float, middle: float, lines: Sequence[str], **how: Any) -> None:
        """Writes lines one beneath the other, centred on a height."""
        for i, text in enumerate(lines):
            self._write(x, middle + (i - (len(lines) - 1) / 2) * LINE, text, **how)

    def _draw_line(self, index: int) -> None:
        """Draws one step: its name, its bars, its numbers."""
        line, label = self.lines[index], self.step_labels[index]
        middle = self.tops[index] + self.heights[index] / 2
        if not self.second:
            self._write_lines(self.label_x, middle, label.main)
            self._draw_row(line.main, middle, 0, self.hues[index])
            return
        first = middle - (max(label.lines, 2) - 1) / 2 * LINE
        for i, text in enumerate(label.main):
            self._write(self.label_x, first + i * LINE, text)
        for i, text in enumerate(label.second, len(label.main)):
            self._write(self.label_x, first + i * LINE, text, size=SMALL, color=GREY)
        self._draw_row(line.main, first, 0, self.hues[index])
        if line.second is not None:
            self._draw_row(line.second, first + LINE, 1, "")

    def _draw_row(self, row: _Row, y: float, which: int, hue: str) -> None:
        """Draws one row of one table: a bar or what became of it, and the numbers."""
        size, color = ((SIZE, INK), (SMALL, GREY))[which]
        name = f"{('main', 'second')[which]}-{row.step}"
        if row.has_bar and row.top1 is not None:
            self._draw_bar(row, y, which, hue, name)
            self._write(self.top1_x, y, f"{row.top1:.2f}", size=size, color=color, ha="right")
            self._write(self.deviation_x, y, self._deviation(row), size=size, color=color)
        else:
            self._draw_word(row, y, size, color, name)
        if self.show_n and row.has_bar:
            self._write(self.n_x, y, str(row.n), size=size, color=color, ha="right")
        change = self.changes[which].get(row.step, "")
        self._write(self.change_x, y, change, size=size, color=color, ha="right")
        starred = which == 0 and row.step in self.notes
        x = self.cost_x + (self.star if starred else 0)
        cost = self._cost(row, which) + "*" * starred
        self._write(x, y, cost, size=size, color=color, ha="right")

    def _draw_bar(self, row: _Row, y: float, which: int, hue: str, name: str) -> None:
        """Draws a bar from 0, of which the axis shows the end, and its whisker."""
        face, edge = ((hue, hue), (SECOND_FACE, SECOND_EDGE))[which]
        height = (BAR, SECOND_BAR)[which]
        bar = self.panel.barh(
            y,
            row.top1 or 0.0,
            height,
            facecolor=face if row.adopted else "white",
            edgecolor=edge,
            linewidth=0.7,
            linestyle="--" if row.status == "partial" else "-",
            hatch=None if row.adopted else HATCH,
        )
        bar[0].set_gid(f"bar-{name}")
        if row.top1 is not None and row.std is not None:
            ends = [row.top1 - row.std, row.top1 + row.std]
            look: dict[str, Any] = {"marker": "|", "markersize": (5, 3)[which], "zorder": 3}
            halo = {"color": "white", "linewidth": 2.2, "markeredgewidth": 2.4}
            self._add_line(ends, [y, y], self.panel, **look, **halo)
            self._add_line(ends, [y, y], self.panel, **look, gid=f"whisker-{name}")
        if row.word:
            self._draw_remark(row, y)

    def _draw_remark(self, row: _Row, y: float) -> None:
        """Writes a word upon a bar, or behind its end where it is too short."""
        width = self.ruler.width(row.word, SMALL)
        start, end = (self._place((row.top1 or 0.0) + sign * (row.std or 0.0)) for sign in (-1, 1))
        x = self.panel_x + 0.07
        if width + 0.12 > start - self.panel_x:
            x = min(end + 0.07, self.panel_end - width)
        self._write_boxed(x, y, row.word, color=INK)

    def _place(self, top1: float) -> float:
        """Returns where on the page an accuracy in percent lies."""
        share = (top1 - self.scale.low) / (self.scale.high - self.scale.low)
        return self.panel_x + share * (self.panel_end - self.panel_x)

    def _draw_word(self, row: _Row, y: float, size: float, color: str, name: str) -> None:
        """Writes what became of a step in place of its bar, behind a mark at the axis."""
        look: dict[str, Any] = {"marker": MARKERS.get(row.status, "x"), "markersize": 3.5}
        look |= {"linestyle": "none", "markerfacecolor": "none", "color": color}
        self._add_line([self.panel_x + 0.07], [y], self.front, gid=f"mark-{name}", **look)
        self._write_boxed(self.panel_x + 0.15, y, row.word, size=size, color=color, style="italic")

    def _draw_references(self) -> None:
        """Draws the references; the label of the rightmost stands highest, clear of the others."""
        found = [(ref, which) for which, ref in enumerate(self.references) if ref is not None]
        found.sort(key=lambda item: (item[0].top1, item[1]))
        for level, (ref, which) in enumerate(found):
            x = self._place(ref.top1)
            y = self.rows_y - 0.085 - 0.135 * level
            text = f"{ref.label}  {ref.top1:.2f} %, {ref.gflops:.{_decimals([ref])}f} G"
            left = x - 0.05 - self.ruler.width(text, SMALL)
            fits = left >= MARGIN
            self._write_boxed(left if fits else MARGIN, y, text, color=(INK, GREY)[which])
            name = f"reference-{('main', 'second')[which]}"
            color, dashes = ((INK, (0, (5, 2))), (SECOND_EDGE, (0, (1.5, 1.2))))[which]
            look: dict[str, Any] = {"color": color, "linestyle": dashes, "linewidth": 1.0}
            top = y - 0.04 if fits else y + 0.06
            self._add_line([x, x], [top, self.rows_end], gid=name, **look)

    def _draw_foot(self) -> None:
        """Draws the name of the axis, the break in it, and the footnotes."""
        text = "top-1 accuracy (%)"
        if self.scale.low > 0:
            text += f"; the axis starts at {self.scale.low:g}, not at 0"
            for x in (self.panel_x - 0.02, self.panel_x + 0.02):
                self._add_line([x - 0.025, x + 0.025], [self.rows_end + 0.03, self.rows_end - 0.03])
        middle = (self.panel_x + self.panel_end) / 2
        half = self.ruler.width(text, SMALL) / 2
        middle = min(max(middle, MARGIN + half), PAGE_WIDTH - MARGIN - half)
        y = self.rows_end + 0.24
        self._write(middle, y, text, size=SMALL, color=GREY, ha="center")
        for i, note in enumerate(self.footnotes):
            self._write(MARGIN, y + 0.16 + 0.115 * i, note, size=SMALL, color=GREY)
