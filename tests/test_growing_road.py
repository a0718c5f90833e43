"""The road may grow: steps that the paper does not have work in every command."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SIDE = """
    Step("kernel-13", "kernel size 13", "Large kernel", {"kernel_size": 13}, adopted=False),
"""
LAST = """
    Step("relu-again", "back to ReLU", "Afterwards", {"activation": Activation.RELU}),
"""
TINY = ("epochs=1", "warmup_epochs=0", "batch_size=1000", "micro_batch_size=1000")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A copy of the program with two more rows: a side branch in the middle, and the last one."""
    folder = tmp_path_factory.mktemp("program")
    for package in ("ablations", "modernize"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    shutil.copy(ROOT / "run_roadmap.py", folder)
    steps = folder / "modernize" / "steps.py"
    text = steps.read_text(encoding="utf-8")
    text, inside = re.subn(r'(?<=\n)(?=    Step\("gelu",)', SIDE.lstrip("\n"), text)
    text, at_end = re.subn(r'(\n    Step\("downsample",.*\n)', rf"\1{LAST.lstrip(chr(10))}", text)
    assert (inside, at_end) == (1, 1)
    steps.write_text(text, encoding="utf-8")
    return folder / "run_roadmap.py"


@pytest.fixture
def call(program, tmp_path):
    """Runs a command of the copy in an empty folder and returns its output."""

    def run(*words):
        environment = {**os.environ, "PYTHONPATH": str(program.parent)}
        done = subprocess.run(
            [sys.executable, program, *map(str, words)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def rows(text):
    return {row["step"]: row for row in csv.DictReader(text.splitlines())}


@pytest.mark.integration
def test_the_new_steps_are_listed_and_shown(call):
    listed = call("steps")
    assert all(text in listed for text in ("kernel-13", "relu-again", "back to ReLU"))
    assert "kernel_size: 13" in call("steps", "kernel-13", "--fields")
    assert "was depthwise 7x7" in call("steps", "kernel-13")


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["resnet50", "resnet200"])
def test_their_costs_are_counted_without_a_published_figure(regime, call):
    counted = rows(call("flops", "--regime", regime, "--format", "csv"))
    assert len(counted) == 19
    costs = [int(counted[step]["flops"]) for step in ("kernel-11", "kernel-13")]
    assert costs[0] < costs[1]
    assert counted["relu-again"]["flops"] == counted["downsample"]["flops"]
    assert {counted[step]["paper_gflops"] for step in ("kernel-13", "relu-again")} == {""}


@pytest.mark.slow
def test_the_papers_models_stay_the_papers(call):
    counted = call("flops", "--models", "--format", "csv")
    assert "ConvNeXt-T" in counted
    assert "relu-again" not in counted


@pytest.mark.slow
def test_the_papers_chart_and_comparison_have_the_published_steps(call, tmp_path):
    call("plot", "--from", "paper", "--output", "paper.svg")
    drawn = (tmp_path / "paper.svg").read_text(encoding="utf-8")
    assert "back to ReLU" not in drawn
    compared = call("compare", "paper")
    assert "downsample" in compared
    assert "relu-again" not in compared


@pytest.mark.slow
def test_they_are_trained_collected_compared_and_reported(call, few_images, tmp_path):
    settings = [word for setting in TINY for word in ("--set", setting)]
    call("--only", "downsample,relu-again,kernel-13", "--seeds", "1", "--data", few_images,
         "--results", tmp_path, "--jobs", "1", "--name", "grown", *settings)  # fmt: skip
    collected = rows(call("collect", "grown", "--results", tmp_path, "--format", "csv"))
    assert [*collected] == ["kernel-13", "downsample", "relu-again"]
    assert all(row["top1"] for row in collected.values())
    assert "relu-again" in call("compare", "grown", "--results", tmp_path)
    call("report", "grown", "--results", tmp_path)
    assert "back to ReLU" in (tmp_path / "grown" / "report.md").read_text(encoding="utf-8")
    chart = (tmp_path / "grown" / "roadmap.svg").read_text(encoding="utf-8")
    assert "ReLU" in chart
