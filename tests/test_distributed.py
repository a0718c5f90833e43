"""Several processes that train one network, started by torchrun as a user would start them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import PATIENCE
from filelock import FileLock

from ablations.records import WEIGHTS
from modernize import build
from modernize.weights import write

ROOT = Path(__file__).parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def train(folder: Path, tiny_images: Path, processes: int, *settings: str) -> Path:
    """Trains one small run and returns its folder."""
    arguments = ["--results", str(folder), "--data", str(tiny_images)]
    for setting in ("epochs=2", "warmup_epochs=0.5", "batch_size=100", *settings):
        arguments += ["--set", setting]
    starter = [*TORCHRUN, str(processes)] if processes > 1 else [sys.executable]
    command = [*starter, str(ROOT / "run_roadmap.py"), "--only", "ln", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=PATIENCE, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Study nano") == 1  # one of them speaks
    assert (folder / "nano" / "summary.csv").exists()
    return next((folder / "nano" / "runs").iterdir())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a run that starts from weights, with layer decay and a moving average."""
    path = tmp_path_factory.mktemp("start") / "a.safetensors"
    write(build("ln", "nano", num_classes=4, in_channels=1), path, "ours")
    return [f"start={path}", "layer_decay=0.8", "ema_decay=0.9", "head_init_scale=0.1"]


def furthest(a: Path, b: Path) -> float:
    """The largest difference between two runs' weights."""
    ours, theirs = (torch.load(p / WEIGHTS, weights_only=True) for p in (a, b))
    pairs = [(ours[part], theirs[part]) for part in ("network", "ema") if ours[part]]
    assert all(one.keys() == other.keys() for one, other in pairs)
    return max((one[n] - other[n]).abs().max().item() for one, other in pairs for n in one)


@pytest.mark.slow
def test_two_processes_train_as_one_does(
    tiny_images: Path, tmp_path: Path, started: list[str]
) -> None:
    """The whole recipe: every process count computes the same micro-batches."""
    settings = ["micro_batch_size=50", "mixup=0.8", "cutmix=1.0", "drop_path=0.2", *started]
    alone = train(tmp_path / "1", tiny_images, 1, *settings)
    together = train(tmp_path / "2", tiny_images, 2, *settings)
    assert alone.name == together.name  # where it ran is no part of its identity
    metrics = [
        [json.loads(line) for line in (p / "metrics.jsonl").read_text().splitlines()]
        for p in (alone, together)
    ]
    assert metrics[0][0]["train_loss"] == pytest.approx(metrics[1][0]["train_loss"], rel=1e-3)
    record = json.loads((together / "record.json").read_text())
    assert record["provenance"]["processes"] == 2


@pytest.mark.slow
def test_half_the_batch_each_is_the_whole_batch(
    tiny_images: Path, tmp_path: Path, started: list[str]
) -> None:
    """Several updates of SGD, whose steps do not magnify rounding as AdamW's first ones do."""
    sgd = ["enhanced.optimizer=sgd", "enhanced.momentum=0.9", "enhanced.betas=null",
           "enhanced.epsilon=null", "enhanced.learning_rate=0.01", *started]  # fmt: skip
    whole = train(tmp_path / "1", tiny_images, 1, "micro_batch_size=100", *sgd)
    halves = train(tmp_path / "2", tiny_images, 2, "micro_batch_size=50", *sgd)
    assert furthest(whole, halves) < 1e-5


def train_dense(preset: str, folder: Path, processes: int, *settings: str) -> Path:
    """Trains a small detector or segmenter and returns its folder."""
    program = ROOT / "tests" / "programs" / "train_dense.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*TORCHRUN, str(processes), str(program), preset, str(folder), *settings],
        capture_output=True, text=True, env=environment, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["nano-detection", "nano-segmentation"])
def test_two_processes_train_the_weights_of_detectors_and_segmenters_as_one_does(
    preset: str, tmp_path: Path
) -> None:
    """The losses are means over a micro-batch, and processes have the same micro-batches as one."""
    alone, together = (
        train_dense(preset, tmp_path / str(n), n, "drop_path=0.2", "ema_decay=0.9") for n in (1, 2)
    )
    ours, theirs = (torch.load(p / WEIGHTS, weights_only=True) for p in (alone, together))
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # of one process each
    for part in ("network", "ema"):
        assert ours[part].keys() == theirs[part].keys()
        for name, value in ours[part].items():
            assert name.endswith(statistics) or torch.equal(value, theirs[part][name]), name
    if preset == "nano-detection":  # it has no BatchNorm
        for name in ("metrics.jsonl", "examples.json"):
            assert (alone / name).read_bytes() == (together / name).read_bytes()
    assert (together / "examples.json").is_file()
    assert not (together / "rank-1").exists()


@pytest.mark.slow
def test_with_sync_batch_norm_half_the_batch_each_is_the_whole_batch(tmp_path: Path) -> None:
    settings = ["head=upernet-plain", "sync_batch_norm=true", "optimizer=sgd", "momentum=0.9",
                "betas=null", "epsilon=null", "learning_rate=0.01", "ema_decay=0.9"]  # fmt: skip
    whole, halves = (
        train_dense("nano-segmentation", tmp_path / str(n), n, f"micro_batch_size={4 // n}",
                    *settings) for n in (1, 2)
    )  # fmt: skip
    ours, theirs = (torch.load(p / WEIGHTS, weights_only=True) for p in (whole, halves))
    for part in ("network", "ema"):
        torch.testing.assert_close(theirs[part], ours[part], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_processes_resume_from_one_checkpoint_with_equal_results(tmp_path: Path) -> None:
    program = Path(__file__).parent / "programs" / "go_on_together.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*TORCHRUN, "2", str(program), str(tmp_path)],
        capture_output=True, text=True, env=environment, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert furthest(tmp_path / "whole", tmp_path / "pieces") == 0
    whole, pieces = (
        (tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "pieces")
    )
    assert whole == pieces
    assert len(list((tmp_path / "pieces").glob("*.unusable"))) == 1
    assert done.stdout.count("resuming after") == 2  # one of them speaks


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_refused(tiny_images: Path, tmp_path: Path) -> None:
    arguments = ["--results", str(tmp_path), "--data", str(tiny_images), "--only", "ln"]
    arguments += ["--set", "batch_size=100", "--set", "micro_batch_size=100"]
    command = [*TORCHRUN, "2", str(ROOT / "run_roadmap.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=PATIENCE
    )
    assert done.returncode != 0
    assert "evenly among 1 processes" in done.stderr


@pytest.mark.slow
def test_the_first_process_holds_the_lock_for_all(tiny_images: Path, tmp_path: Path) -> None:
    train(tmp_path, tiny_images, 2, "micro_batch_size=50", "epochs=1", "warmup_epochs=0")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "nano").rglob("*")}
    with FileLock(tmp_path / "nano" / ".lock"), pytest.raises(AssertionError) as refused:
        train(tmp_path, tiny_images, 2, "micro_batch_size=50", "epochs=1", "warmup_epochs=0")
    assert "another process" in str(refused.value)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "nano").rglob("*")} == before
