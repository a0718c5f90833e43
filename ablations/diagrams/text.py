"""A block's diagram as text, for terminals from 40 columns on.

The main line of a block runs down at the left, through a box for each convolution; the shortcut
runs down at the right. A mark in front of a layer shows what changed.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ablations.diagrams.blocks import BlockDiagram, was
from modernize.diagram import Change, Difference, Kind
from modernize.text import one_line

MARKS: Mapping[Change, str] = {
    Change.NEW: "+",
    Change.CHANGED: "~",
    Change.MOVED: "^",
    Change.REMOVED: "-",
}
"""The sign before a layer that differs."""

STYLES = {
    Change.NEW: "green",
    Change.CHANGED: "yellow",
    Change.MOVED: "cyan",
    Change.REMOVED: "red",
}

_LINE = 4  # column of the main line
_GAP = 4  # between two diagrams
_NAME = 14  # columns of the names of facts
_ASCII = str.maketrans("│─┌┐└┘├┤┬┴→", "|-++++++++>")


def show(console: Console, diagrams: Sequence[BlockDiagram]) -> None:
    """Prints diagrams beside each other, as many as fit, and the meaning of their marks."""
    alone = len(diagrams) == 1
    widths = [max(console.width if alone else 0, width(diagram)) for diagram in diagrams]
    begin = 0
    while begin < len(diagrams):
        end, room = begin + 1, console.width - widths[begin]
        while end < len(diagrams) and (room := room - widths[end] - _GAP) >= 0:
            end += 1
        shown = zip(diagrams[begin:end], widths[begin:end], strict=True)
        columns = [lines(diagram, size, alone=alone) for diagram, size in shown]
        for row in itertools.zip_longest(*columns, fillvalue=Text()):
            _print(console, _beside(row, widths[begin:end]))
        console.print()
        begin = end
    if marks := legend(diagrams):
        console.print(marks)


def legend(diagrams: Sequence[BlockDiagram]) -> str:
    """Returns the meaning of the marks that diagrams have; empty if nothing is marked."""
    used = {difference.change for diagram in diagrams for difference in diagram.differences}
    if any(fact.before is not None for diagram in diagrams for fact in diagram.facts):
        used.add(Change.CHANGED)
    return ", ".join(f"{mark} {change}" for change, mark in MARKS.items() if change in used)


def width(diagram: BlockDiagram) -> int:
    """Returns the columns that a diagram needs."""
    return max(_block_width(diagram), 36)


def _block_width(diagram: BlockDiagram) -> int:
    parts = ((diagram.branch + diagram.after, 8), (diagram.shortcut, 10))
    return max(
        cell_len(line.plain) + frame
        for differences, frame in parts
        for difference in differences
        for line in _words(difference)
    )


def lines(diagram: BlockDiagram, columns: int, *, alone: bool = True) -> Iterator[Text]:
    """Yields the lines of a diagram.

    Args:
        diagram: the block.
        columns: at which texts wrap.
        alone: whether the network that it is compared with is not drawn beside it.
    """
    for line in textwrap.wrap(one_line(f"{diagram.key}: {diagram.title}"), columns):
        yield Text(line, style="bold")
    place = diagram.place + (f", changes from {diagram.against}" if diagram.against else "")
    yield from map(Text, textwrap.wrap(one_line(place), columns))
    yield Text()
    yield from _block(diagram, _block_width(diagram))
    yield Text()
    for fact in diagram.facts:
        mark = "" if fact.before is None else MARKS[Change.CHANGED]
        style = "" if fact.before is None else STYLES[Change.CHANGED]
        texts = [*fact.lines]
        if fact.before is not None and alone:
            texts += [f"was {'; '.join(fact.before)}"]
        wrapped = [line for text in texts for line in textwrap.wrap(text, columns - _NAME - 2)]
        for number, line in enumerate(wrapped):
            name = fact.name if number == 0 else ""
            yield Text(f"{mark if number == 0 else '':<2}{name:<{_NAME}}{line}", style=style)


def _block(diagram: BlockDiagram, size: int) -> Iterator[Text]:
    """Yields the lines of the block itself, of this width."""
    rail = size - 1  # column of the shortcut
    yield Text(f"{'':2}{diagram.in_width:,} channels")
    yield _row({_LINE: "│"})
    yield _row({_LINE: "├" + " shortcut ".center(rail - _LINE - 1, "─") + "┐"})
    for difference in diagram.branch:
        yield from _layer(difference, 0, rail - 3, {rail: "│"}, _LINE)
    for difference in diagram.shortcut:
        yield from _layer(difference, _LINE + 2, rail + 1, {_LINE: "│"}, rail - 2)
    yield _row({_LINE: "+" + "─" * (rail - _LINE - 1) + "┘"})
    for difference in diagram.after:
        yield from _layer(difference, 0, rail - 3, {}, _LINE)
    yield _row({_LINE: "│"})
    yield Text(f"{'':2}{diagram.out_width:,} channels")


def _layer(
    difference: Difference, left: int, right: int, beside: Mapping[int, str], line: int
) -> Iterator[Text]:
    """Yields the lines of a layer: of a convolution a box, of others a text at its line.

    Args:
        difference: the layer.
        left: its first column.
        right: the column after its last one.
        beside: column -> the line that runs past it.
        line: column of its line.
    """
    words = _words(difference)
    if difference.layer.kind is not Kind.CONV:
        for text in words:
            before = line > left + 20  # on the shortcut, the text is left of the line
            place = line - cell_len(text.plain) - 1 if before else line + 2
            yield _row({**beside, line: "│", place: text})
        return
    inner = right - left - 2

    def edge(corners: str, joint: str) -> Text:
        top = corners[0] + "─" * inner + corners[1]
        place = line - left
        return _row({**beside, left: top[:place] + joint + top[place + 1 :]})

    yield edge("┌┐", "┴")
    for text in words:
        yield _row({**beside, left: "│", left + 2: text, right - 1: "│"})
    yield edge("└┘", "┬")


def _words(difference: Difference) -> list[Text]:
    """Returns the lines of a layer's text, with its mark and the layer that it replaces."""
    text, change = one_line(difference.layer.text), difference.change
    if change is Change.SAME:
        return [Text(text)]
    lines = [f"{MARKS[change]} {text}", f"  {one_line(was(difference))}"]
    return [Text(line, style=STYLES[change]) for line in lines if line.strip()]


def _row(parts: Mapping[int, str | Text]) -> Text:
    """Returns a line with texts at columns; a later column is moved right if it is taken."""
    row = Text()
    for column in sorted(parts):
        row.append(" " * (column - cell_len(row.plain)))
        row.append(parts[column])
    return row


def _beside(row: Sequence[Text], widths: Sequence[int]) -> Text:
    """Returns parts of a line in columns of these widths."""
    whole = Text()
    column = 0
    for part, size in zip(row, widths, strict=True):
        whole.append(" " * (column - cell_len(whole.plain)))
        whole.append(part)
        column += size + _GAP
    return whole


def _print(console: Console, line: Text) -> None:
    line.rstrip()
    if not console.encoding.lower().startswith("utf"):
        line = Text(line.plain.translate(_ASCII))
    console.print(line, soft_wrap=True)
