"""A study under corruptions made here: counts, kills, statistics, archive, report, wrong use."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from command_line import ROOT, call
from reporting import write_study
from robustness_folders import picture
from scipy import stats

from ablations.analysis import robustness
from ablations.analysis.robustness import CLEAN, PARTS
from ablations.choices import DataChoice
from ablations.cli import cli
from ablations.data.corruptions.corrupt import corrupt
from ablations.data.corruptions.names import CORRUPTIONS, table_for
from ablations.data.datasets import load_dataset
from ablations.data.fashion_mnist import read_fashion_mnist
from ablations.data.images import DataError
from ablations.data.sampling import derive
from ablations.records import Study
from ablations.records.tallies import Tallies
from ablations.report.html import as_html
from ablations.report.markdown import as_markdown
from ablations.report.page import make
from ablations.robustness.made_here import prepared_images
from ablations.robustness.sets import groups
from modernize.weights import load

SETTINGS = ("epochs=1", "warmup_epochs=0", "batch_size=200", "micro_batch_size=200")


def train(results: Path, images: Path, *arguments: str) -> Path:
    """Trains a study for one epoch, and calls its runs finished; returns its folder."""
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    asked = ["--name", "study", "--results", str(results), "--data", str(images)]
    cli([*words, *asked, "--executor", "debug", *arguments], standalone_mode=False)
    for path in results.glob("study/runs/*/record.json"):  # not collapsed, which they may be
        path.write_text(json.dumps({**json.loads(path.read_text()), "status": "finished"}))
    return results / "study"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_images: Path) -> Path:
    return train(tmp_path_factory.mktemp("results"), tiny_images, "--only", "resnet,gelu",
                 "--seeds", "2")  # fmt: skip


@pytest.fixture
def study(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained study."""
    shutil.copytree(trained, tmp_path / "results" / "study")
    return tmp_path / "results" / "study"


def counts(study: Path) -> dict[str, dict[str, list[int]]]:
    """The counts of each run."""
    files = sorted(study.glob("runs/*/robustness.json"))
    return {path.parent.name: json.loads(path.read_text())["parts"] for path in files}


def test_the_corruptions_are_imagenet_cs() -> None:
    assert [*groups()] == [*CORRUPTIONS]
    assert len(PARTS) == 76


@pytest.mark.integration
def test_counts_are_those_of_each_image_alone(study: Path, tiny_images: Path) -> None:
    """One network, plain and one image at a time, on images corrupted before normalisation."""
    call("robustness", study, "--executor", "debug", "--step", "gelu")
    found = counts(study)
    assert len(found) == 2
    images = read_fashion_mnist(str(tiny_images))
    pixels = np.pad(images.val, ((0, 0), (0, 0), (2, 2), (2, 2))).transpose(0, 2, 3, 1)
    mean, std = images.train.mean() / 255, images.train.std(ddof=1) / 255
    assert table_for(32, 32) == "cifar"
    for name, parts in found.items():
        network = load(study / "runs" / name / "weights.pt").eval()
        for part in (CLEAN, "shot_noise/5", "fog/2", "jpeg_compression/4"):
            right = 0
            for index, (image, label) in enumerate(zip(pixels, images.val_labels, strict=True)):
                if part != CLEAN:
                    corruption, severity = part.split("/")
                    seeds = [derive(index, corruption)]
                    image = corrupt(image[None], corruption, int(severity), seeds, "cifar")[0]
                x = torch.from_numpy((image / 255 - mean) / std).float().permute(2, 0, 1)[None]
                with torch.no_grad():
                    right += int(network(x).argmax() == label)
            assert parts[part] == [pytest.approx(right, abs=1), len(pixels)], part  # rounding
        record = json.loads((study / "runs" / name / "record.json").read_text())
        assert 100 * parts[CLEAN][0] / len(pixels) == pytest.approx(record["top1"], abs=1.01)


@pytest.mark.integration
def test_a_study_is_evaluated_once_and_shown_by_its_archive(study: Path) -> None:
    before = as_markdown(make(Study.open(study)))
    assert "Robustness" not in before
    said = call("robustness", study, "--jobs", "2", "--format", "json", "--output",
                study.parent / "c.svg", "--svg-text")  # fmt: skip
    assert "Evaluated 4 runs" in said
    assert "severity 5" in (study.parent / "c.svg").read_text()
    assert not (study / "corrupted").exists()
    again = call("robustness", study, "--format", "json")
    rows = json.loads(again)
    assert [row["step"] for row in rows] == ["resnet", "gelu"]
    assert rows[0]["relative_error"] == pytest.approx(100)
    assert said.count(again.strip()) == 1
    other = json.loads(call("robustness", study, "--format", "json", "--relative-to", "gelu"))
    assert other[1]["relative_error"] == pytest.approx(100)
    errors = call("robustness", study, "--table", "corruptions", "--format", "csv")
    assert len(errors.splitlines()) == 1 + 15 * 2
    assert r"\toprule" in call("robustness", study, "--table", "severities", "--format", "latex")

    page = make(Study.open(study))
    for text in (as_markdown(page), as_html(page)):
        assert "Robustness" in text
        assert "rel. error" in text
    call("collect", study, "--archive")
    shutil.rmtree(study / "runs")
    assert json.loads(call("robustness", study, "--format", "json")) == rows
    assert "Robustness" in as_markdown(make(Study.open(study)))
    lines = [json.loads(line) for line in (study / "runs.jsonl").read_text().splitlines()]
    assert {len(line["tallies"]["parts"]) for line in lines} == {76}


@pytest.mark.integration
def test_other_weights_are_evaluated_again(study: Path) -> None:
    call("robustness", study, "--executor", "debug", "--step", "resnet")
    before = counts(study)
    folders = sorted((study / "runs").glob("resnet-*"))
    (folders[0] / "weights.pt").write_bytes((folders[1] / "weights.pt").read_bytes())
    (folders[1] / "robustness.json").write_text('{"key"')  # damaged
    said = call("robustness", study, "--executor", "debug", "--step", "resnet")
    assert "Evaluated 2 runs" in said
    after = counts(study)
    assert after[folders[1].name] == before[folders[1].name] == after[folders[0].name]


def start(study: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "run_roadmap.py"), "robustness", str(study)]
    return subprocess.Popen(
        [*command, "--jobs", "2", "--format", "csv"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_killed_at_any_moment_it_gives_the_same_table(study: Path, tmp_path: Path) -> None:
    """All processes are killed when some more parts are done, and between two parts."""
    killed = tmp_path / "killed" / "study"
    shutil.copytree(study, killed)
    whole = start(study)
    table, _ = whole.communicate(timeout=900)
    assert whole.returncode == 0
    assert len(table.splitlines()) == 3
    draw, reached = random.Random(5), []

    def done() -> int:
        return sum(len(parts) for parts in counts(killed).values())

    for goal in (20, 110, 200, 270):
        process = start(killed)
        while done() < goal:
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        reached.append(done())
    assert len(set(reached)) == 4
    assert reached == sorted(reached)
    last = start(killed)
    again, _ = last.communicate(timeout=900)
    assert again == table
    assert counts(killed) == counts(study)
    assert {path.name for path in killed.iterdir()} == {path.name for path in study.iterdir()}


def with_counts(folder: Path, right: dict[str, list[tuple[int, int]]]) -> Study:
    """A study of 1,000 images: step -> for each seed, right ones without and under corruption."""
    study = write_study(folder, {key: [80.0] * len(seeds) for key, seeds in right.items()})
    for _, run, run_folder in study.runs():
        clean, corrupted = right[run.key][run.seed]
        parts = {name: (clean if name == CLEAN else corrupted, 1000) for name in PARTS}
        Tallies("key", {}, parts).write(run_folder.tallies)
    return study


RIGHT = {
    "resnet": [(800, 500), (810, 512), (790, 491), (805, 500)],
    "recipe": [(830, 610), (835, 618), (826, 598), (835, 605)],  # more under corruption
    "stage-ratio": [(850, 630), (851, 635), (846, 619), (850, 620)],  # the same
}


def test_statistics_are_scipys(tmp_path: Path) -> None:
    found = robustness.read(with_counts(tmp_path / "study", RIGHT))
    assert found is not None
    gaps = {k: np.array([(b - a) / 10 for a, b in seeds]) for k, seeds in RIGHT.items()}
    tests = [stats.ttest_rel(gaps["recipe"], gaps["resnet"]),
             stats.ttest_rel(gaps["stage-ratio"], gaps["recipe"])]  # fmt: skip
    p = [float(test.pvalue) for test in tests]
    assert p[0] < 0.01
    assert p[1] > 0.1
    rows = {row["step"]: row for row in found.table}
    assert rows["recipe"]["p"] == pytest.approx(p[0])
    assert rows["recipe"]["p_holm"] == pytest.approx(2 * p[0])
    assert rows["stage-ratio"]["p_holm"] == pytest.approx(p[1])
    assert rows["recipe"]["clean_change"] == pytest.approx(3.025)
    assert rows["recipe"]["corrupted_change"] == pytest.approx(10.7)
    assert rows["recipe"]["difference"] == pytest.approx(10.7 - 3.025)
    assert rows["resnet"]["difference"] is None
    corrupted = np.array([b for _, b in RIGHT["recipe"]]) / 10
    assert rows["recipe"]["corrupted"] == pytest.approx(corrupted.mean())
    assert rows["recipe"]["corrupted_std"] == pytest.approx(corrupted.std(ddof=1))
    base = 100 - np.mean([b for _, b in RIGHT["resnet"]]) / 10
    assert rows["recipe"]["relative_error"] == pytest.approx(100 * (100 - corrupted.mean()) / base)
    assert rows["resnet"]["relative_error"] == pytest.approx(100)
    report = robustness.summary(found)
    differs, same = report.notes[:2]
    assert "recipe +7.67" in differs or "recipe +7.68" in differs
    assert "stage-ratio" in same
    assert all("mCE" not in cell for row in report.texts for cell in row)


def test_runs_without_counts_are_named(tmp_path: Path) -> None:
    study = with_counts(tmp_path / "study", RIGHT)
    runs = [(run, folder) for _, run, folder in study.runs()]
    (runs[5][1].tallies).unlink()
    tallies = runs[6][1].read_tallies()
    assert tallies is not None
    parts = {name: c for name, c in tallies.parts.items() if name != "fog/2"}
    Tallies("key", {}, parts).write(runs[6][1].tallies)
    found = robustness.read(study, finished=12)
    assert found is not None
    assert [len(step.runs) for step in found.steps] == [4, 2, 4]
    assert "10 of 12" in " ".join(robustness.findings(found))
    tallies.write(runs[6][1].tallies)
    wrong = json.loads(runs[6][1].tallies.read_text())
    wrong["parts"]["fog/2"] = [1001, 1000]
    runs[6][1].tallies.write_text(json.dumps(wrong))
    assert runs[6][1].read_tallies() is None
    assert "fog/2" in study.faults[runs[6][1].tallies]


def test_images_of_a_folder_are_prepared_as_for_an_evaluation(tmp_path: Path) -> None:
    from torchvision import transforms as t

    values = {"name": "image-folder", "source": str(tmp_path), "image_size": 48, "resize": 56}
    choice = DataChoice(**values, interpolation="bilinear")
    for split in ("train", "val"):
        for number, name in enumerate(("ant", "bee", "cat")):
            (tmp_path / split / name).mkdir(parents=True)
            picture(number, size=(70, 60 + number)).save(tmp_path / split / name / "1.png")
    prepared = prepared_images(load_dataset(choice), choice)
    assert prepared.shape == (3, 48, 48, 3)
    transform = t.Compose([t.Resize(56), t.CenterCrop(48)])
    for number, image in enumerate(prepared):
        wanted = np.asarray(transform(picture(number, size=(70, 60 + number))))
        assert np.array_equal(image, wanted)
    (tmp_path / "val" / "bee" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="bee"):
        prepared_images(load_dataset(choice), choice)


def message(*arguments: str | Path) -> str:
    return call("robustness", *arguments, status=2)


def test_wrong_use(tmp_path: Path) -> None:
    write_study(tmp_path / "none", {"resnet": [None]})
    assert "no finished run" in message(tmp_path / "none")
    study = write_study(tmp_path / "gone", {"resnet": [80.0], "recipe": [81.0]})
    assert "weights" in message(study.folder)
    counted = with_counts(tmp_path / "counted", RIGHT).folder
    assert "'ln'" in message(counted, "--relative-to", "ln")
    assert "lm" in message(counted, "--step", "lm")
    for option in (["--ema"], ["--preparation", "model"], ["--workers", "2"]):
        assert option[0] in message(counted, *option)
    assert "--regime" in message(counted, "--sketch", tmp_path, "--regime", "nano")
    text = (tmp_path / "none" / "study.json").read_text()
    detectors = json.loads(text)
    from ablations.recipe import load_preset

    detectors["preset"] = load_preset("nano-detection").model_dump(mode="json")
    (tmp_path / "none" / "study.json").write_text(json.dumps(detectors))
    said = message(tmp_path / "none")
    assert "detection" in said
    assert "classifiers" in said


def test_the_help_names_all_sets() -> None:
    said = CliRunner().invoke(cli, ["robustness", "--help"]).output
    for option in ("--imagenet-c", "--imagenet-c-bar", "--imagenet-a", "--imagenet-r", "--sketch"):
        assert option in said
