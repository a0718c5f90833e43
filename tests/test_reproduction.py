"""How a study is made again: the command of a report, and what it reads."""

import dataclasses
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reporting import write_study

from ablations.choices import Start
from ablations.recipe import load_preset
from ablations.records import Study
from ablations.report.html import as_html
from ablations.report.page import make
from ablations.report.reproduction import _which_preset, as_yaml, reproduction
from ablations.studies import study_file, variants
from ablations.studies.selection import fit_to_images
from modernize.steps import Variant
from modernize.text import visible


@pytest.mark.parametrize(
    ("given_ones", "words"),
    [
        ([], "--preset nano --only recipe,ln --seeds 2 --name again"),
        (["epochs=2"], "--preset nano --set epochs=2 --only recipe,ln --seeds 2"),
        (["enhanced.epochs=2"], "--preset nano --set recipes.enhanced.epochs=2"),
        (["data.source=/a b", "title=a b"], "--set 'title=a b' --set 'data.source=/a b'"),
    ],
)
def test_the_command_makes_the_same_study(tmp_path, given_ones, words) -> None:
    made = write_study(tmp_path / "again", {"recipe": [1.0, 2.0], "ln": []}, settings=given_ones)
    found = reproduction(made)
    line = found.command.replace("\\\n   ", "")
    assert words in re.sub(" +", " ", line)
    (tmp_path / "preset.yaml").write_text(found.preset)
    assert load_preset(str(tmp_path / "preset.yaml")) == made.preset
    assert found.files == {}


@pytest.mark.integration
@settings(max_examples=40, deadline=None)
@example("small: fast: wide", "{{7*7}}")
@example("@SUM(1)", "two\nlines")
@example("1e3", "010")
@example("\x1b[0m", "no")
@given(*(st.text(st.characters(exclude_categories=["Cs"])),) * 2)
def test_any_title_and_source_can_be_made_again(title: str, source: str) -> None:
    preset = load_preset("nano")
    data = preset.data.model_copy(update={"source": source})
    preset = preset.model_copy(update={"title": title, "data": data})
    words = _which_preset(preset)
    if words is not None:
        assert load_preset(words[1], words[3::2]) == preset
    text = as_yaml(preset)
    assert visible(text) == text  # as a page shows it
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "preset.yaml")
        path.write_text(text, encoding="utf-8")
        assert load_preset(str(path)) == preset


def test_a_preset_unlike_any_goes_with_the_page(tmp_path: Path) -> None:
    odd = [f"enhanced.{key}" for key in (
        "epochs=9", "batch_size=8", "micro_batch_size=4", "learning_rate=1", "weight_decay=0",
        "mixup=0.5", "cutmix=0.5", "drop_path=0.3", "label_smoothing=0", "flip=0",
        "crop_padding=0",
    )]  # fmt: skip
    found = reproduction(write_study(tmp_path / "odd", {"recipe": [1.0]}, settings=odd))
    assert "--preset preset.yaml" in found.command
    assert found.files == {"preset.yaml": found.preset}


def test_networks_that_are_not_the_roadmaps_have_no_command(tmp_path: Path) -> None:
    def widen(variant):
        return dataclasses.replace(variant, spec=variant.spec.replace(width=32))

    made = write_study(tmp_path / "own", {"recipe": [80.0]}, change=widen)
    assert reproduction(made).command == ""
    assert "study.json describes" in as_html(make(made))


def test_another_study_that_is_shipped_has_its_command(tmp_path: Path) -> None:
    made = write_study(tmp_path / "out", {"resnet": [80.0]})
    resolved = variants.resolve_study(
        study_file.read_study("leave-one-out"), "nano", made.preset.recipes
    )
    other = Study.merge(
        tmp_path / "left",
        preset=made.preset,
        regime="nano",
        images=made.manifest["images"],
        variants=fit_to_images(resolved.variants, 1, 10),
        seeds=2,
        order=[v.key for v in resolved.variants],
        name="leave-one-out",
        title=resolved.title,
    )
    line = reproduction(other).command.replace("\\\n   ", "")
    words = re.sub(" +", " ", line)
    assert words.endswith("--preset nano --study leave-one-out --seeds 2 --name left")
    other.manifest["variants"] = other.manifest["variants"][1:3]
    assert "--only" in reproduction(Study(other.folder, other.manifest)).command
    other.manifest["study"] = "mine"
    assert reproduction(Study(other.folder, other.manifest)).command == ""


def test_the_whole_road_and_its_beginning_are_named_shortly(tmp_path: Path) -> None:
    made = write_study(tmp_path / "two", {"resnet": [80.0], "recipe": [81.0]})
    assert "--until recipe" in reproduction(made).command


@pytest.mark.parametrize(
    ("start", "setting"),
    [
        ({"study": "before"}, "--set start=study:before"),
        ({"file": "w.pt"}, "--set start=w.pt"),
        ({"study": "before", "ema": True}, "--preset preset.yaml \\\n    --only recipe,ln"),
    ],
)
def test_the_weights_that_runs_start_from_are_named(
    tmp_path: Path, start: dict[str, Any], setting: str
) -> None:
    def with_start(variant: Variant) -> Variant:
        return dataclasses.replace(variant, start=Start(**start).model_dump())

    made = write_study(tmp_path / "after", {"recipe": [80.0], "ln": [81.0]}, change=with_start)
    made.manifest["preset"]["start"] = Start(**start).model_dump()
    made = Study(made.folder, made.manifest)
    found = reproduction(made)
    assert setting in found.command
    name = str(start.get("study", start.get("file")))
    assert name in found.needed
    page = make(made)
    assert found.needed.split()[-1] in as_html(page)
    assert name in page.about
    assert ("moving average" in page.about) == ("ema" in start)
