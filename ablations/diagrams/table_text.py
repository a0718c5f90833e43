"""Tables of architectures as text: for terminals and programs, as Markdown and as LaTeX."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ablations import tables, terminal
from ablations.diagrams.table import Column, Group
from ablations.units import flops, integer
from modernize import text

_GAP = 2  # characters between two networks
_EDGES = 2  # beside the first and the last column
_DEPTHWISE = re.compile(r"d\d+x")
_SIZE = re.compile(r"(\d ?)x( ?\d)")


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row: the lines of its name, and the content of each network's cell."""

    name: Sequence[str]
    cells: Sequence[Sequence[Group]]
    ends: bool  # whether a rule follows


def show(console: Console, columns: Sequence[Column], title: str) -> None:
    """Prints a table; networks that do not fit beside each other are in a table below."""
    terminal.print_text(console, text.one_line(title))
    rows = _rows(columns)
    left = max(cell_len(line) for row in rows for line in row.name)
    widths = [
        max(cell_len(line) for line in (column.title, *(x for r in rows for x in _lines(r, n))))
        for n, column in enumerate(columns)
    ]
    begin = 0
    while begin < len(columns):
        end, room = begin + 1, console.width - left - _GAP - widths[begin] - _EDGES
        while end < len(columns) and (room := room - widths[end] - _GAP) >= 0:
            end += 1
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
        table.add_column("output", width=left)
        for column, width in zip(columns[begin:end], widths[begin:end], strict=True):
            table.add_column(Text(text.one_line(column.title)), width=width)
        for row in rows:
            cells = [row.name, *(_lines(row, number) for number in range(begin, end))]
            table.add_row(*(Text(text.visible("\n".join(lines))) for lines in cells))
            if row.ends:
                table.add_section()
        console.print(table, soft_wrap=True)
        begin = end
    for note in notes(columns):
        terminal.print_text(console, text.one_line(note))


def as_text(columns: Sequence[Column], title: str, style: str) -> str:
    """Returns a table as ``csv``, ``json``, ``markdown`` or ``latex``, with its notes.

    LaTeX needs the package ``booktabs``.
    """
    if style in ("csv", "json"):
        return tables.Report(_values(columns), ()).as_text(style)
    names = ["output", *(column.title for column in columns)]
    rows = _rows(columns)
    if style == "markdown":
        lines = [
            text.markdown(title),
            "",
            _line(map(text.markdown, names)),
            _line("---" for _ in names),
        ]
        lines += [
            _line(["<br>".join(map(text.markdown, row.name)), *map(_markdown, row.cells)])
            for row in rows
        ]
        return "\n".join([*lines, "", *(f"- {text.markdown(note)}" for note in notes(columns))])
    lines = [f"% {text.one_line(line)}" for line in (title, *notes(columns))]
    lines += [rf"\begin{{tabular}}{{{'l' * len(names)}}}", r"\toprule"]
    lines += [" & ".join(map(text.latex, names)) + r" \\", r"\midrule"]
    for row in rows:
        lines.append(
            " & ".join([_stack(map(_latex, row.name)), *map(_latex_cell, row.cells)]) + r" \\"
        )
        lines += [r"\midrule"] * row.ends
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def notes(columns: Sequence[Column]) -> list[str]:
    """Returns the notes below a table of these networks."""
    parts = [part for column in columns for part in column.parts]
    lines = [line for part in parts for group in part.groups for line in group.lines]
    found = ["d: depthwise convolution."] if any(map(_DEPTHWISE.match, lines)) else []
    return [*found, *(note for column in columns for note in column.notes)]


def _rows(columns: Sequence[Column]) -> list[_Row]:
    """Returns the rows of a table.

    The size of an output is below the name of its row if it is the same in all networks that have
    the row, and otherwise in the cells.
    """
    longest = max(columns, key=lambda column: len(column.parts))
    rows = []
    for name in (part.name for part in longest.parts):
        parts = [column.part(name) for column in columns]
        sides = {part.side for part in parts if part}
        lines = [name]
        cells = [part.groups if part else () for part in parts]
        if len(sides) == 1:
            lines += [_size(side) for side in sides if side]
        else:
            cells = [
                (*cell, Group((f"({_size(part.side)})",))) if part and part.side else cell
                for cell, part in zip(cells, parts, strict=True)
            ]
        rows.append(_Row(lines, cells, ends=sides != {None} or name == "head"))
    for name, values in (
        ("FLOPs", [flops(column.flops) for column in columns]),
        ("params", [integer(column.params) for column in columns]),
    ):
        rows.append(_Row([name], [[Group((value,))] for value in values], ends=False))
    return rows


def _values(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Returns a row of values for each part of each network."""
    return [
        {
            "network": column.title,
            "part": part.name,
            "side": part.side,
            "layers": "; ".join(map(_plain, part.groups)),
            "blocks": next((group.blocks for group in part.groups if group.blocks), None),
            "image_size": column.image_size,
            "flops": column.flops,
            "params": column.params,
        }
        for column in columns
        for part in column.parts
    ]


def _size(side: int) -> str:
    return f"{side} x {side}"


# -- cells ---------------------------------------------------------------------------------------


def _lines(row: _Row, number: int) -> list[str]:
    """Returns the lines of a cell; blocks are in brackets."""
    lines: list[str] = []
    for group in row.cells[number]:
        if group.blocks is None:
            lines += group.lines
            continue
        width, last = max(map(cell_len, group.lines)), len(group.lines) - 1
        left, right = ("┌" + "│" * (last - 1) + "└", "┐" + "│" * (last - 1) + "┘")
        sides = zip(left, group.lines, right, strict=True)
        texts = [f"{start} {line:<{width}} {end}" for start, line, end in sides]
        texts[last // 2] += f" x {group.blocks}"
        lines += texts
    return lines


def _plain(group: Group) -> str:
    """Returns a group on one line: "[d7x7, 96; 1x1, 384; 1x1, 96] x 3"."""
    layers = "; ".join(group.lines)
    return layers if group.blocks is None else f"[{layers}] x {group.blocks}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(cell: Sequence[Group]) -> str:
    texts = []
    for group in cell:
        layers = "<br>".join(map(text.markdown, group.lines))
        texts.append(layers if group.blocks is None else rf"\[{layers}\] x {group.blocks}")
    return "<br>".join(texts)


def _latex(line: str) -> str:
    return text.latex(_SIZE.sub("\\1\xd7\\2", line))


def _latex_cell(cell: Sequence[Group]) -> str:
    texts = []
    for group in cell:
        lines = [_latex(line) for line in group.lines]
        if group.blocks is None:
            texts += lines
            continue
        array = r" \\ ".join(rf"\mbox{{{line}}}" for line in lines)
        array = rf"\begin{{array}}{{@{{}}l@{{}}}} {array} \end{{array}}"
        texts.append(rf"$\left[ {array} \right] \times {group.blocks}$")
    return _stack(texts)


def _stack(lines: Iterable[str]) -> str:
    """Returns lines below each other in one cell of LaTeX."""
    texts = list(lines)
    if len(texts) < 2:
        return "".join(texts)
    inside = r" \\ ".join(texts)
    return rf"\begin{{tabular}}{{@{{}}l@{{}}}} {inside} \end{{tabular}}"
