"""Rows -> text: a table for the terminal, CSV, JSON or Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

FORMATS = ("table", "csv", "json", "markdown")
WIDE = 1000  # columns; a table is no wider than its cells, so nothing wraps


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a header and a line per row; truth as ``yes`` and ``no``, nothing as nothing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(["yes" if v is True else "no" if v is False else v for v in row.values()])
    return out.getvalue().removesuffix("\n")


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a list of objects."""
    return json.dumps([dict(row) for row in rows], indent=1)


def as_markdown(rows: Sequence[Mapping[str, str]], right: Sequence[str] = ()) -> str:
    """Returns a Markdown table of texts; the columns named in ``right`` are right-aligned."""
    header = list(rows[0])
    lines = [header, ["---:" if name in right else "---" for name in header]]
    lines += [[cell.replace("|", r"\|") for cell in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def make_table(
    rows: Sequence[Mapping[str, str]], right: Sequence[str] = (), title: str = ""
) -> Table:
    """Returns a table of texts, the columns ``right`` set flush right."""
    # Texts, or rich would take what stands in brackets for its markup.
    head = Text(title) if title else None
    table = Table(title=head, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        number = name in right
        table.add_column(name, justify="right" if number else "left", no_wrap=number)
    for row in rows:
        table.add_row(*map(Text, row.values()))
    return table


def print_table(
    console: Console, rows: Sequence[Mapping[str, str]], right: Sequence[str] = (), title: str = ""
) -> None:
    """Prints a table of texts; where the output is no terminal, no column is cut or wrapped."""
    table = make_table(rows, right, title)
    if not console.is_terminal:
        console = Console(file=console.file, width=WIDE)
    console.print(table)
