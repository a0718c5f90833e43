"""Killed at any moment, any number of times, and continued: the same weights, the same metrics."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ablations import checkpoint
from ablations.records import RunFolder, Status

PROGRAM = Path(__file__).parent / "programs" / "train_one.py"
KILLS = 22


def start(folder: Path, images: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(PROGRAM), str(folder), str(images), "12"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(folder: Path, images: Path) -> float:
    """Lets a run come to its end; returns the seconds it trained."""
    with start(folder, images) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        begun = time.monotonic()
        process.communicate()
        assert process.returncode == 0
        return time.monotonic() - begun


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(few_images: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # Moments spread over a bit more than the whole of a run, so that later attempts finish.
    share = finish(whole, few_images) / KILLS
    draw = random.Random(0)  # noqa: S311
    reached = []
    for _ in range(KILLS):
        with start(killed, few_images) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            time.sleep(draw.uniform(0, 1.8 * share))
            process.kill()
            process.wait()
        reached += [path.name for path in checkpoint.find(killed)[:1]]
    assert len(set(reached)) > 5  # it was killed in many places, and went on from each
    assert reached == sorted(reached)
    finish(killed, few_images)

    weights = [torch.load(f / checkpoint.WEIGHTS, weights_only=True) for f in (whole, killed)]
    for part in ("network", "ema"):
        assert weights[0][part].keys() == weights[1][part].keys()
        for name, value in weights[0][part].items():
            assert torch.equal(value, weights[1][part][name]), name
    metrics = [(f / "metrics.jsonl").read_bytes() for f in (whole, killed)]
    assert metrics[0] == metrics[1]
    record = RunFolder(killed).read_record()
    assert record is not None
    assert record.status is Status.FINISHED
    assert {p.name for p in killed.iterdir()} == {p.name for p in whole.iterdir()}
