"""Killed at any moment, any number of times, and continued: the same weights, the same metrics."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ablations.records import RunFolder, Status
from ablations.training import checkpoint

PROGRAM = Path(__file__).parent / "programs" / "train_one.py"
KILLS = 22


def start(folder: Path, images: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(PROGRAM), str(folder), str(images), "12"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def latest(folder: Path) -> int:
    """The update of the newest checkpoint; 0 where there is none."""
    return max((int(path.stem.split("-")[1]) for path in checkpoint.find(folder)), default=0)


def finish(folder: Path, images: Path) -> None:
    """Lets a run come to its end."""
    with start(folder, images) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        process.communicate()
        assert process.returncode == 0


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(few_images: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # A few updates further each time, and a moment: of 120 updates, the kills see about two thirds,
    # however fast the machine is just then.
    finish(whole, few_images)
    draw = random.Random(0)  # noqa: S311
    reached = []
    for _ in range(KILLS):
        with start(killed, few_images) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            goal = latest(killed) + draw.randint(0, 4)
            while latest(killed) < goal:
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.05))
            process.kill()
            process.wait()
        reached.append(latest(killed))
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
