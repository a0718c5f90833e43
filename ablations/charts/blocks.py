"""Pictures of blocks beside each other, as in the paper's Figures 3 and 4.

A block runs from top to bottom: a box for each convolution, the layers after it beside the line
below, the shortcut at the right. What differs from the network that it is compared with has a thick
outline or bold letters; removed layers are struck out. So a picture needs no colour.

Lengths are inches from the top left of the page.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from ablations.charts.colors import Palette, blend
from ablations.charts.layout import shorten, width, wrap
from ablations.charts.settings import ChartSettings
from ablations.diagrams.blocks import BlockDiagram, was
from modernize.diagram import DEPTHWISE, Change, Difference, Kind
from modernize.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE, SMALL, SMALLEST, TITLE = 7.0, 6.0, 5.0, 8.0  # points
NARROWEST, USUAL = 1.58, 1.9  # widths of a block with its gap
MOST = 6  # blocks in a row, if no width is given
MARGIN, GAP = 0.06, 0.14  # around the page; between two blocks
LINE, SMALL_LINE = 0.125, 0.105  # heights of lines of text
BOX, SPACE = 0.2, 0.13  # height of a box of one line; the least space between two
RAIL = 0.16  # from the boxes to the shortcut
_GROUPED = re.compile(r"(?<=\d),(?=\d{3})")  # 1,024 as in the paper: 1024
_SIZES = re.compile(r"(\d ?)x(?= ?\d)")


@dataclasses.dataclass(frozen=True)
class _Pen:
    """Draws on a page in the colours of a palette."""

    page: Axes
    palette: Palette
    fill: str  # of the k x k convolution's box

    def line(self, *points: tuple[float, float], **how: Any) -> None:
        x, y = zip(*points, strict=True)
        how = {"color": self.palette.ink, "linewidth": 0.8, "solid_capstyle": "butt", **how}
        self.page.add_line(Line2D(x, y, **how))

    def arrow(self, x: float, y: float, towards: tuple[float, float]) -> None:
        """Draws an arrowhead that ends at a point."""
        dx, dy = (0.055 * part for part in towards)
        base = (x - dx, y - dy)
        half = (-dy * 0.45, dx * 0.45)
        corners = [(x, y), (base[0] + half[0], base[1] + half[1]),
                   (base[0] - half[0], base[1] - half[1])]  # fmt: skip
        self.page.add_patch(Polygon(corners, facecolor=self.palette.ink, linewidth=0, zorder=3))

    def write(self, x: float, y: float, text: str, size: float = SIZE, **how: Any) -> None:
        """Writes one line of text centred on ``y``."""
        how = {"color": self.palette.ink, "va": "center_baseline", "zorder": 4, **how}
        self.page.text(x, y, text, fontsize=size, **how)


def draw(
    diagrams: Sequence[BlockDiagram], title: str = "", settings: ChartSettings | None = None
) -> Figure:
    """Returns a picture of blocks, in rows as wide as the page.

    Args:
        diagrams: the blocks.
        title: above them.
        settings: of the picture; its width is that of the page, at least 1.6 inches for a block.
    """
    settings = settings or ChartSettings()
    count = len(diagrams)
    page_width = settings.width or (count * USUAL if count < 4 else min(count, MOST) * NARROWEST)
    columns = max(min(int((page_width + 0.03) / NARROWEST), len(diagrams)), 1)
    room = (page_width - 2 * MARGIN + GAP) / columns - GAP
    with settings.context():
        blocks = [_Block(diagram, room) for diagram in diagrams]
        rows = [blocks[i : i + columns] for i in range(0, len(blocks), columns)]
        heading = (
            wrap(one_line(title), page_width - 2 * MARGIN, TITLE + 1, "bold")
            if title and settings.title
            else []
        )
        legend = wrap(_legend(diagrams), page_width - 2 * MARGIN, SMALL)
        top = MARGIN + 0.17 * len(heading) + 0.06 * bool(heading)
        figure = Figure(facecolor=settings.palette.paper)
        FigureCanvasAgg(figure)
        page = figure.add_axes((0, 0, 1, 1))
        page.set_axis_off()
        base = "#161719" if settings.dark else "#ffffff"
        pen = _Pen(page, settings.palette, blend(settings.palette.hues[1], base, 0.5))
        for number, text in enumerate(heading):
            pen.write(MARGIN, MARGIN + 0.08 + 0.17 * number, text, TITLE + 1, fontweight="bold")
        for row in rows:
            lefts = (MARGIN + column * (room + GAP) for column in range(len(row)))
            top += max(block.draw(pen, x, top) for block, x in zip(row, lefts, strict=True)) + GAP
        for number, text in enumerate(legend):
            y = top - GAP + MARGIN + SMALL_LINE * (number + 0.5)
            pen.write(MARGIN, y, text, SMALL, color=settings.palette.grey)
        height = top - GAP + SMALL_LINE * len(legend) + 2 * MARGIN
        figure.set_size_inches(page_width, height)
        page.set(xlim=(0, page_width), ylim=(height, 0))
    return figure


def _legend(diagrams: Sequence[BlockDiagram]) -> str:
    """Returns the meaning of the marks that occur."""
    changes = {d.change for diagram in diagrams for d in diagram.differences}
    layers = [d.layer for diagram in diagrams for d in diagram.differences]
    meanings = ["d: depthwise."] * any(layer.depthwise for layer in layers)
    meanings += ["/2: stride 2."] * any(layer.stride > 1 for layer in layers)
    if changes - {Change.SAME, Change.REMOVED}:
        meanings.append("Thick outline, bold: new, changed or moved.")
    if Change.REMOVED in changes:
        meanings.append("Struck out: removed.")
    return " ".join(meanings)


class _Block:
    """A block with its texts, wrapped for a width."""

    def __init__(self, diagram: BlockDiagram, room: float) -> None:
        self.diagram, self.room = diagram, room
        self.name = wrap(one_line(diagram.key), room, TITLE, "bold")
        self.title = wrap(_times(one_line(diagram.title)), room, SMALL)
        self.notes = self._notes()
        self.right = room - RAIL - 0.06  # edge of the boxes
        self.line = 0.36 * self.right  # the main line

    def _notes(self) -> list[tuple[str, bool]]:
        """Returns the lines below the block, and whether each is a change."""
        lines: list[tuple[str, bool]] = []
        for fact in self.diagram.facts:
            if fact.name == "cost":
                lines += [(line, False) for line in fact.lines]
            elif fact.before is not None:
                text = _times(f"{fact.name}: {'; '.join(fact.lines)}")
                lines += [(line, True) for line in wrap(text, self.room, SMALL)]
        return lines

    def draw(self, pen: _Pen, left: float, top: float) -> float:
        """Draws the block with its title and notes; returns the height."""
        y = top
        grey = {"color": pen.palette.grey}
        for text in self.name:
            pen.write(left, y + 0.07, text, TITLE, fontweight="bold")
            y += 0.14
        for text in self.title:
            pen.write(left, y + SMALL_LINE / 2, text, SMALL, **grey)
            y += SMALL_LINE
        y += 0.13
        x, rail = left + self.line, left + self.room - 0.06
        pen.write(x, y, f"{self.diagram.in_width:,} channels", SMALL, ha="center", **grey)
        start = y + 0.06
        split = y = start + 0.06
        y = self._layers(pen, self.diagram.branch, left, y)
        join = self._projection(pen, left, y) + 0.075
        end = self._after(pen, left, join)
        pen.line((x, start), (x, end), zorder=1)
        pen.line((x, split), (rail, split), (rail, join), (x + 0.06, join), zorder=1)
        pen.arrow(x + 0.055, join, (-1, 0))
        pen.arrow(x, end, (0, 1))
        face = pen.page.figure.get_facecolor()
        circle = {"facecolor": face, "edgecolor": pen.palette.ink, "linewidth": 0.8}
        pen.page.add_patch(Circle((x, join), 0.055, zorder=2, **circle))
        pen.line((x - 0.03, join), (x + 0.03, join), zorder=3)
        pen.line((x, join - 0.03), (x, join + 0.03), zorder=3)
        text = f"{self.diagram.out_width:,} channels"
        pen.write(x, end + 0.06, text, SMALL, ha="center", **grey)
        y = end + 0.16
        for text, changed in self.notes:
            pen.write(left, y + SMALL_LINE / 2, text, SMALL, **({} if changed else grey))
            y += SMALL_LINE
        return y - top

    def _layers(self, pen: _Pen, layers: Sequence[Difference], left: float, y: float) -> float:
        """Draws boxes and the layers after them; returns the lower end."""
        y += SPACE
        first = True
        for difference in layers:
            if difference.layer.kind is not Kind.CONV:
                y = self._beside(pen, difference, left, y)
                continue
            y += 0 if first else SPACE * 0.6
            first = False
            y = self._box(pen, difference, (left, self.right), y) + SPACE * 0.4
        return y

    def _projection(self, pen: _Pen, left: float, y: float) -> float:
        """Draws the layers of the shortcut, below those of the branch; returns the lower end."""
        x, rail = left + self.line, left + self.room - 0.06
        for difference in self.diagram.shortcut:
            if difference.layer.kind is Kind.CONV:
                box = (x + 0.1 - 0.015, rail + 0.06 - x - 0.1 + 0.015)
                y = self._box(pen, difference, box, y + 0.05)
            else:
                text, _ = _texts(difference)
                _write_marked(pen, rail - 0.07, y + 0.085, text, rail - x - 0.2,
                              difference.change, ha="right")  # fmt: skip
                y += LINE + 0.03
        return y

    def _after(self, pen: _Pen, left: float, join: float) -> float:
        y = join + 0.07
        for difference in self.diagram.after:
            y = self._beside(pen, difference, left, y)
        return y + 0.1

    def _beside(self, pen: _Pen, difference: Difference, left: float, y: float) -> float:
        """Writes a norm, an activation or the like beside the line."""
        text, note = _texts(difference)
        x, room = left + self.line + 0.07, self.right - self.line - 0.07
        _write_marked(pen, x, y + LINE / 2, text, room, difference.change)
        y += LINE
        if note:
            note, points = _fit(note, room, SMALL - 0.5)
            pen.write(x, y + 0.04, note, points, color=pen.palette.grey)
            y += 0.095
        return y

    def _box(
        self, pen: _Pen, difference: Difference, across: tuple[float, float], y: float
    ) -> float:
        """Draws the box of a convolution; returns the lower end.

        Args:
            pen: draws it.
            difference: the convolution.
            across: the left end of the box, and its width.
            y: the upper end.
        """
        text, note = _texts(difference)
        height = BOX + 0.1 * bool(note)
        palette, change = pen.palette, difference.change
        marked, removed = change not in (Change.SAME, Change.REMOVED), change is Change.REMOVED
        left, size = across
        box = FancyBboxPatch(
            (left + 0.015, y),
            size - 0.015,
            height,
            boxstyle="round,pad=0,rounding_size=0.04",
            facecolor=pen.fill if difference.layer.kernel > 1 and not removed else palette.paper,
            edgecolor=palette.grey if removed else palette.ink,
            linewidth=1.5 if marked else 0.8,
            linestyle="--" if removed else "-",
            zorder=2,
        )
        pen.page.add_patch(box)
        x, room = left + size / 2, size - 0.1
        _write_marked(pen, x, y + BOX / 2, text, room, change, ha="center")
        if note:
            note, points = _fit(note, room, SMALL - 0.5)
            pen.write(x, y + BOX + 0.03, note, points, ha="center")
        return y + height


def _write_marked(
    pen: _Pen, x: float, y: float, text: str, room: float, change: Change, **how: Any
) -> None:
    """Writes the text of a layer in the manner of its change."""
    marked = change not in (Change.SAME, Change.REMOVED)
    weight = "bold" if marked else "normal"
    text, size = _fit(text, room, SIZE, weight)
    if change is Change.REMOVED:
        how["color"] = pen.palette.grey
        long = width(text, size, weight)
        start = x - long * {"center": 0.5, "right": 1.0}.get(how.get("ha", ""), 0.0)
        pen.line((start - 0.015, y), (start + long + 0.015, y), color=pen.palette.ink, zorder=5)
    pen.write(x, y, text, size, fontweight=weight, **how)


def _fit(text: str, room: float, size: float, weight: str = "normal") -> tuple[str, float]:
    """Returns a text and the size in points, at most this one, in which it fits."""
    long = 1.06 * width(text, size, weight)  # a PNG's small letters are wider than outlines
    if long <= room:
        return text, size
    size = max(SMALLEST, size * room / long)
    return shorten(text, room, size, weight), size


def _texts(difference: Difference) -> tuple[str, str]:
    """Returns the text of a layer, and what it was or that it is new."""
    note = {Change.NEW: "new", Change.MOVED: "moved"}.get(difference.change, "")
    notes = ", ".join(filter(None, [note, was(difference)]))
    text, notes = (
        _GROUPED.sub("", _times(one_line(text)))
        .replace(f"{DEPTHWISE} ", "d")
        .replace(", stride ", ", /")
        for text in (difference.layer.text, notes)
    )
    return text, notes


def _times(text: str) -> str:
    """Returns a text with a multiplication sign in sizes."""
    return _SIZES.sub("\\1\N{MULTIPLICATION SIGN}", text)
