"""Rows as text: a table for the terminal, CSV, JSON, Markdown or LaTeX.

The first column is the key.
"""

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

from ablations import terminal
from modernize import text

FORMATS = ("table", "csv", "json", "markdown", "latex")

_GAP = 3  # between two columns
_EDGES = 2  # beside the first and the last

Rows = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Columns:
    """How the columns of a table are shown.

    Attributes:
        numbers: the columns that are aligned right.
        optional: the columns that a narrow terminal omits, the first one first; then it omits the
            others, from the right. It always shows the first column of the table.
        wrapped: the columns that may wrap, and their smallest widths.
    """

    numbers: Sequence[str] = ()
    optional: Sequence[str] = ()
    wrapped: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def keeping(self, name: str, width: int) -> Columns:
        """Returns the same, with a column omitted only after the other optional ones.

        Args:
            name: of the column.
            width: its smallest width in characters; it may wrap.
        """
        others = [column for column in self.optional if column != name]
        return Columns(self.numbers, [*others, name], {**self.wrapped, name: width})


PLAIN = Columns()


@dataclasses.dataclass(frozen=True)
class Report:
    """Rows for programs and for people, with a title and notes.

    Attributes:
        values: the rows for CSV and JSON.
        texts: the rows of the table.
        columns: how the table is shown.
        title: above the table, if any.
        notes: below the table.
        latex: the rows for LaTeX, if they are not those of the table.
    """

    values: Sequence[Mapping[str, Any]]
    texts: Rows
    columns: Columns = PLAIN
    title: str = ""
    notes: Sequence[str] = ()
    latex: Rows | None = None

    def show(self, console: Console, style: str) -> None:
        """Prints the report in one of :data:`FORMATS`."""
        if style != "table":
            terminal.echo(self.as_text(style))
            return
        print_table(console, self.texts, self.columns, self.title)
        for note in self.notes:
            terminal.print_text(console, note)

    def as_text(self, style: str) -> str:
        """Returns the report as ``csv``, ``json``, ``markdown`` or ``latex``."""
        if style in ("csv", "json"):
            return as_csv(self.values) if style == "csv" else as_json(self.values)
        if style == "latex":  # title and notes are comments, so that \input works in a table
            lines = [f"% {text.one_line(line)}" for line in (self.title, *self.notes) if line]
            return "\n".join([*lines, as_latex(self.latex or self.texts, self.columns)])
        title = [text.markdown(self.title), ""] if self.title else []
        notes = ["", *(f"- {text.markdown(note)}" for note in self.notes)] if self.notes else []
        return "\n".join([*title, as_markdown(self.texts, self.columns), *notes])


def plain_report(values: Sequence[Mapping[str, Any]]) -> Report:
    """Returns rows as a report whose texts are the values in full; None is an empty text."""
    numbers = [name for name in next(iter(values), {}) if isinstance(values[0][name], int | float)]
    texts = [{name: "" if v is None else str(v) for name, v in row.items()} for row in values]
    return Report(values, texts, Columns(numbers))


def without_empty(rows: Rows, *optional: str) -> list[dict[str, str]]:
    """Returns the rows without the optional columns that are empty in all of them.

    Args:
        rows: the texts of a table's cells.
        optional: names of columns; by default all.
    """
    names = next(iter(rows), {})
    empty = {n for n in optional or names if not any(row.get(n) for row in rows)}
    return [{name: row[name] for name in names if name not in empty} for row in rows]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a header and a line per row; Booleans as ``yes`` and ``no``, None as an empty cell.

    A text that a spreadsheet would read as a formula gets a quote in front.
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
    """Returns a list of objects; NaN and infinity become null."""
    values = [{name: _value(value) for name, value in row.items()} for row in rows]
    # JSON does not escape this control character.
    return json.dumps(values, indent=1, allow_nan=False).replace("\x7f", "\\u007f")


def change_note(parents: Mapping[str, str], change: str = "change") -> str:
    """Returns a note on the changes that are not from the row above; empty if all are.

    Args:
        parents: key of each row, in order -> key of the row it is compared with, or "".
        change: the name of the column.
    """
    above = dict(zip(list(parents)[1:], parents, strict=False))
    others: dict[str, list[str]] = {}
    for key, of in parents.items():
        if of and above.get(key) != of:
            others.setdefault(of, []).append(key)
    if not others:
        return ""
    if len({of for of in parents.values() if of}) == 1:
        return f"{change}: from {next(iter(others))}."
    texts = [f"of {', '.join(keys)} from {of}" for of, keys in others.items()]
    return f"{change}: from the row above; {'; '.join(texts)}."


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_markdown(rows: Rows, columns: Columns = PLAIN) -> str:
    """Returns a Markdown table, whose cells show every character as it is."""
    if not rows:
        return ""
    marks = ["---:" if name in columns.numbers else "---" for name in rows[0]]
    header, *lines = (
        [text.markdown(cell) for cell in line]
        for line in ([*rows[0]], *(row.values() for row in rows))
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, marks, *lines))


def as_latex(rows: Rows, columns: Columns = PLAIN) -> str:
    """Returns a ``tabular`` of LaTeX, which needs the package ``booktabs``."""
    if not rows:
        return ""
    sides = "".join("r" if name in columns.numbers else "l" for name in rows[0])
    header, *lines = (
        rf"{' & '.join(map(text.latex, line))} \\"
        for line in ([*rows[0]], *(row.values() for row in rows))
    )
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            header,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def print_table(console: Console, rows: Rows, columns: Columns = PLAIN, title: str = "") -> None:
    """Prints a table and the names of omitted columns; without a terminal, no column is omitted."""
    if title:
        terminal.print_text(console, text.one_line(title))
    for part in for_console(console, rows, columns):
        if isinstance(part, Text):
            terminal.print_text(console, part)
        else:
            console.print(part, soft_wrap=True)


def for_console(console: Console, rows: Rows, columns: Columns = PLAIN) -> list[Table | Text]:
    """Returns the output of :func:`print_table`: the table, and a note on omitted columns."""
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
    note = f"Omitted columns: {names}. Use a wider terminal, or `| less -S`."
    return [table, Text(note)] if dropped else [table]


def fit(rows: Rows, columns: Columns, width: int | None) -> tuple[dict[str, int], list[str]]:
    """Returns the columns that fit and their widths, and the names of the others.

    The first column is always shown in full.

    Args:
        rows: the texts of a table's cells.
        columns: how they are shown.
        width: of the terminal, in characters; None: unlimited.
    """
    cells = {name: [name, *(text.one_line(row[name]) for row in rows)] for name in rows[0]}
    full = {name: max(map(cell_len, column)) for name, column in cells.items()}
    if width is None:
        return full, []
    minimal = {name: min(size, columns.wrapped.get(name, size)) for name, size in full.items()}
    names = list(full)
    optional = [name for name in columns.optional if name in names[1:]]
    dropped: list[str] = []

    def room() -> int:
        return width - _total({name: minimal[name] for name in names if name not in dropped})

    for name in [*optional, *(n for n in reversed(names[1:]) if n not in optional)]:
        if room() < 0:
            dropped.append(name)
    for name in reversed(dropped):  # a narrow column may still fit
        if room() >= minimal[name] + _GAP:
            dropped.remove(name)
    widths = {name: minimal[name] for name in names if name not in dropped}
    return _widen(widths, full, room()), dropped


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1) + _EDGES


def _widen(minimal: Mapping[str, int], full: Mapping[str, int], room: int) -> dict[str, int]:
    """Returns the widths of columns that share the remaining room, up to their full widths."""
    widths = dict(minimal)
    narrow = sorted((n for n in widths if widths[n] < full[n]), key=lambda n: full[n] - widths[n])
    for place, name in enumerate(narrow):
        more = min(full[name] - widths[name], max(room, 0) // (len(narrow) - place))
        widths[name] += more
        room -= more
    return widths
