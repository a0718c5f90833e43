"""Killed at any moment, any number of times, and resumed: the same weights, the same metrics."""

import multiprocessing
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_runs import go

from ablations.data.datasets import load_dataset
from ablations.data.loaders import make_loaders
from ablations.data.sampling import Sampling
from ablations.recipe import load_preset
from ablations.records import WEIGHTS, Run, RunFolder, Status
from ablations.training import checkpoint, train
from ablations.training.device_context import make_device_context
from modernize import spec_of
from modernize.network import Network
from modernize.weights import from_state_dict

KILLS = 22


def classifier(folder: Path, source: Path) -> None:
    """Trains a small classifier: 6 epochs of 10 updates."""
    preset = load_preset(
        "nano",
        [f"data.source={source}", "epochs=6", "batch_size=200", "micro_batch_size=100",
         "mixup=0.8", "cutmix=1.0", "drop_path=0.2", "enhanced.ema_decay=0.9",
         "layer_decay=0.8"],
    )  # fmt: skip
    images = load_dataset(preset.data)
    spec = spec_of("downsample", "nano", in_channels=1, num_classes=10, width=8)
    recipe = preset.recipes.enhanced
    torch.manual_seed(7)
    other = Network(spec.replace(num_classes=4))
    start = from_state_dict(other.state_dict(), other.spec)
    content = recipe.apply_to(spec), recipe, images.identity()
    run = Run("downsample", *content, seed=3, start=start.digest())
    run_folder = RunFolder(folder)
    run_folder.prepare(run)
    context = make_device_context("cpu", preset.compute)
    sampling = Sampling.of(recipe, len(images.train), run.seed)
    loaders = make_loaders(images, preset.data, recipe, sampling, context.device, preset.compute)
    train.train(run, run_folder, loaders, context, checkpoint_seconds=0, start=start)


def dense(preset: str, folder: Path, source: Path) -> None:  # noqa: ARG001
    """Trains a small detector or segmenter on scenes: 4 epochs of 5 updates."""
    settings = ["data.limit=20", "epochs=4", "drop_path=0.2", "ema_decay=0.9", "layer_decay=0.8"]
    go(preset, folder, *settings, checkpoint_seconds=0)


def train_one(kind: Callable[[Path, Path], None], folder: Path, source: Path) -> None:
    """Trains one small run, with a checkpoint after every update."""
    torch.set_num_threads(1)
    train.CHECKPOINT_FRACTION = float("inf")  # whatever they cost
    kind(folder, source)


def start(kind: Callable[[Path, Path], None], folder: Path, images: Path) -> Any:
    """Starts the training in a process that has torch imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ablations.training.train", "torch._dynamo"])
    process = context.Process(target=train_one, args=(kind, folder, images))
    process.start()
    return process


def latest(folder: Path) -> int:
    """The update of the newest checkpoint; 0 if there is none."""
    return max((int(path.stem.split("-")[1]) for path in checkpoint.find(folder)), default=0)


def finish(kind: Callable[[Path, Path], None], folder: Path, images: Path) -> None:
    """Lets a run train to its end."""
    process = start(kind, folder, images)
    process.join()
    assert process.exitcode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "most", "moment"),
    [
        (classifier, 50, 0.05),
        (partial(dense, "nano-detection"), 15, 0.3),
        (partial(dense, "nano-segmentation"), 15, 0.1),
    ],
    ids=["classification", "detection", "segmentation"],
)
def test_kills_at_random_moments_change_nothing(
    kind: Callable[[Path, Path], None],
    most: int,
    moment: float,
    few_images: Path,
    tmp_path: Path,
) -> None:
    """``most``: updates before the last epoch; ``moment``: about two of them, in seconds."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(kind, whole, few_images)
    # Each kill comes some updates and a moment after the last, so that they reach over most
    # of the run, however fast the machine is.
    draw = random.Random(0)
    reached = []
    for _ in range(KILLS):
        process = start(kind, killed, few_images)
        goal = min(latest(killed) + draw.randint(0, 2 * most // KILLS), most)
        while latest(killed) < goal:
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(draw.uniform(0, moment))
        process.kill()
        process.join()
        reached.append(latest(killed))
    assert len(set(reached)) > 5  # it was killed in many places, and resumed from each
    assert reached == sorted(reached)
    finish(kind, killed, few_images)

    weights = [torch.load(f / WEIGHTS, weights_only=True) for f in (whole, killed)]
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
