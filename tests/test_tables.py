"""Tables on a terminal: what is in a cell is shown as it is."""

import csv
import io
import json
import re

import pytest
from rich.console import Console

from ablations import tables, terminal
from ablations.tables import Columns


def test_brackets_are_no_markup():
    """As in the messages of libraries, which end up in the table of `status`."""
    out = io.StringIO()
    text = "[/__w/third_party/gloo/pair.cc:537] Connection [bold]closed"
    tables.print_table(Console(file=out), [{"detail": text}], title="[all] of it")
    assert text in out.getvalue()
    assert "[all] of it" in out.getvalue()


ROWS = [
    {"step": "a-long-key-of-a-step", "label": "words that may wrap", "n": "3", "top-1": "81.25"},
    {"step": "b", "label": "x", "n": "5", "top-1": "9.00"},
]
COLUMNS = Columns(numbers=("n", "top-1"), optional=("label", "n"), wrapped={"label": 8})


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (None, ["step", "label", "n", "top-1"]),
        (80, ["step", "label", "n", "top-1"]),
        (48, ["step", "label", "n", "top-1"]),
        (40, ["step", "n", "top-1"]),
        (32, ["step", "top-1"]),
        (10, ["step"]),
    ],
)
def test_what_has_no_room_is_named_and_the_key_is_whole(width, shown):
    widths, dropped = tables.fit(ROWS, COLUMNS, width)
    assert list(widths) == shown
    assert sorted([*shown, *dropped]) == sorted(ROWS[0])
    out = io.StringIO()
    console = terminal.console(file=out)
    console._force_terminal, console._width = width is not None, width
    tables.print_table(console, ROWS, COLUMNS)
    told = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert "a-long-key-of-a-step" in told
    assert all(name in told for name in ROWS[0])
    table = [line for line in told.splitlines() if not line.startswith("Omitted columns")]
    assert max(map(len, table)) <= max(width or 200, len(" a-long-key-of-a-step "))


def test_a_column_that_is_kept_is_omitted_last():
    kept = COLUMNS.keeping("label", 8)
    assert list(tables.fit(ROWS, kept, 48)[0]) == ["step", "label", "n", "top-1"]
    assert list(tables.fit(ROWS, kept, 42)[0]) == ["step", "label", "top-1"]
    assert list(tables.fit(ROWS, kept, 32)[0]) == ["step", "top-1"]


def test_no_rows():
    assert tables.as_csv([]) == tables.as_markdown([]) == tables.as_latex([]) == ""
    assert json.loads(tables.as_json([])) == []
    tables.print_table(terminal.console(file=io.StringIO()), [])


def test_programs_read_what_tables_write():
    rows = [{"name": '=1+1\n"x", \x1b', "value": float("nan"), "more": -0.5, "yes": True}] * 2
    read = list(csv.DictReader(io.StringIO(tables.as_csv(rows))))
    assert read == [{"name": '\'=1+1\n"x", \\x1b', "value": "", "more": "-0.5", "yes": "yes"}] * 2
    assert json.loads(tables.as_json(rows)) == [{**rows[0], "value": None}] * 2


def test_changes_that_are_not_from_the_row_above_are_named():
    assert tables.change_note({"a": "", "b": "a", "c": "b"}) == ""
    assert tables.change_note({"a": "", "b": "a", "c": "a"}).endswith("from a.")
    mixed = tables.change_note({"a": "", "b": "a", "c": "b", "d": "b", "e": "b"})
    assert "d, e from b" in mixed


def test_latex_is_a_tabular_with_title_and_notes_as_comments():
    rows = [{"step": "a_b", "top-1": "76.10 ± 0.20"}, {"step": "[c]", "top-1": "80.00"}]
    report = tables.Report(rows, rows, Columns(numbers=("top-1",)), "title\n\\evil", ["a note"])
    assert report.as_text("latex").splitlines() == [
        r"% title \evil",
        "% a note",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"step & top-1 \\",
        r"\midrule",
        r"a\_b & $76.10 \pm 0.20$ \\",
        r"{[}c{]} & 80.00 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_notes_are_broken_between_words_only_on_a_terminal(is_terminal: bool) -> None:
    note = "a note that is wider than a narrow terminal, which breaks it between words"
    console = Console(file=io.StringIO(), width=30, force_terminal=is_terminal, color_system=None)
    tables.Report([{"a": 1}], [{"a": "1"}], title=note, notes=[note]).show(console, "table")
    said = console.file.getvalue()
    assert (note in said) is not is_terminal
    assert " ".join(said.split()).count(note) == 2
    assert not is_terminal or max(map(len, said.splitlines())) <= 30
