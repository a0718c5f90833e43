"""Titles of any script and length in pictures: shown, or said not to be, and never a warning."""

import dataclasses
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from reporting import write_study

from ablations.charts import chart, fonts
from ablations.charts.canvas import boxes_note, render
from ablations.charts.figures import study_figure
from ablations.charts.layout import ELLIPSIS, shorten, width, wrap
from ablations.charts.settings import ChartSettings
from ablations.cli import main
from ablations.report.page import make

PLAIN = ChartSettings()
SVG = "{http://www.w3.org/2000/svg}"
NO_FONT = "\U000f0000"  # for private use: a character that fonts of texts do not have
SCRIPTS = {
    "resnet": "\u6df1\u5ea6\u5b66\u4e60 ResNet $x_1$",
    "recipe": "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 recipe \u05e2\u05d1\u05e8\u05d9\u05ea",
    "patchify": "stem \U0001f389 \U0001f469\u200d\U0001f467",
    "ln": "\ud55c\uad6d\uc5b4 \u65e5\u672c\u8a9e \u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d",
}


def study_of(folder: Path, titles: dict[str, str]):
    return write_study(
        folder,
        {step: [80.0, 81.0] for step in titles},
        change=lambda variant: dataclasses.replace(variant, title=titles[variant.key]),
    )


def texts_of(svg: bytes) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


@pytest.mark.integration
def test_titles_of_all_scripts_are_in_charts_and_reports(tmp_path: Path) -> None:
    """pytest makes an error of every warning, as of a glyph that is missing."""
    study = study_of(tmp_path / "scripts", {**SCRIPTS, "gelu": f"{NO_FONT} of no font"})
    figure = study_figure(study)
    for kind in ("png", "pdf"):
        assert render(figure, kind, PLAIN)
    unseen = fonts.lacking([*SCRIPTS.values(), NO_FONT])
    shown = "".join(texts_of(render(figure, "svg", PLAIN)))
    assert NO_FONT in unseen
    assert all(char in shown for char in unseen)
    assert all(char in boxes_note(figure, PLAIN) for char in unseen[:20])
    for picture in make(study).curves:
        ET.fromstring(picture.content)  # noqa: S314


@pytest.mark.integration
def test_what_our_font_has_is_drawn_in_it(tmp_path: Path) -> None:
    study = study_of(tmp_path / "latin", {"resnet": "B\u00e9zier \u03b1 \u0416", "ln": "plain"})
    figure = study_figure(study)
    assert boxes_note(figure, PLAIN) == ""
    assert texts_of(render(figure, "svg", PLAIN)) == []


def test_another_installed_font_has_what_ours_lacks() -> None:
    """A sign that the fonts have which come with matplotlib, though not ours."""
    sign = "\u20dd" if fonts._family_of("\u20dd") else "\u1d84"
    own = fonts._charmap(fonts.font_manager.findfont(fonts.FONT))
    assert ord(sign) not in own
    with PLAIN.context():
        found, lacking = fonts.families(f"a{sign}"), fonts.lacking([f"a{sign}"])
    assert found[0] == fonts.FONT
    assert len(found) == 2 or sign == "\u20dd"  # a mark upon a letter is drawn with it
    assert lacking == ""


@pytest.mark.parametrize("text", ["word " * 400, "W" * 2000, "\u6df1" * 2000, "a " + "b" * 900])
def test_long_texts_are_cut_visibly(text: str) -> None:
    lines = wrap(text, 1.6)
    assert len(lines) == 6
    assert lines[-1].endswith(ELLIPSIS)
    assert all(width(line) <= 1.6 for line in [*lines, shorten(text, 1.6)])
    assert shorten(text, 1.6).endswith(ELLIPSIS)
    assert wrap("short", 1.6) == ["short"]
    assert shorten("short", 1.6) == "short"


@pytest.mark.integration
def test_the_command_says_what_no_font_has(tmp_path, monkeypatch, capsys) -> None:
    study_of(tmp_path / "some", {"resnet": f"{NO_FONT} title", "ln": "plain"})
    for command in (["plot", "--from", "some"], ["collect", "some"]):
        arguments = [*command, "--results", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        assert NO_FONT in capsys.readouterr().err


def test_the_papers_chart_is_written_here_and_not_where_its_tables_are(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    written = []
    monkeypatch.setattr(
        chart, "save_figure", lambda *given: written.append(given[1].resolve()) or given[1]
    )
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", "plot", "--from", "paper"])
        with pytest.raises(SystemExit):
            main()
    assert set(written) == {tmp_path / "roadmap-paper.png", tmp_path / "roadmap-paper.svg"}
    study_of(tmp_path / "results" / "a", {"resnet": "a"})
    study_of(tmp_path / "results" / "b", {"resnet": "b"})
    written.clear()
    arguments = ["plot", "--from", "a", "--second", "b", "--results", "results"]
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert set(written) == {tmp_path / "roadmap-a-b.png", tmp_path / "roadmap-a-b.svg"}
    capsys.readouterr()
