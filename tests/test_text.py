"""Texts from elsewhere: whatever they are, people see them as they are, and nothing acts."""

import ast
import csv
import html
import io
import re
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ablations import terminal
from modernize.text import csv_cell, from_csv, latex, markdown, one_line, plural, shell, visible

ROOT = Path(__file__).parent.parent
TEXTS = st.text(st.characters(exclude_categories=[])) | st.text(
    "=+-@'\t\r\n 1.e,\"|`*_<>[]()#\\&;a$~"
)


@given(TEXTS)
def test_visible_texts(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    shown.encode("utf-8")  # no lone surrogates
    seen = set(shown) - set("\n\t\u200c\u200d")
    assert not {c for c in seen if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    ET.fromstring(f"<t>{html.escape(shown)}</t>")  # noqa: S314  # XML takes it
    assert "\n" not in one_line(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\x00b\x7f\x9b", "a\\x00b\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800\ufffe", "\\ud800\\ufffe"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("lines\r\nand\ttabs\n", "lines\nand\ttabs\n"),
        ("汉字, العربية, 👨\u200d👩, é", "汉字, العربية, 👨\u200d👩, é"),
    ],
)
def test_what_is_seen_of_a_text(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(TEXTS)
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    shown, cell = html.escape(one_line(text), quote=False), markdown(text)
    assert reader.render(cell).replace("&quot;", '"') == (f"<p>{shown}</p>\n" if shown else "")
    table = reader.render(f"| a | b |\n| --- | --- |\n| {cell} | end |\n").replace("&quot;", '"')
    assert f"<tr>\n<td>{shown}</td>\n<td>end</td>\n</tr>\n" in table


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("76.10 ± 0.20", r"$76.10 \pm 0.20$"),
        ("-1.2", "$-1.2$"),
        ("+0.38 to -0.70", "$+0.38$ to $-0.70$"),
        ("+0.5 ± 0.1 (95 %)", r"$+0.5 \pm 0.1$ (95 \%)"),
        ("25,557,032", "25,557,032"),
        ("kernel-5, 1e-05", "kernel-5, 1e-05"),
        ("a_b & 5 % of {#1}$", r"a\_b \& 5 \% of \{\#1\}\$"),
        (r"C:\x^2~", r"C:\textbackslash{}x\textasciicircum{}2\textasciitilde{}"),
        ("p < 0.001", "p $<$ 0.001"),
        ("--only", "-{}-only"),
        ("[2] * 'x'", "{[}2{]} {*} {'}x{'}"),
        ("two\nlines", "two lines"),
    ],
)
def test_latex_shows_a_text_as_it_is(text: str, cell: str) -> None:
    assert latex(text) == cell


@given(TEXTS)
def test_no_text_is_a_command_of_latex(text: str) -> None:
    """Only the commands of the renderer are left, all braces are closed, and math mode ends."""
    cell = latex(text)
    rest = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\(pm|times)\b", "", cell)
    rest = re.sub(r"\\[{}#$%&_]", "", rest)
    assert not set(rest) & set("\\#%&_~^\n")
    assert rest.count("{") == rest.count("}")
    assert rest.count("$") % 2 == 0


@given(TEXTS)
def test_a_cell_is_no_formula_and_is_read_back(text: str) -> None:
    cell = csv_cell(text)
    out = io.StringIO(newline="")
    csv.writer(out).writerow([cell, 1])
    out.seek(0)
    assert next(csv.reader(out)) == [cell, "1"]
    assert from_csv(cell) == visible(text)
    if cell.lstrip()[:1] in tuple("=+-@") or cell[:1] in tuple("\t\n"):
        float(cell)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=cmd()", "'=cmd()"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        (" +1+1", "' +1+1"),
        ("-x", "'-x"),
        ("-0.5", "-0.5"),
        ("+1e-3", "+1e-3"),
        (-0.5, -0.5),
        (None, None),
    ],
)
def test_only_texts_are_quoted(value: object, cell: object) -> None:
    assert csv_cell(value) == cell


@pytest.mark.integration
@pytest.mark.parametrize(
    "word", ["plain", "two words", "it's", "a\nb\t\x1b[0m\\'", "é\u202e", "\udcff"]
)
def test_a_shell_reads_a_word_back(word: str) -> None:
    typed = shell(word)
    assert visible(typed) == typed
    told = subprocess.run(["bash", "-c", f"printf %s {typed}"], capture_output=True, check=True)
    assert told.stdout == word.encode("utf-8", "surrogateescape")


def test_counted_nouns() -> None:
    assert [plural(n, "run") for n in (0, 1, 2, 1000)] == [
        "0 runs",
        "1 run",
        "2 runs",
        "1,000 runs",
    ]
    assert plural(2, "process") == "2 processes"
    assert plural(2, "epoch") == "2 epochs"


def test_no_text_leaves_the_plural_to_its_reader() -> None:
    for path in [*(ROOT / "ablations").rglob("*.py"), *(ROOT / "modernize").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"\w\(e?s\)", node.value), f"{path}:{node.lineno}"


def test_a_console_takes_no_text_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[/red] [bold]x[/] :smile: \x1b]0;title\x07"
    terminal.console().print(text, soft_wrap=True)
    terminal.echo(text)
    shown = text.replace("\x1b", "\\x1b").replace("\x07", "\\x07")
    assert capsys.readouterr().out == f"{shown}\n{shown}\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_log_is_seen_on_a_terminal_and_whole_elsewhere(
    monkeypatch, capfdbinary, size: int
) -> None:
    log = b"10 %\r20 %\r\n\x1b[1;31mred\x1b[0m \x1b]0;t\x07 \xc3\xa9\n"
    for seen in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda seen=seen: seen)
        printer = terminal.LogPrinter()
        for start in range(0, len(log), size):
            printer.write(log[start : start + size])
        printer.write(b"", final=True)
    shown = "10 %\n20 %\nred \\x1b]0;t\\x07 é\n".encode()
    assert capfdbinary.readouterr().out == log + shown


def test_all_text_for_people_goes_through_one_place() -> None:
    """No module prints in another way."""
    forbidden = {"click.echo", "click.secho", "Console", "rich.print", "sys.stdout.write", "print"}
    found = []
    for path in (ROOT / "ablations").rglob("*.py"):
        name = path.relative_to(ROOT / "ablations").as_posix()
        if name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                bar = called == "TextColumn" and "markup=False" not in ast.unparse(node)
                if called in forbidden or bar:
                    found.append(f"{name}:{node.lineno}: {called}")
            elif isinstance(node, ast.ImportFrom) and node.module == "rich.markup":
                found.append(f"{name}:{node.lineno}: rich.markup")
    assert found == []
