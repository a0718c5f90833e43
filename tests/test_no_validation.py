"""A preset without validation images, such as ImageNet-22K: runs without accuracy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call
from PIL import Image
from small_runs import CONTEXT, make_run, make_small_loaders, stop_after, take_images

from ablations.data.transforms import evaluation_transform
from ablations.recipe import load_preset
from ablations.records import RunFolder, Status, Study
from ablations.training import train

WITHOUT = ("--set", "data.validation=0")


@pytest.mark.integration
def test_a_study_without_validation_has_no_accuracy(launch: Any, tmp_path: Path) -> None:
    said = launch("--only", "ln,downsample", "--name", "pre", *WITHOUT, "--set", "ema_decay=0.9")
    assert "data.validation 0" in said
    study = Study.open(tmp_path / "pre")
    for _, run, folder in study.runs():
        record = folder.read_record()
        assert record is not None
        assert (record.status, record.metrics) == (Status.FINISHED, {})
        assert run.images["val_images"] == 0
        [row] = folder.read_metrics()
        assert row.keys() == {"epoch", "train_loss", "learning_rate"}
    there = ["pre", "--results", tmp_path]
    assert "2 finished" in call("status", *there)
    assert "finished" in call("collect", *there)
    for name in ("report", "plot", "compare"):
        call(name, *there)
    # Its runs are starts of others, which have an accuracy.
    launch("--only", "ln,downsample", "--name", "after", "--start", "study:pre")
    runs = [folder.read_record() for _, _, folder in Study.open(tmp_path / "after").runs()]
    assert all(record is not None and "top1" in record.metrics for record in runs)


def test_a_run_without_validation_resumes(tmp_path: Path) -> None:
    images = take_images(512, 0)
    run = make_run(images, "epochs=2", "warmup_epochs=0")

    def go(name: str, **options: Any) -> Any:
        folder = RunFolder(tmp_path / name)
        folder.prepare(run)
        return train.train(run, folder, make_small_loaders(images, run), CONTEXT, **options)

    assert go("pieces", keep_going=stop_after(11)) is None
    again, whole = go("pieces"), go("whole")
    assert again.train_loss == whole.train_loss
    assert not list((tmp_path / "pieces").glob("*.unusable"))


def test_a_run_is_evaluated_at_intervals_and_at_its_end(tmp_path: Path) -> None:
    images = take_images(512, 200)
    runs = {
        name: make_run(images, "epochs=3", "warmup_epochs=0", "ema_decay=0.9", *more)
        for name, more in {"each": [], "pieces": ["evaluate_every=2"]}.items()
    }
    found = {}
    for name, run in runs.items():
        folder = RunFolder(tmp_path / name)
        folder.prepare(run)
        for stop in [{"keep_going": stop_after(13)}, {}] if name == "pieces" else [{}]:
            record = train.train(run, folder, make_small_loaders(images, run), CONTEXT, **stop)
        found[name] = folder.read_metrics()
    assert not list((tmp_path / "pieces").glob("*.unusable"))
    assert record is not None
    assert [row.get("top1") is not None for row in found["pieces"]] == [False, True, True]
    assert found["pieces"][1:] == found["each"][1:]
    assert found["pieces"][0].keys() == {"epoch", "train_loss", "learning_rate"}
    assert record.metrics["top1"] == found["each"][2]["top1"]
    assert record.metrics["top1_best"] == max(row["top1"] for row in found["each"][1:])


def test_images_are_warped_to_a_square_and_not_cropped() -> None:
    """A wide image whose left and right edges differ keeps both."""
    pixels = np.zeros((50, 200, 3), np.uint8)
    pixels[:, :20, 0] = 255
    pixels[:, -20:, 2] = 255
    settings = ["data.resize=warp", "data.image_size=64"]
    choice = load_preset("imagenet", settings, "x").data
    warped = np.asarray(evaluation_transform(choice)(Image.fromarray(pixels)))
    assert warped.shape == (64, 64, 3)
    assert warped[32, 2].tolist() == [255, 0, 0]
    assert warped[32, 61].tolist() == [0, 0, 255]
    cropped = load_preset("imagenet", ["data.resize=64", "data.image_size=64"], "x").data
    assert not np.asarray(evaluation_transform(cropped)(Image.fromarray(pixels))).any()
