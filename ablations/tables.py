"""Rows -> text: a table for the terminal, CSV, JSON or Markdown. The first column is the key."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modernize import text

FORMATS = ("table", "csv", "json", "markdown")

_GAP = 3  # between two columns
_EDGES = 2  # beside the first and the last

Rows = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Columns:
    """How the columns of a kind of table are shown.

    Attributes:
        numbers: those that are flush right.
        least: those that a narrow terminal can do without, the one that is missed least first;
            then go the others, from the right. The first column always stays.
        wrapped: those that may be broken into lines, and how narrow they still read well.
    """

    numbers: Sequence[str] = ()
    least: Sequence[str] = ()
    wrapped: Mapping[str, int] = dataclasses.field(default_factory=dict)


PLAIN = Columns()


def for_programs(rows: Sequence[Mapping[str, Any]], style: str) -> str:
    """Returns rows as ``csv`` or ``json``."""
    return as_csv(rows) if style == "csv" else as_json(rows)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a header and a line per row; truth as ``yes`` and ``no``, nothing as nothing.

    A text that a spreadsheet would take for a formula begins with a quote.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([[text.csv_cell(name) for name in row] for row in rows[:1]])
    words = {True: "yes", False: "no"}
    for row in rows:
        values = map(_value, row.values())
        writer.writerow([words[v] if isinstance(v, bool) else text.csv_cell(v) for v in values])
    return out.getvalue().removesuffix("\n")


def as_json(rows: Sequence[Mapping[Any, Any]]) -> str:
    """Returns a list of objects; what is no number is null."""
    values = [{name: _value(value) for name, value in row.items()} for row in rows]
    # JSON alone would leave this control character as it is.
    return json.dumps(values, indent=1, allow_nan=False).replace("\x7f", "\\u007f")


def change_note(parents: Mapping[str, str], change: str = "change") -> str:
    """Returns which changes are not from the row above; nothing where all are.

    Args:
        parents: key of each row, in their order -> that of the row it is compared with, or "".
        change: what the column is called.
    """
    above = dict(zip(list(parents)[1:], parents, strict=False))
    others = [f"of {key} from {of}" for key, of in parents.items() if of and above.get(key) != of]
    return f"{change}: from the row above; {', '.join(others)}." if others else ""


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_markdown(rows: Rows, columns: Columns = PLAIN) -> str:
    """Returns a Markdown table, in which every cell is shown as it is."""
    if not rows:
        return ""
    marks = ["---:" if name in columns.numbers else "---" for name in rows[0]]
    header, *lines = (
        [text.markdown(cell) for cell in line]
        for line in ([*rows[0]], *(row.values() for row in rows))
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, marks, *lines))


def print_table(console: Console, rows: Rows, columns: Columns = PLAIN, title: str = "") -> None:
    """Prints a table, and which columns had no room; without a terminal, there is room for all."""
    if title:
        console.print(Text(text.one_line(title)), soft_wrap=True)
    for part in for_console(console, rows, columns):
        console.print(part, soft_wrap=True)


def for_console(console: Console, rows: Rows, columns: Columns = PLAIN) -> list[Table | Text]:
    """Returns what :func:`print_table` prints: the table, and what it has no room for."""
    if not rows:
        return []
    widths, dropped = fit(rows, columns, console.width if console.is_terminal else None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, width=_total(widths))
    for name, width in widths.items():
        justify: Literal["left", "right"] = "right" if name in columns.numbers else "left"
        table.add_column(Text(name), justify=justify, width=width)
    for row in rows:
        table.add_row(*(Text(text.one_line(row[name])) for name in widths))
    names = ", ".join(map(str.strip, dropped))
    note = f"No room here for: {names}. A wider terminal shows them, and so does `| less -S`."
    return [table, Text(note)] if dropped else [table]


def fit(rows: Rows, columns: Columns, width: int | None) -> tuple[dict[str, int], list[str]]:
    """Returns the columns that have room and their widths, and the names of the others.

    The first column is there in full, however narrow the terminal.

    Args:
        rows: the texts of a table's cells.
        columns: how they are shown.
        width: of the terminal, in characters; None: there is room for all.
    """
    cells = {name: [name, *(text.one_line(row[name]) for row in rows)] for name in rows[0]}
    full = {name: max(map(cell_len, column)) for name, column in cells.items()}
    if width is None:
        return full, []
    least = {name: min(size, columns.wrapped.get(name, size)) for name, size in full.items()}
    names = list(full)
    dispensable = [name for name in columns.least if name in names[1:]]
    dropped: list[str] = []

    def room() -> int:
        return width - _total({name: least[name] for name in names if name not in dropped})

    for name in [*dispensable, *(n for n in reversed(names[1:]) if n not in dispensable)]:
        if room() < 0:
            dropped.append(name)
    for name in reversed(dropped):  # what is narrow may have room beside what is left
        if room() >= least[name] + _GAP:
            dropped.remove(name)
    widths = {name: least[name] for name in names if name not in dropped}
    return _widen(widths, full, room()), dropped


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1) + _EDGES


def _widen(least: Mapping[str, int], full: Mapping[str, int], room: int) -> dict[str, int]:
    """Returns the widths of columns that share what room is left, none wider than it is in full."""
    widths = dict(least)
    narrow = sorted((n for n in widths if widths[n] < full[n]), key=lambda n: full[n] - widths[n])
    for place, name in enumerate(narrow):
        more = min(full[name] - widths[name], max(room, 0) // (len(narrow) - place))
        widths[name] += more
        room -= more
    return widths
