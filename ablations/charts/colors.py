"""The colours of charts; those of sections are the same in every chart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Self

from modernize.steps import STEPS

NONE = "none"
"""No colour."""

# For the sections in order. Neighbours differ in hue and in lightness, also for readers with
# colour blindness and in print.
HUES = ("#4a5f7f", "#6fa3c8", "#2f7f86", "#8fb98a", "#8a6d24", "#cf8558", "#8c4a5c",
        "#b59fc4")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Palette:
    """The colours of a chart, as hexadecimal numbers or :data:`NONE`.

    Attributes:
        ink: of texts, axes and lines.
        grey: of texts that are less important.
        rule: of a grid.
        faint: of lines behind the others.
        paper: of the background, also behind a text on a bar.
        band: of a part of the background.
        second, second_edge: of the bars of a second table.
        up, down: of bars that show a change for the better or the worse.
        front: of a Pareto front.
        hues: of sections, in order.
    """

    ink: str
    grey: str
    rule: str
    faint: str
    paper: str
    band: str
    second: str
    second_edge: str
    up: str
    down: str
    front: str
    hues: Sequence[str]

    def without_background(self) -> Self:
        """Returns the palette for a transparent background."""
        return dataclasses.replace(self, paper=NONE, band=NONE)


def blend(color: str, other: str, share: float) -> str:
    """Returns a colour with a share of another one, from 0 to 1; both are ``#rrggbb``."""
    parts = [[int(each[i : i + 2], 16) for i in (1, 3, 5)] for each in (color, other)]
    mixed = (round(a + (b - a) * share) for a, b in zip(*parts, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def luminance(color: str) -> float:
    """Returns the relative luminance of a colour, from 0 (black) to 1, as WCAG 2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


LIGHT = Palette(
    ink="#1a1a1a",
    grey="#5c5c5c",
    rule="#d9d9d9",
    faint="#a8a8a8",
    paper="#ffffff",
    band="#f5f5f3",
    second="#c4c4c4",
    second_edge="#7d7d7d",
    up="#2f7f86",
    down="#cf8558",
    front="#8c4a5c",
    hues=HUES,
)
DARK = Palette(
    ink="#ececea",
    grey="#b3b3b0",
    rule="#3d3f43",
    faint="#74767a",
    paper="#161719",
    band="#202225",
    second="#5f6268",
    second_edge="#9a9da3",
    up="#55aeb5",
    down="#e09a6e",
    front="#d8899e",
    hues=tuple(blend(hue, "#ffffff", 0.25) for hue in HUES),
)


def section_hues(
    shown: Iterable[str], known: Iterable[str] = (), hues: Sequence[str] = HUES
) -> dict[str, str]:
    """Returns section -> its colour.

    Args:
        shown: the sections of a chart.
        known: all possible sections of a study, in order; those of the roadmap come first.
        hues: the colours, which are repeated for more sections.
    """
    order = list(dict.fromkeys([*(step.section for step in STEPS), *known, *shown]))
    return {section: hues[order.index(section) % len(hues)] for section in order}
