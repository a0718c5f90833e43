"""The figure of the roadmap chart: its axes, and lines, boxes and texts on it; and its file."""

from __future__ import annotations

import io
import math
import re
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
from ablations.charts.layout import ELLIPSIS, LINE, Layout
from ablations.charts.settings import ChartSettings
from modernize.text import visible

MOST_CHARS = 20  # missing characters that a message names

_UNDATED = re.compile(rb"%%CreationDate: .*\n")


def render(figure: Figure, kind: str, settings: ChartSettings) -> bytes:
    """Returns a figure as the bytes of a file of this kind; equal figures give equal bytes.

    Control characters in texts and names are made visible, because XML does not allow them. In an
    SVG, a text with characters that no installed font has remains a text, for the reader's fonts.
    """
    with settings.context():
        for artist in figure.findobj():
            if name := artist.get_gid():
                artist.set_gid(visible(name))
            if isinstance(artist, Text):
                _choose_font(artist)
    out, metadata = io.BytesIO(), {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with settings.context(), fonts.quietly():
        figure.savefig(out, format=kind, metadata=metadata.get(kind))
    return _UNDATED.sub(b"", out.getvalue()) if kind in ("eps", "ps") else out.getvalue()


def boxes_note(figure: Figure, settings: ChartSettings) -> str:
    """Returns a note about fonts and characters that are not installed; empty if all are."""
    missing = ", ".join(settings.fonts_missing)
    note = f"Fonts of the style that are not installed: {missing}. " if missing else ""
    with settings.context():
        chars = fonts.lacking(visible(artist.get_text()) for artist in figure.findobj(Text))
    if not chars:
        return note
    some = chars if len(chars) <= MOST_CHARS else chars[:MOST_CHARS] + ELLIPSIS
    return (
        f"{note}No installed font has {some}: a PNG or PDF shows boxes instead, an SVG "
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
        sheet, palette: sizes and colours.
        figure: of matplotlib, made without pyplot, which would keep it alive.
        page: the background; inches from the top left.
        panel: the bars, above the page; accuracy horizontally, inches vertically.
        front: the texts, above the bars; inches as in ``page``.
    """

    def __init__(self, layout: Layout, settings: ChartSettings) -> None:
        self.sheet, self.palette = layout.sheet, settings.palette
        self.figure = Figure(
            figsize=(self.sheet.width, layout.height),
            dpi=settings.dpi,
            facecolor=self.palette.paper,
        )
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
        """Adds a thin line on a paper one that is wider by ``halo`` points, to be visible on bars.

        With a halo of 0, the paper is only between dashes.
        """
        how = {"color": self.palette.ink, "linewidth": 0.8, "zorder": 2, **how}
        if halo is not None:
            under = how | {"color": self.palette.paper, "linestyle": "-", "gid": None}
            under |= {"linewidth": how["linewidth"] + halo, "markeredgewidth": 1.0 + halo}
            under["zorder"] -= 0.5  # so that it hides no other line of this height
            axes.add_line(Line2D(x, y, **under))
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
        size: float | None = None,
        color: str = "",
        boxed: bool = False,
        **how: Any,
    ) -> None:
        """Writes one line of text centred on ``y``; boxed: on paper, to be readable on bars."""
        if boxed:
            paper = self.palette.paper
            how["bbox"] = {"boxstyle": "square,pad=0.1", "facecolor": paper, "edgecolor": "none"}
        if text:
            how = {"va": "center_baseline", **how}
            how |= {"fontsize": size or self.sheet.size, "color": color or self.palette.ink}
            self.front.text(x, y, text, **how)

    def write_lines(
        self, x: float, y: float, lines: Sequence[str], *, step: float = LINE, **how: Any
    ) -> None:
        """Writes lines of text from top to bottom, the first centred on ``y``."""
        for number, text in enumerate(lines):
            self.write(x, y + step * number, text, **how)

    def _add_page(self, layout: Layout) -> Axes:
        page = self.figure.add_axes(
            (0, 0, 1, 1), xlim=(0, self.sheet.width), ylim=(layout.height, 0)
        )
        page.set_axis_off()
        return page

    def _add_panel(self, layout: Layout) -> Axes:
        columns, scale = layout.columns, layout.scale
        panel = self.figure.add_axes(
            (
                columns.bars / self.sheet.width,
                1 - layout.bottom / layout.height,
                (columns.bars_end - columns.bars) / self.sheet.width,
                (layout.bottom - layout.top) / layout.height,
            ),
            xlim=(scale.low, scale.high),
            ylim=(layout.bottom, layout.top),
            facecolor="none",
            axisbelow=True,
        )
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.spines["left"].set(color=self.palette.ink, linewidth=0.8)
        panel.set_yticks([])
        count = math.floor((scale.high - scale.low) / scale.tick + 1e-9)
        ticks = [scale.low + number * scale.tick for number in range(count + 1)]
        how: Any = {"fontsize": self.sheet.small, "color": self.palette.grey}
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks], **how)
        panel.tick_params(axis="x", length=0, pad=3)
        panel.grid(axis="x", color=self.palette.rule, linewidth=0.5)
        return panel
