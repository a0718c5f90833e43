"""Escapes untrusted texts for their output formats, and writes counted nouns.

Titles, reasons, paths, names of tensors and logs may contain anything. Each function escapes them
for one format: :func:`visible` for terminals, pictures and pages, :func:`markdown` for Markdown,
:func:`latex` for LaTeX,
:func:`csv_cell` for spreadsheets, :func:`shell` for a command line.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
import zlib
from collections.abc import Iterable
from typing import Any

# All characters except the frequent harmless ones; :func:`_escaped` decides for each.
_SUSPECT = re.compile("[^\n\t\x20-\x7e\xa0-\xac\xae-\u05ff]")
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, surrogates, separators of lines
_JOINERS = "\u200c\u200d"  # format characters that scripts and emoji need
_SPACE = re.compile("[ \t-\r\x1c-\x1f\x85\u2028\u2029]+")
_COLOUR = re.compile("\x1b\\[[0-9;:]*[mK]")

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_QUOTED = re.compile(rf"'+(?:{_FORMULA.pattern})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

_SIGNED = re.compile(
    r"(?<![\w.,-])(?:[+-]\d[\d.]*|\d[\d.]*(?= ±))(?: ± \d[\d.]*)?(?![\w,])", re.ASCII
)
_LATEX = str.maketrans(
    {
        **{char: f"\\{char}" for char in "{}#$%&_"},
        **{char: f"{{{char}}}" for char in "'`[]*"},  # ligatures, and arguments of a line break
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "|": "$|$",
        "\xb1": r"$\pm$",
        "\xd7": r"$\times$",
        "\u2192": r"$\to$",
    }
)

_MARKDOWN = re.compile(
    r"[\\`*\[\]|~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it needs no escape
    r"|<(?=[A-Za-z/!?])|&(?=#?\w+;)"
    # At the start: a quotation, a rule, a heading, a list.
    r"|^>|^[=-]+$|^(?:\#{1,6}|[+-])(?=\s|$)|^\d+(?=[.)](?:\s|$))"
)


def visible(text: str) -> str:
    r"""Returns a text with all control and invisible characters escaped, except newlines and tabs.

    ESC becomes ``\x1b``, a change of direction ``\u202e``, a byte of a name that is not UTF-8
    ``\xff``, and so on for all characters that control a terminal or that XML forbids. A text that
    was escaped before does not change.
    """
    if text.isascii() and text.isprintable():
        return text
    return _SUSPECT.sub(_escaped, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Returns a :func:`visible` text on one line, for a title, a name or a cell of a table."""
    return visible(_SPACE.sub(" ", text).strip())


def plain_log(log: str) -> str:
    """Returns a log without colours, with a line for each state of a progress bar."""
    return _COLOUR.sub("", log.replace("\r\n", "\n").replace("\r", "\n"))


def _escaped(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate for a byte
        return f"\\x{code - 0xDC00:02x}"
    forbidden = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # not characters
    if char in _JOINERS or not (forbidden or unicodedata.category(char) in _UNSEEN):
        return char
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def markdown(text: str) -> str:
    """Returns a text as one line of Markdown that shows it literally."""
    return _MARKDOWN.sub(
        lambda m: f"{m.group()}\\" if m.group().isdigit() else f"\\{m.group()}", one_line(text)
    )


def latex(text: str) -> str:
    r"""Returns a cell of a LaTeX table that shows a text as it is.

    Signed numbers and means with a standard deviation are in math mode: ``$-1.2$``,
    ``$76.1 \pm 0.2$``.
    """
    line, start, parts = one_line(text), 0, []
    for match in _SIGNED.finditer(line):
        parts += [line[start : match.start()].translate(_LATEX), "$", match[0], "$"]
        start = match.end()
    parts.append(line[start:].translate(_LATEX))
    return re.sub("-(?=-)", "-{}", "".join(parts).replace(" ± ", r" \pm "))


def csv_cell(value: Any) -> Any:
    """Returns a cell of a CSV file, with a quote before a text that a spreadsheet would run.

    The quote is the mark of a text in spreadsheets: ``'=1+1``. Numbers, as values or as text, and
    all other values do not change; :func:`from_csv` removes the quote.
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    runs = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if runs or _QUOTED.match(text) else text


def from_csv(cell: str) -> str:
    """Returns the text of a cell that :func:`csv_cell` made."""
    return cell[1:] if _QUOTED.match(cell) else cell


def shell(word: str) -> str:
    r"""Returns a word quoted for a shell, with control characters as ``$'\x1b'``."""
    if visible(word) == word and "\n" not in word and "\t" not in word:
        return shlex.quote(word)
    return "$'{}'".format("".join(map(_typed, word)))


def _typed(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isascii() and char.isprintable():
        return char
    byte = 0xDC80 <= ord(char) <= 0xDCFF
    data = char.encode("utf-8", "surrogateescape" if byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)


def file_name(name: str) -> str:
    """Returns a name as a part of a file's name, with only letters, digits and ``-._``."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")
    return plain if plain == name else f"{plain}-{zlib.crc32(repr(name).encode()):08x}"


def plural(number: int, noun: str) -> str:
    """Returns "1 run", "2 epochs", "1,000 classes"."""
    hissing = noun.endswith(("s", "x", "ch", "sh")) and not noun.endswith("epoch")
    end = "" if number == 1 else "es" if hissing else "s"
    return f"{number:,} {noun}{end}"


def value_text(value: Any) -> str:
    """Returns a setting's value in one word: none, true, 0.1, or 1,2 for a list."""
    if isinstance(value, list | tuple):
        return ",".join(map(value_text, value))
    return (
        "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def shortened(text: str, most: int = 80) -> str:
    """Returns a text of at most this many characters, and "..." for the rest."""
    return text if len(text) <= most else f"{text[:most]}..."


def few(names: Iterable[object], shown: int = 5) -> str:
    """Returns the first names and the number of the others: "a, b and 3 more"."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - shown:,} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more
