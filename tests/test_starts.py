"""Runs that start from weights: identity, checks when planned and when training starts."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import TINY, call
from torch import Tensor

from ablations.commands.study_request import build_request
from ablations.records import WEIGHTS, Status, Study
from ablations.report.reproduction import reproduction
from modernize import build
from modernize.errors import WeightsError
from modernize.weights import load, write

EMA = ["--set", "ema_decay=0.5"]


def request(**options: Any) -> Any:
    names = ("first", "last", "seeds", "preset", "regime", "start", "data")
    given = {**dict.fromkeys(names), "study": "roadmap", "only": [], "settings": ()}
    return build_request(**{**given, "start_ema": False, **options})


def last_weights(study: Study, key: str, seed: int = 0) -> dict[str, Tensor]:
    [folder] = [f for _, run, f in study.runs() if (run.key, run.seed) == (key, seed)]
    tensors: dict[str, Tensor] = torch.load(folder.path / WEIGHTS, weights_only=True)["network"]
    return tensors


FROZEN = ["--set", "learning_rate=1e-30", "--set", "final_learning_rate=0"]


@pytest.fixture
def frozen(launch: Any) -> Any:
    """Launches with a learning rate that changes nothing: the last weights are the first."""
    return lambda *words, **options: launch(*words, *FROZEN, **options)


@pytest.mark.integration
def test_finished_runs_need_their_starts_no_more(
    launch: Any, few_images: Path, tmp_path: Path
) -> None:
    """Neither after the results were moved, nor without the weights that they started from."""
    road = ["--until", "recipe"]
    launch(*road, "--name", "before")
    launch(*road, "--name", "after", "--start", "study:before")
    results = tmp_path / "moved"
    results.mkdir()
    for name in ("before", "after"):
        (tmp_path / name).rename(results / name)

    def plan(*arguments: str, status: int = 0) -> str:
        words = [word for setting in TINY for word in ("--set", setting)]
        words += ["--data", str(few_images), "--results", str(results)]
        start = ["--name", "after", "--start", "study:before", "--dry-run"]
        return call(*words, *start, *arguments, status=status)

    moved = Study.open(results / "after")
    for _, run, _ in moved.runs():
        file = moved.start_of(run.key, run.seed)
        assert file is not None
        assert Path(file["path"]).is_file()
    assert str(tmp_path) not in json.dumps(moved.manifest["starts"])
    assert "0 of 2 runs to do" in plan(*road)
    for path in (results / "before").rglob(WEIGHTS):
        path.unlink()
    assert "0 of 2 runs to do" in plan(*road)
    said = plan("--until", "stage-ratio", status=2)
    assert "stage-ratio, seed 0" in said
    assert "recipe, seed 0" not in said
    shutil.rmtree(moved.folder / "runs")
    said = plan(*road, status=2)
    assert all(part in said for part in ("resnet, seed 0; recipe, seed 0", "before", WEIGHTS))


@pytest.mark.integration
def test_each_run_starts_from_that_of_its_step_and_seed(
    launch: Any, frozen: Any, tmp_path: Path
) -> None:
    two = ["--only", "ln", "--seeds", "2"]
    launch(*two, *EMA, "--name", "before")
    frozen(*two, "--name", "after", "--start", "study:before")
    frozen(*two, "--name", "average", "--start", "study:before", "--start-ema")
    frozen(*two, "--name", "fresh")
    before, after, average, fresh = (
        Study.open(tmp_path / name) for name in ("before", "after", "average", "fresh")
    )
    for _, run, folder in before.runs():
        started = last_weights(after, run.key, run.seed)
        for name, tensor in last_weights(before, run.key, run.seed).items():
            assert torch.allclose(started[name], tensor, atol=1e-6), name
        kept = load(folder.path / WEIGHTS, ema=True)
        assert torch.allclose(
            last_weights(average, run.key, run.seed)["head.weight"], kept.head.weight, atol=1e-6
        )
    # The start is part of a run's name and in its record and configuration.
    names = [{run.name for _, run, _ in study.runs()} for study in (after, average, fresh)]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    for _, run, folder in after.runs():
        record = folder.read_record()
        assert record is not None
        assert record.status is not Status.FAILED
        assert record.provenance["start"] == run.start
        assert json.loads((folder.path / "config.json").read_text())["start"] == run.start
    assert all(run.start is None for _, run, _ in fresh.runs())
    assert "--start study:before --start-ema" in re.sub(
        r"\s+", " ", reproduction(average).command.replace("\\\n", "")
    )
    # The same launch again trains nothing; another start of the same study is refused.
    assert "skip" in frozen(*two, "--name", "after", "--start", "study:before", "--dry-run")
    said = frozen(*two, "--name", "after", "--start", "study:average", status=2)
    assert "ln, seed 0" in said
    assert "ln, seed 1" in said


@pytest.mark.integration
@pytest.mark.parametrize("layout", ["timm", "ours"])
def test_a_file_with_other_classes_gives_all_except_the_head(
    frozen: Any, tmp_path: Path, layout: str
) -> None:
    theirs = build("downsample", "nano", num_classes=7, in_channels=1)
    write(theirs, tmp_path / "a.safetensors", layout)
    frozen("--only", "downsample", "--name", "new", "--start", str(tmp_path / "a.safetensors"),
           "--set", "head_init_scale=0.001")  # fmt: skip
    trained = last_weights(Study.open(tmp_path / "new"), "downsample")
    for name, tensor in theirs.state_dict().items():
        if not name.startswith("head."):
            assert torch.allclose(trained[name], tensor, atol=1e-6), name
    assert trained["head.weight"].shape[0] == 10
    assert 1e-6 < trained["head.weight"].abs().mean() < 1e-4


@pytest.mark.integration
def test_every_start_that_does_not_fit_is_refused_when_planned(launch: Any, tmp_path: Path) -> None:
    launch("--only", "ln", "--name", "before")
    words = ["--only", "gelu,ln,downsample", "--seeds", "2", "--name", "after", "--dry-run"]
    said = launch(*words, "--start", "study:before", status=2)
    for named in ("gelu, seed 0; gelu, seed 1", "ln, seed 1", "downsample, seed 0"):
        assert named in said
    assert "ln, seed 0" not in said
    [run] = (tmp_path / "before" / "runs").iterdir()
    said = launch(*words, "--start", str(run), status=2)
    assert "gelu, seed 0" in said
    assert "norm is layer, not batch" in said
    assert "downsampling is block, not separate" in said
    for start, named in (
        ("study:nowhere", "nowhere"),
        (str(tmp_path / "no.pth"), "no.pth"),
        (str(tmp_path / "before"), WEIGHTS),
    ):
        said = launch(*words, "--start", start, status=2)
        assert named in said
        assert "gelu, seed 0" in said
    assert "--start" in launch(*words, "--start-ema", status=2)
    assert "moving average" in launch("--only", "ln", "--start", str(run), "--start-ema", status=2)
    (run / "weights.pt").unlink()
    assert WEIGHTS in launch("--only", "ln", "--start", "study:before", "--dry-run", status=2)
    (run / "record.json").unlink()
    assert "not finished" in launch("--only", "ln", "--start", "study:before", status=2)
    assert not (tmp_path / "after").exists()


@pytest.mark.integration
def test_weights_that_changed_since_planning_are_refused(
    launch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablations.launching.experiment import Experiment

    path = tmp_path / "a.safetensors"
    write(build("ln", "nano", num_classes=10, in_channels=1), path, "ours")
    whole = Experiment.jobs

    def change(experiment: Experiment) -> Any:
        write(build("ln", "nano", num_classes=10, in_channels=1), path, "ours")
        return whole(experiment)

    monkeypatch.setattr(Experiment, "jobs", change)
    words = ["--only", "ln", "--name", "new", "--start", str(path)]
    said = launch(*words, "--executor", "debug", status=2)
    assert "a.safetensors changed" in said
    monkeypatch.setattr(Experiment, "jobs", whole)
    said = launch(*words, status=2)
    assert "step ln, seed 0" in said
    assert "a.safetensors" in said


def test_a_start_is_given_in_preset_study_variant_or_option(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("""
title: t
base: {until: ln}
variants:
  - {key: fresh, start: null}
  - {key: other, start: {file: b.pth, ema: true}}
  - {key: wide, fields: {width: 32}}
""")

    def starts(**options: Any) -> dict[str, Any]:
        found = request(study=str(path), settings=("start=study:old",), **options)
        return {variant.key: variant.start for variant in found.variants}

    old = {"file": None, "study": "old", "ema": False}
    given = {"file": "c.pth", "study": None, "ema": True}
    own = {"fresh": None, "other": {"file": "b.pth", "study": None, "ema": True}}
    assert starts() == {"base": old, "wide": old, **own}
    assert starts(start="c.pth", start_ema=True) == {"base": given, "wide": given, **own}
    path.write_text(path.read_text().replace("{until: ln}", "{until: ln, start: a.pth}"))
    assert starts(start="c.pth")["wide"]["file"] == "a.pth"
    path.write_text(path.read_text().replace("title: t", "title: t\nstart: 'study: s'"))
    path.write_text(path.read_text().replace(", start: a.pth", ""))
    assert starts()["base"]["study"] == "s"


@pytest.mark.parametrize("start", ["{file: a, study: b}", "{}", "{studdy: b}", "3", "''"])
def test_a_wrong_start_is_refused_with_its_line(tmp_path: Path, start: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"title: t\nbase: {{until: ln}}\nvariants:\n  - {{key: a, start: {start}}}\n")
    with pytest.raises(Exception, match=r"mine\.yaml, line 4: variants\.0\.start"):
        request(study=str(path))


def test_plan_refuses_a_start_that_is_missing(tmp_path: Path) -> None:
    words = ["--only", "gelu,ln", "--start", tmp_path / "no.pth", "--results", tmp_path]
    said = call("plan", *words, status=2)
    assert "no.pth" in said
    assert "gelu, seed 0; ln, seed 0" in said


def test_a_start_of_the_network_of_another_step_has_its_differences(tmp_path: Path) -> None:
    write(build("gelu", "nano"), tmp_path / "a.pth", "ours")
    with pytest.raises(WeightsError, match="activations is all, not one"):
        build("fewer-acts", "nano", weights=tmp_path / "a.pth")
