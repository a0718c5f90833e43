"""The fonts of texts in charts: other installed fonts supply characters that the main one lacks."""

from __future__ import annotations

import contextlib
import functools
import unicodedata
import warnings
from collections.abc import Iterable, Iterator

from matplotlib import font_manager, rcParams
from matplotlib.ft2font import FT2Font

FONT = "DejaVu Sans"
"""The font of texts without a style, which comes with matplotlib."""

_LAST_RESORT = "Last Resort"  # a font of matplotlib with a box for every character
_INVISIBLE = ("Mn", "Me", "Cf", "Zs", "Cc")  # accents, joiners, spaces: without a glyph of a width


def is_installed(name: str) -> bool:
    """Tells whether a font is installed."""
    return any(name == entry.name for entry in font_manager.fontManager.ttflist)


def families(text: str) -> list[str]:
    """Returns the fonts for a text: matplotlib's present ones, and others that have the rest."""
    found = [_family_of(char) for char in _strange(text)]
    return list(dict.fromkeys([*rcParams["font.family"], *filter(None, found)]))


def lacking(texts: Iterable[str]) -> str:
    """Returns the characters that no installed font has, each once."""
    chars = dict.fromkeys(char for text in texts for char in _strange(text))
    return "".join(char for char in chars if _family_of(char) is None)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Suppresses matplotlib's warnings about characters that no font has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def _strange(text: str) -> list[str]:
    """Returns the characters that matplotlib's present fonts lack."""
    if text.isascii():
        return []
    fonts = (font_manager.FontProperties(family=[name]) for name in rcParams["font.family"])
    known = [_charmap(font_manager.findfont(font)) for font in fonts]
    unseen = (c for c in dict.fromkeys(text) if not any(ord(c) in chars for chars in known))
    return [char for char in unseen if unicodedata.category(char) not in _INVISIBLE]


@functools.cache
def _family_of(char: str) -> str | None:
    """Returns an installed font that has a character, preferably one without serifs."""
    for name, path in _installed():
        if ord(char) in _charmap(path):
            return name
    return None


@functools.cache
def _installed() -> list[tuple[str, str]]:
    """Returns the names and files of upright fonts; of each the weight closest to regular."""
    found: dict[str, tuple[int, str]] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.style == "normal" and not entry.name.startswith(_LAST_RESORT):
            weight = font_manager.weight_dict.get(str(entry.weight), entry.weight)
            far = abs(int(weight) - 400)
            found[entry.name] = min(found.get(entry.name, (far, entry.fname)), (far, entry.fname))
    fonts = [(name, path) for name, (_, path) in found.items()]
    return sorted(fonts, key=lambda font: ("Sans" not in font[0], font))


@functools.cache
def _charmap(path: str) -> frozenset[int]:
    """Returns the characters that a font has; none for a font that cannot be drawn."""
    try:
        font: FT2Font = font_manager.get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
