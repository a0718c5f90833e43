"""How a chart looks: one object that is passed to everything that draws."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex

from ablations import limits
from ablations.charts import fonts
from ablations.charts.colors import DARK, LIGHT, Palette, blend, luminance
from modernize.errors import UnknownNameError, UsageError


@dataclasses.dataclass(frozen=True)
class ChartSettings:
    """The settings of a chart.

    Attributes:
        width: in inches; None: the chart's own width.
        style: a matplotlib style file, or the name of a style that comes with matplotlib: its
            fonts, colours and hatching. Sizes and places are the chart's own. Empty: no style.
        title: whether the chart has its title.
        transparent: without a background, also behind texts.
        dark: for a dark background; the colours of the style have priority.
        dpi: pixels per inch of a PNG.
        svg_text: keep texts in an SVG as texts, drawn with the fonts of the reader, and not as
            outlines.

    Raises:
        UsageError: for a width or dpi out of range, or a style that is missing or damaged.
    """

    width: float | None = None
    style: str | Path = ""
    title: bool = True
    transparent: bool = False
    dark: bool = False
    dpi: int = 200
    svg_text: bool = False

    def __post_init__(self) -> None:
        """Checks the settings."""
        for name, value, (least, most) in (
            ("width", self.width, limits.CHART_WIDTHS),
            ("dpi", self.dpi, limits.CHART_DPIS),
        ):
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name} {value:g} is not valid: from {least:g} to {most:g}.")
        _ = self._style  # read it now

    @functools.cached_property
    def _style(self) -> dict[str, Any]:
        return _read_style(str(self.style)) if self.style else {}

    @functools.cached_property
    def palette(self) -> Palette:
        """The colours."""
        given = _colors_of(self._style)
        paper, ink = given.get("paper"), given.get("ink")
        palette = DARK if self.dark or (paper and luminance(paper) < _DARK) else LIGHT
        if paper:  # the band is the paper with a little ink
            given["band"] = blend(paper, ink or palette.ink, 0.04)
        palette = dataclasses.replace(palette, **given)
        return palette.without_background() if self.transparent else palette

    @property
    def fonts_missing(self) -> list[str]:
        """The fonts of the style that are not installed."""
        return [name for name in _families(self._style) if not fonts.is_installed(name)]

    def context(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which matplotlib has these settings, to draw and to save in."""
        families = [name for name in _families(self._style) if fonts.is_installed(name)]
        given = {name: self._style[name] for name in _OF_STYLE if name in self._style}
        settings: Any = {
            **_FIXED,
            **given,
            "font.family": list(dict.fromkeys([*families, fonts.FONT])),
            "svg.fonttype": "none" if self.svg_text else "path",
            "savefig.dpi": self.dpi,
        }
        context: contextlib.AbstractContextManager[None] = mpl.rc_context(settings)
        return context


_FIXED: dict[str, Any] = {
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "hatch.linewidth": 0.8,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "ps.fonttype": 42,
    "savefig.bbox": None,
    "savefig.facecolor": "auto",
    "savefig.edgecolor": "none",
    "savefig.transparent": False,
    "svg.hashsalt": "roadmap",
}
"""Overrides the settings of the process."""

_OF_STYLE = ("hatch.linewidth", "font.weight", "font.style", "font.stretch")
"""The settings of a style that are used as they are."""


def _read_style(given: str) -> dict[str, Any]:
    """Returns the settings in a style file.

    Raises:
        UsageError: if the file is missing or damaged.
    """
    from matplotlib import style  # slow: it reads all styles

    found: Any
    path = Path(given)
    if not path.is_file():
        if given in style.library:
            found = style.library[given]
            return dict(found)
        if path.suffix or len(path.parts) > 1:
            raise UsageError(
                f"cannot read the style {given!r}: there is no such file. Give a matplotlib style "
                "file (.mplstyle), or the name of a style of matplotlib, such as 'grayscale'."
            )
        raise UnknownNameError("style", given, sorted(style.library))
    faults: list[str] = []
    try:
        with _reports_into(faults):
            found = mpl.rc_params_from_file(path, use_default_template=False)
    except (OSError, ValueError) as error:  # ValueError: also of another encoding
        raise UsageError(f"cannot read the style file {given!r}: {error}.") from error
    if faults or not found:
        reason = " ".join(faults[0].split()) if faults else "it has no settings"
        raise UsageError(
            f"{given!r} is not a matplotlib style file: {reason}. A valid line is, for example, "
            "'font.family: serif'."
        )
    return dict(found)


@contextlib.contextmanager
def _reports_into(faults: list[str]) -> Iterator[None]:
    """Collects the faults of a file, which matplotlib only logs."""
    handler = logging.Handler()
    handler.emit = lambda record: faults.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("matplotlib")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _families(style: Mapping[str, Any]) -> list[str]:
    """Returns the fonts that a style names, with those of a generic family such as serif."""
    found: list[str] = []
    for name in style.get("font.family", ["sans-serif"]):
        found += style.get(f"font.{name}", _GENERIC.get(name, [name]))
    return [name for name in found if name not in _GENERIC]


_GENERIC = {
    "sans-serif": [],
    "serif": ["DejaVu Serif"],
    "monospace": ["DejaVu Sans Mono"],
    "cursive": [],
    "fantasy": [],
}
"""Generic family -> its font if the style names none; they come with matplotlib."""

_DARK = 0.2
"""The luminance below which a background is dark."""

_UNSET = ("auto", "inherit", "none", "None")
_COLORS = {
    "ink": ("text.color",),
    "grey": ("axes.labelcolor", "xtick.labelcolor", "xtick.color", "text.color"),
    "rule": ("grid.color",),
    "paper": ("savefig.facecolor", "figure.facecolor", "axes.facecolor"),
}
"""Colour of the palette -> the settings of a style that it is taken from, the first that is set."""


def _colors_of(style: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the colours of a palette that a style sets."""
    found: dict[str, Any] = {}
    for name, keys in _COLORS.items():
        values = [style[key] for key in keys if style.get(key, "none") not in _UNSET]
        if values:
            found[name] = to_hex(values[0])
    if (cycle := style.get("axes.prop_cycle")) and (hues := cycle.by_key().get("color")):
        found["hues"] = tuple(map(to_hex, hues))
    return found
