"""Texts that come from elsewhere, made safe for where people read them; and counted nouns.

Titles, reasons, paths, names of tensors and logs are whatever someone wrote. Each function here
makes them safe for one place: :func:`visible` for terminals, pictures and pages, :func:`markdown`
for Markdown, :func:`csv_cell` for spreadsheets, :func:`shell` for a command that is typed.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
import zlib
from collections.abc import Iterable
from typing import Any

# All but what is harmless and frequent; of the rest, :func:`_escaped` looks at each character.
_SUSPECT = re.compile("[^\n\t\x20-\x7e\xa0-\xac\xae-\u05ff]")
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, surrogates, separators of lines
_JOINERS = "\u200c\u200d"  # formats that scripts and emoji need
_SPACE = re.compile("[ \t-\r\x1c-\x1f\x85\u2028\u2029]+")
_COLOUR = re.compile("\x1b\\[[0-9;:]*[mK]")

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_QUOTED = re.compile(rf"'+(?:{_FORMULA.pattern})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

_MARKDOWN = re.compile(
    r"[\\`*\[\]|~$]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it is only itself
    r"|<(?=[A-Za-z/!?])|&(?=#?\w+;)"
    # At the start: a quotation, a rule, a heading, a list.
    r"|^>|^[=-]+$|^(?:\#{1,6}|[+-])(?=\s|$)|^\d+(?=[.)](?:\s|$))"
)


def visible(text: str) -> str:
    r"""Returns a text in which every character is seen, and none acts; newlines and tabs stay.

    ESC becomes ``\x1b``, a change of direction ``\u202e``, a byte of a name that is not UTF-8
    ``\xff``, and so on for whatever a terminal would obey or XML forbids. What is safe stays as it
    is, so that a text may pass here more than once.
    """
    if text.isascii() and text.isprintable():
        return text
    return _SUSPECT.sub(_escaped, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Returns a :func:`visible` text in one line, for a title, a name or a cell of a table."""
    return visible(_SPACE.sub(" ", text).strip())


def plain_log(log: str) -> str:
    """Returns a log without colours and with a line for each state of a progress bar."""
    return _COLOUR.sub("", log.replace("\r\n", "\n").replace("\r", "\n"))


def _escaped(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # Python's stand-in for a byte
        return f"\\x{code - 0xDC00:02x}"
    forbidden = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # no characters
    if char in _JOINERS or not (forbidden or unicodedata.category(char) in _UNSEEN):
        return char
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def markdown(text: str) -> str:
    """Returns a text as one line of Markdown, in which all of it is shown as it is."""
    return _MARKDOWN.sub(
        lambda m: f"{m.group()}\\" if m.group().isdigit() else f"\\{m.group()}", one_line(text)
    )


def csv_cell(value: Any) -> Any:
    """Returns a cell of a CSV file: a text that a spreadsheet would run begins with a quote.

    That is the spreadsheets' own mark of a text: ``'=1+1``. Numbers, as values or as text, and all
    else stay as they are; :func:`from_csv` takes the quote away.
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    runs = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if runs or _QUOTED.match(text) else text


def from_csv(cell: str) -> str:
    """Returns the text of which :func:`csv_cell` made a cell."""
    return cell[1:] if _QUOTED.match(cell) else cell


def shell(word: str) -> str:
    r"""Returns a word as it is typed in a shell; control characters as ``$'\x1b'``."""
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
    """Returns a name as a part of a file's name, of letters, digits and ``-._`` alone."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")
    return plain if plain == name else f"{plain}-{zlib.crc32(repr(name).encode()):08x}"


def plural(number: int, noun: str) -> str:
    """Returns "1 run", "2 runs", "1,000 classes"."""
    end = "" if number == 1 else "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{number:,} {noun}{end}"


def few(names: Iterable[object], shown: int = 5) -> str:
    """Returns the first names, and how many more there are: "a, b and 3 more"."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - shown:,} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more
