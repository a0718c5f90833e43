"""Data as people have it: all kinds of data sets have the same images, and train alike."""

import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import PATIENCE, call
from data_kinds import (
    CLASSES,
    LIBRARIES,
    ON_DISK,
    WRITERS,
    Row,
    choose,
    epoch,
    filled,
    listed,
    png,
    refused,
    rows_of,
    write,
    write_shards,
)
from PIL import Image
from small_runs import stop_after

from ablations.choices import DataChoice
from ablations.data import extras
from ablations.data.content_digest import digest_content
from ablations.data.datasets import load_dataset
from ablations.data.images import InMemoryDataset
from ablations.data.loaders import make_loaders
from ablations.data.sampling import Sampling
from ablations.recipe import load_preset
from ablations.records import WEIGHTS, Run, RunFolder
from ablations.studies.estimates import find_images
from ablations.training.device_context import make_device_context
from ablations.training.train import train
from modernize import spec_of
from modernize.errors import UsageError


@pytest.mark.parametrize("kind", ON_DISK)
def test_all_kinds_have_the_same_images(kind: str, rows: list[Row], tmp_path: Path) -> None:
    choice = write(kind, tmp_path / "set", rows)
    images = listed(choice)
    assert images.classes == CLASSES
    for split, items, labels in (
        ("train", images.train, images.train_labels),
        ("val", images.val, images.val_labels),
    ):
        own = [row for row in rows if row[0] == split]
        reader = pickle.loads(pickle.dumps(images.reader(items)))  # noqa: S301
        assert len(reader) == len(own)
        assert [CLASSES[label] for label in labels] == [name for _, name, _ in own]
        for i, (_, _, content) in enumerate(own):
            assert np.array_equal(reader(i), Image.open(io.BytesIO(content)))
            assert kind == "custom" or reader.contents(i) == content
            assert str(i) in reader.path(i) or f"{i:03}" in reader.path(i) or split == "val"
    assert find_images(choice, named=True).count == 18
    before = digest_content(images.readers())
    assert before == digest_content(listed(choice).readers())


@pytest.mark.integration
@pytest.mark.parametrize("kind", ON_DISK)
def test_all_kinds_train_on_the_same_batches(kind: str, rows: list[Row], tmp_path: Path) -> None:
    """Those of a folder, bit by bit, from the middle of an epoch, for any number of workers."""
    folder = write("image-folder", tmp_path / "folder", rows)
    expected = epoch(load_dataset(folder), folder, 0)
    choice = write(kind, tmp_path / "set", rows)
    for workers in (0, 2):
        batches = epoch(load_dataset(choice), choice, workers)
        assert len(batches) == len(expected)
        for ours, theirs in zip(batches, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours[-2:], theirs[-2:], strict=True))


@pytest.mark.parametrize("kind", ON_DISK)
def test_the_identity_is_that_of_the_content(kind: str, rows: list[Row], tmp_path: Path) -> None:
    images = listed(write(kind, tmp_path / "one", rows))
    if kind != "custom":  # its code has the folder
        assert images.identity() == listed(write(kind, tmp_path / "two", rows)).identity()
    other = [*rows[1:6], ("train", "bee", rows[0][2]), *rows[6:]]  # one with another label
    changed = listed(write(kind, tmp_path / "three", other))
    assert changed.identity() != images.identity()


@pytest.mark.parametrize("kind", ON_DISK)
def test_validation_images_are_held_out(kind: str, rows: list[Row], tmp_path: Path) -> None:
    choice = write(kind, tmp_path / "set", rows).model_copy(update={"validation": 0.5})
    images = listed(choice)
    assert len(images.train) + len(images.val) == 18
    assert set(images.train_labels) == set(images.val_labels) == {0, 1, 2}
    assert not {*images.train.tolist()} & {*images.val.tolist()}
    assert any("0.5" in note for note in images.notes)
    whole = listed(choice.model_copy(update={"validation": None}))
    assert images.identity() != whole.identity()


def test_held_out_images_stay_held_out_if_others_come(rows: list[Row], tmp_path: Path) -> None:
    choice = write("image-folder", tmp_path, rows).model_copy(update={"validation": 0.5})
    before = listed(choice)
    for name in CLASSES:
        for i in range(500, 560):
            (tmp_path / "train" / name / f"{i}.png").write_bytes(png(i))
    after = listed(choice)
    assert {*before.val.tolist()} < {*after.val.tolist()}
    assert {*before.train.tolist()} < {*after.train.tolist()}
    assert 0.35 < len(after.val) / (len(after.val) + len(after.train)) < 0.65


def test_a_class_that_would_be_empty_is_named(rows: list[Row], tmp_path: Path) -> None:
    choice = write("image-folder", tmp_path, rows)
    low = refused(choice.model_copy(update={"validation": 0.001}))
    assert all(name in low for name in (*CLASSES, "validation", "0.001"))
    high = refused(choice.model_copy(update={"validation": 0.999}))
    assert all(name in high for name in (*CLASSES, "training", "0.999"))
    least = low.rpartition("from ")[2].partition(" ")[0]
    listed(choice.model_copy(update={"validation": float(least)}))
    (tmp_path / "train" / "dog").mkdir()
    (tmp_path / "train" / "dog" / "1.png").write_bytes(png(1))
    assert "dog" in refused(choice.model_copy(update={"validation": 0.5}))


def test_images_in_memory_are_held_out_by_their_content() -> None:
    choice = DataChoice(name="fashion-mnist", source="embedded", image_size=32)
    whole, images = (
        load_dataset(c) for c in (choice, choice.model_copy(update={"validation": 0.1}))
    )
    assert isinstance(images, InMemoryDataset)
    assert len(images.train) + len(images.val) == len(whole.train)
    assert 900 < len(images.val) < 1100
    assert images.identity() != whole.identity()
    assert images.majority < 0.15


def test_a_test_folder_is_used_and_said(rows: list[Row], tmp_path: Path) -> None:
    choice = write("image-folder", tmp_path, rows)
    (tmp_path / "val").rename(tmp_path / "test")
    images = listed(choice)
    assert len(images.val) == 6
    assert any("test" in note for note in images.notes)


@pytest.mark.parametrize("kind", ["csv", "huggingface", "webdataset", "custom", "image-folder"])
def test_a_set_that_is_missing_is_named(kind: str, tmp_path: Path) -> None:
    choice = choose(kind, tmp_path / "nowhere")
    assert "nowhere" in refused(choice)
    if kind != "image-folder":
        with pytest.raises(UsageError, match="nowhere"):
            find_images(choice)


@pytest.mark.parametrize(("kind", "package"), LIBRARIES.items())
def test_a_missing_library_is_one_message(
    kind: str, package: str, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(extras.importlib, "import_module", fail)
    write_shards(tmp_path, rows)
    text = refused(choose(kind, tmp_path))
    assert package in text
    assert f"[{kind}]" in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ON_DISK)
def test_a_run_that_was_stopped_equals_one_on_a_folder(
    kind: str, rows: list[Row], tmp_path: Path
) -> None:
    """The same weights to the last bit, stopped within an epoch, with other workers."""
    settings = ("batch_size=4", "micro_batch_size=4", "epochs=2", "warmup_epochs=0")
    preset = load_preset("imagenet-100", [*settings, "ema_decay=0.9", "drop_path=0.1"])
    recipe = preset.recipes.enhanced
    spec = spec_of("ln", "nano", num_classes=3, depths=[1, 1, 1, 1], width=8)
    context = make_device_context("cpu", preset.compute.model_copy(update={"precision": "fp32"}))

    def train_once(choice: DataChoice, folder: Path, workers: int, stop: int | None = None) -> Any:
        images = load_dataset(choice)
        run = Run("ln", recipe.apply_to(spec), recipe, images.identity(), 0)
        compute = preset.compute.model_copy(update={"workers": workers})
        sampling = Sampling(len(images.train), 4, 4, seed=0)
        loaders = make_loaders(images, choice, recipe, sampling, torch.device("cpu"), compute)
        more = {} if stop is None else {"keep_going": stop_after(stop)}
        RunFolder(folder).prepare(run)
        try:
            return train(run, RunFolder(folder), loaders, context, **more)
        finally:
            loaders.close()

    expected = write("image-folder", tmp_path / "folder", rows)
    assert train_once(expected, tmp_path / "whole", workers=0) is not None
    choice = write(kind, tmp_path / "set", rows)
    assert train_once(choice, tmp_path / "stopped", workers=2, stop=6) is None  # of 2 x 4 updates
    assert train_once(choice, tmp_path / "stopped", workers=1) is not None
    one, other = (torch.load(tmp_path / name / WEIGHTS, weights_only=True)
                  for name in ("whole", "stopped"))  # fmt: skip
    assert all(torch.equal(value, other[part][name])
               for part in ("network", "ema") for name, value in one[part].items())  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["custom", "webdataset"])
def test_from_the_command_line_to_an_evaluation(kind: str, rows: list[Row], tmp_path: Path) -> None:
    choice = write(kind, tmp_path / "set", rows)
    settings = (f"data.name={kind}", "batch_size=8", "micro_batch_size=4", "epochs=1",
                "warmup_epochs=0", "data.image_size=32", "data.resize=36",
                "compute.workers=1")  # fmt: skip
    arguments = [word for setting in settings for word in ("--set", setting)]
    told = call(
        "--preset", "imagenet-100", "--regime", "nano", "--only", "ln", "--name", "mine",
        *arguments, "--data", choice.source, "--results", tmp_path,
    )  # fmt: skip
    assert "18 training images and 6 validation images" in told
    asked = ("evaluate", "mine", "--step", "ln", "--results", tmp_path)
    if kind == "custom":  # to evaluate is to run the file: the user must name it
        assert "--data" in call(*asked, status=2)
    record = json.loads(next(tmp_path.glob("mine/runs/*/record.json")).read_text())
    assert f"{record['top1']:.3f}" in call(*asked, "--data", choice.source)


@pytest.mark.slow
def test_two_processes_see_each_image_once(tmp_path: Path) -> None:
    """In each epoch and evaluation; and train as one process does, on every kind of data set."""

    places = rows_of({"train": 8, "val": 3})[:-2]  # 7 for validation: not the same for both
    rows = [(split, name, filled(5 + 7 * i)) for i, (split, name, _) in enumerate(places)]
    kinds = [kind for kind in WRITERS if importlib.util.find_spec(LIBRARIES.get(kind, "numpy"))]
    for kind in kinds:
        choice = write(kind, tmp_path / kind, rows)
        (tmp_path / f"{kind}.json").write_text(choice.model_dump_json())
    program = str(Path(__file__).parent / "programs" / "kinds_together.py")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    for starter in ((), torchrun):
        command = [sys.executable, *starter, program, str(tmp_path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        subprocess.run(command, check=True, timeout=PATIENCE, env=environment)
    train, val = (sorted(5 + 7 * i for i, row in enumerate(rows) if row[0] == split)
                  for split in ("train", "val"))  # fmt: skip
    expected = tmp_path / "image-folder.of1"
    for kind in kinds:
        folder = tmp_path / f"{kind}.of2"
        seen = [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in range(2)]
        for part, images in zip(zip(*seen, strict=True), (train, val), strict=True):
            assert all(part[0])  # each process has images
            together = [sorted(a + b) for a, b in zip(*part, strict=True)]
            assert together == [images] * 2, kind  # in both epochs
        ours, theirs = (json.loads((f / "record.json").read_text()) for f in (folder, expected))
        assert ours["top1"] == theirs["top1"]
        one, other = (torch.load(f / WEIGHTS, weights_only=True)["network"]
                      for f in (folder, expected))  # fmt: skip
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)
