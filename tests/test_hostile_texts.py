"""Whatever a study's titles, reasons and folders contain, all commands work and nothing acts."""

import csv
import dataclasses
import io
import itertools
import json
import re
import sys
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from reporting import PROVENANCE, write_study

from ablations.cli import main
from ablations.records import Record, Status

TITLES = [
    "small: fast: wide", "@SUM(1)", "=cmd()|' /C calc'!A0", "$\\frac{$ x_1^2 \x1b[31mred\x00",
    "two\nlines | `code` <script>alert(1)</script>", "{{7*7}} [/red] [bold]", "\u202e gnp.exe # é",
    "\ufffe\x85&lt;b&gt;",
]  # fmt: skip
REASON = "ended \x1b]0;title\x07 [/red] | `x`\n=1+1 \x9b31m"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    titles = itertools.cycle(TITLES)
    folder = tmp_path_factory.mktemp("results") / "[/red] [bold]\x1b[31m"
    made = write_study(
        folder / "[red]x",
        {
            "resnet": [70.0, 71.0], "recipe": [72.0, 72.5], "stage-ratio": [73.0, None],
            "patchify": [Record(Status.FAILED, reason=REASON, provenance=PROVENANCE)],
        },
        settings=[f"title={json.dumps(TITLES[3])}"],
        change=lambda v: dataclasses.replace(v, title=next(titles), section=next(titles)),
    )  # fmt: skip
    for _variant, run, run_folder in made.runs():
        if (run.key, run.seed) == ("patchify", 0):
            run_folder.log.write_text(REASON, encoding="utf-8")
    return folder


@pytest.fixture
def told(results, monkeypatch, capsys):
    """Calls a command, and returns its standard output and error."""

    def call(*words: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *words, "--results", str(results)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        assert end.value.code in (0, None), printed.err
        return printed.out, printed.err

    return call


def unseen(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs")} - {"\n"}


@pytest.mark.parametrize(
    "words",
    [["status", "[red]x"], ["collect", "[red]x"], ["compare", "[red]x"],
     ["plot", "--from", "[red]x"], ["logs", "[red]x", "--step", "patchify"]],
)  # fmt: skip
def test_a_command_shows_what_there_is(words, told, results) -> None:
    out, err = told(*words)
    if words[0] == "logs":
        assert out == REASON  # not on a terminal: as it is
        return
    assert unseen(out + err) == set()
    assert ("[/red] [bold]\\x1b[31m" in out) == (words[0] != "compare")
    assert "[red]x" in out
    for path in results.rglob("*.svg"):
        ET.parse(path)  # noqa: S314


@pytest.mark.integration
@pytest.mark.parametrize("command", ["collect", "compare"])
def test_programs_and_pages_read_the_tables(command, told) -> None:
    out, err = told(command, "[red]x", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["step"] for row in rows] == ["resnet", "recipe", "stage-ratio", "patchify"]
    assert not any((cell or "").startswith(("=", "@")) for row in rows for cell in row.values())
    values = json.loads(told(command, "[red]x", "--format", "json")[0], parse_constant=pytest.fail)
    assert [list(row) for row in values] == [list(row) for row in rows] or command == "collect"
    assert values[0]["label"] == TITLES[0]
    assert err == ""
    out, _err = told(command, "[red]x", "--format", "markdown")
    page = MarkdownIt("commonmark").enable("table").render(out)
    assert page.count("<tr>") == 5
    assert "<script" not in page
    assert unseen(out) == set()


@pytest.mark.integration
def test_the_report_and_its_pictures(told, results) -> None:
    told("report", "[red]x")
    folder = results / "[red]x"
    page, text = (folder / f"report.{kind}" for kind in ("html", "md"))
    assert unseen(page.read_text(encoding="utf-8") + text.read_text(encoding="utf-8")) == set()
    pictures = re.findall(r"data:image/svg\+xml,([^']+)'", page.read_text(encoding="utf-8"))
    assert len(pictures) > 3
    for picture in pictures:
        ET.fromstring(unquote(picture))  # noqa: S314
    for path in folder.rglob("*.svg"):
        ET.parse(path)  # noqa: S314


def test_an_error_shows_what_was_asked(monkeypatch, capsys) -> None:
    for words in (["steps", "\x1b[31m[/red]"], ["\x1b[31m[/red]"], ["flops", "--x\x1b[31m[/red]"]):
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *words])
        with pytest.raises(SystemExit, match="2"):
            main()
        shown = capsys.readouterr().err
        # Before 8.5, click shows only the printable part of an unknown option.
        assert "[/red]" in shown
        assert "\x1b" not in shown
