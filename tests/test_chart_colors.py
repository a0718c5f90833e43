"""A section has one colour, whichever others a chart, a report or a benchmark shows."""

from pathlib import Path

from reporting import write_study

from ablations.analysis.summary import read_summary
from ablations.charts.colors import HUES, section_hues
from ablations.charts.figures import study_figure
from ablations.charts.settings import ChartSettings
from ablations.records import Study
from ablations.report import pictures
from modernize.steps import STEPS

PLAIN = ChartSettings()
SECTIONS = list(dict.fromkeys(step.section for step in STEPS))


def bars(study: Study) -> dict[str, tuple[float, ...]]:
    artists = study_figure(study).findobj(lambda a: (a.get_gid() or "").startswith("bar-main-"))
    return {
        artist.get_gid().removeprefix("bar-main-"): artist.get_edgecolor() for artist in artists
    }


def test_a_part_of_the_road_has_the_colours_of_the_whole(tmp_path: Path) -> None:
    whole = write_study(tmp_path / "whole", {step.key: [80.0, 81.0] for step in STEPS})
    part = write_study(tmp_path / "part", {step: [80.0, 81.0] for step in ("patchify", "ln")})
    assert bars(part) == {step: bars(whole)[step] for step in ("patchify", "ln")}
    colors = pictures.colors(part, read_summary(part), PLAIN)
    assert colors == {
        step: pictures.colors(whole, read_summary(whole), PLAIN)[step] for step in colors
    }


def test_each_section_of_the_road_has_another_colour() -> None:
    assert len({section_hues(SECTIONS)[section] for section in SECTIONS}) == len(SECTIONS)


def test_other_sections_come_after_it_in_the_order_of_their_study() -> None:
    known = ["Base", "First", "Second"]
    place = len(SECTIONS)
    assert section_hues(["Second"], known)["Second"] == HUES[(place + 2) % len(HUES)]
    assert section_hues(["First", "Second"], known)["Second"] == HUES[(place + 2) % len(HUES)]
