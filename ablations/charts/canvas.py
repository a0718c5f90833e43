"""The figure of the roadmap chart: its axes and settings, and lines, boxes and texts on it."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from ablations.charts import fonts
from ablations.charts.layout import ELLIPSIS, LINE, PAGE_WIDTH, SIZE, SMALL, Layout
from modernize.text import visible

PNG_DPI = 200
MOST_CHARS = 20  # missing characters that a message names

INK, GREY, RULE = "#1a1a1a", "#5c5c5c", "#d9d9d9"

STYLE: Any = {
    "font.family": fonts.FONT,
    "text.parse_math": False,
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
"""Overrides the settings of the process while drawing and saving."""


def render(figure: Figure, kind: str) -> bytes:
    """Returns a figure as the bytes of a file of this kind; equal figures give equal bytes.

    Control characters in texts and names are made visible, because XML does not allow them. In an
    SVG, a text with characters that no installed font has remains a text, for the reader's fonts.
    """
    for artist in figure.findobj():
        if name := artist.get_gid():
            artist.set_gid(visible(name))
        if isinstance(artist, Text):
            _choose_font(artist)
    out, metadata = io.BytesIO(), {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with mpl.rc_context(STYLE), fonts.quietly():
        figure.savefig(out, format=kind, dpi=PNG_DPI, metadata=metadata.get(kind))
    return out.getvalue()


def boxes_note(figure: Figure) -> str:
    """Returns a note about characters that no installed font has; empty if all are drawn."""
    chars = fonts.lacking(visible(artist.get_text()) for artist in figure.findobj(Text))
    if not chars:
        return ""
    some = chars if len(chars) <= MOST_CHARS else chars[:MOST_CHARS] + ELLIPSIS
    return (
        f"No installed font has {some}: a PNG or PDF shows boxes instead, an SVG "
        "keeps them as text. Install a font that has them, such as Noto Sans CJK, and draw the "
        "chart again."
    )


def _choose_font(artist: Text) -> None:
    """Selects fonts that have a text's characters; without one, an SVG keeps it as a text."""
    text = visible(artist.get_text())
    if text != artist.get_text():
        artist.set_text(text)
    if len(families := fonts.families(text)) > 1:
        artist.set_fontfamily(families)
    if fonts.lacking([text]):
        draw = artist.draw

        def as_text(renderer: RendererBase) -> None:
            with mpl.rc_context({"svg.fonttype": "none"}):
                draw(renderer)

        artist.draw = as_text  # type: ignore[method-assign]


class Canvas:
    """An empty figure.

    Attributes:
        figure: of matplotlib, made without pyplot, which would keep it alive.
        page: the background; inches from the top left.
        panel: the bars, above the page; accuracy horizontally, inches vertically.
        front: the texts, above the bars; inches as in ``page``.
    """

    def __init__(self, layout: Layout) -> None:
        self.figure = Figure(figsize=(PAGE_WIDTH, layout.height), dpi=PNG_DPI)
        FigureCanvasAgg(self.figure)
        self.page = self._add_page(layout)
        self.panel = self._add_panel(layout)
        self.front = self._add_page(layout)

    def line(
        self,
        axes: Axes,
        x: Sequence[float],
        y: Sequence[float],
        *,
        halo: float | None = None,
        **how: Any,
    ) -> None:
        """Adds a thin line on a white one that is wider by ``halo`` points, to be visible on bars.

        With a halo of 0, the white is only between dashes.
        """
        how = {"color": INK, "linewidth": 0.8, "zorder": 2, **how}
        if halo is not None:
            white = how | {"color": "white", "linestyle": "-", "gid": None}
            white |= {"linewidth": how["linewidth"] + halo, "markeredgewidth": 1.0 + halo}
            white["zorder"] -= 0.5  # so that it hides no other line of this height
            axes.add_line(Line2D(x, y, **white))
        axes.add_line(Line2D(x, y, **how))

    def box(
        self, axes: Axes, x: float, middle: float, width: float, height: float, **how: Any
    ) -> None:
        """Adds a rectangle, given by its left edge and its vertical middle."""
        how = {"linewidth": 0.0, **how}
        axes.add_patch(Rectangle((x, middle - height / 2), width, height, **how))

    def write(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = SIZE,
        color: str = INK,
        boxed: bool = False,
        **how: Any,
    ) -> None:
        """Writes one line of text centred on ``y``; boxed: on white, to be readable on bars."""
        if boxed:
            how["bbox"] = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
        if text:
            how = {"va": "center_baseline", **how}
            self.front.text(x, y, text, fontsize=size, color=color, **how)

    def write_lines(
        self, x: float, y: float, lines: Sequence[str], *, step: float = LINE, **how: Any
    ) -> None:
        """Writes lines of text from top to bottom, the first centred on ``y``."""
        for number, text in enumerate(lines):
            self.write(x, y + step * number, text, **how)

    def _add_page(self, layout: Layout) -> Axes:
        page = self.figure.add_axes((0, 0, 1, 1), xlim=(0, PAGE_WIDTH), ylim=(layout.height, 0))
        page.set_axis_off()
        return page

    def _add_panel(self, layout: Layout) -> Axes:
        columns, scale = layout.columns, layout.scale
        panel = self.figure.add_axes(
            (
                columns.bars / PAGE_WIDTH,
                1 - layout.bottom / layout.height,
                (columns.bars_end - columns.bars) / PAGE_WIDTH,
                (layout.bottom - layout.top) / layout.height,
            ),
            xlim=(scale.low, scale.high),
            ylim=(layout.bottom, layout.top),
            facecolor="none",
            axisbelow=True,
        )
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.spines["left"].set(color=INK, linewidth=0.8)
        panel.set_yticks([])
        count = math.floor((scale.high - scale.low) / scale.tick + 1e-9)
        ticks = [scale.low + number * scale.tick for number in range(count + 1)]
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=SMALL, color=GREY)
        panel.tick_params(axis="x", length=0, pad=3)
        panel.grid(axis="x", color=RULE, linewidth=0.5)
        return panel
