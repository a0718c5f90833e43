"""Detection and segmentation through the training loop: resume, start, divergence, chance."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from command_line import call
from dense_runs import go, make
from small_runs import stop_after

from ablations.data.sampling import Sampling
from ablations.metrics import CLASSIFICATION, DETECTION, METRICS, SEGMENTATION, TASKS, metrics_in
from ablations.recipe import PRESETS as FOLDER
from ablations.recipe import load_preset
from ablations.records import WEIGHTS, RunFolder, Status
from ablations.tasks.registry import make_task
from ablations.training.device_context import make_device_context
from ablations.training.state import initial_state
from modernize.errors import UsageError
from modernize.network import Network
from modernize.weights import read_start, write

PRESETS = ("nano-detection", "nano-segmentation")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_that_is_resumed_ends_as_one_that_was_not_stopped(
    preset: str, tmp_path: Path
) -> None:
    whole = go(preset, tmp_path / "whole")
    for updates in (1, 4):  # in the middle of both epochs
        assert go(preset, tmp_path / "parts", keep_going=stop_after(updates)) is None
    resumed = go(preset, tmp_path / "parts")
    assert whole is not None
    assert resumed is not None
    assert whole.metrics == resumed.metrics
    assert whole.status is resumed.status is Status.FINISHED
    assert {*TASKS[load_preset(preset).task].keys} - {"val_loss"} < {*whole.metrics}
    rows = [RunFolder(tmp_path / name).read_metrics() for name in ("whole", "parts")]
    assert rows[0] == rows[1]
    assert whole.classes == resumed.classes != []
    shown = [RunFolder(tmp_path / name).examples.read_bytes() for name in ("whole", "parts")]
    assert shown[0] == shown[1]
    ours, theirs = (torch.load(tmp_path / name / WEIGHTS)["network"] for name in ("whole", "parts"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_backbone_starts_from_a_classifier_of_grey_images(preset: str, tmp_path: Path) -> None:
    found, run, _ = make(preset)
    torch.manual_seed(3)
    grey = Network(run.spec.replace(in_channels=1, num_classes=4))
    write(grey, tmp_path / "grey.pth", "ours")
    weights = read_start(tmp_path / "grey.pth", run.spec)
    context = make_device_context("cpu", found.compute)
    started, fresh = (initial_state(run, context, start).network for start in (weights, None))
    x = torch.rand(2, 1, 64, 64)
    maps = started.eval().backbone.stem(x.expand(-1, 3, -1, -1))  # type: ignore[operator, union-attr]
    torch.testing.assert_close(maps, grey.eval().stem(x))
    theirs = fresh.state_dict()
    for name, tensor in started.state_dict().items():
        if not name.startswith("backbone.") or ".norms." in name:
            assert torch.equal(tensor, theirs[name]), name
    assert not torch.equal(
        started.state_dict()["backbone.stem.conv.weight"], theirs["backbone.stem.conv.weight"]
    )


@pytest.mark.parametrize(
    ("preset", "name"), [("nano-detection", "loss_mask"), ("nano-segmentation", "loss_aux")]
)
def test_one_loss_of_several_that_is_nan_is_named(
    preset: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last of six micro-batches, that is in the third update, after one was resumed."""
    kind = type(make_task(load_preset(preset).task_choice))
    losses, factors = kind.losses, iter([*[1.0] * 5, float("nan")])

    def spoil(self: Any, *batch: Any) -> Any:
        factor = next(factors)
        return {n: x * factor if n == name else x for n, x in losses(self, *batch).items()}

    monkeypatch.setattr(kind, "losses", spoil)
    settings = "data.limit=12", "epochs=1", "warmup_epochs=0"
    assert go(preset, tmp_path, *settings, keep_going=stop_after(1)) is None
    record = go(preset, tmp_path, *settings)
    assert record is not None
    assert record.status is Status.DIVERGED
    assert f"the {name} became nan at iteration 2" in record.reason


@pytest.mark.parametrize("preset", PRESETS)
def test_layer_decay_scales_the_backbone_alone(preset: str) -> None:
    found, run, _ = make(preset, "layer_decay=0.5")
    state = initial_state(run, make_device_context("cpu", found.compute))
    names = {id(p): name for name, p in state.network.named_parameters()}
    for group in state.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            inside = name.startswith(("backbone.stem", "backbone.stages"))
            assert (group["lr_scale"] < 1) == inside, name
            if name.startswith("backbone.stem"):
                assert group["lr_scale"] == 0.5**5  # four stages, and the head


def test_a_detector_that_finds_nothing_is_at_chance() -> None:
    task = make_task(load_preset("nano-detection").task_choice)
    values = dict.fromkeys(DETECTION.keys, 0.0)
    assert "0.1" in task.chance(values, 300, 0.0)
    assert not task.chance({**values, "box_ap50": 0.2}, 300, 0.0)
    assert not task.chance(values, 10, 0.0)  # too few images


def test_a_segmenter_that_predicts_one_class_is_at_chance() -> None:
    task = make_task(load_preset("nano-segmentation").task_choice)
    values = {"miou": 6.0, "mean_accuracy": 100 / 11, "pixel_accuracy": 70.0, "val_loss": 1.0}
    assert "9.09" in task.chance(values, 300, 1 / 11)
    assert not task.chance({**values, "mean_accuracy": 15.0}, 300, 1 / 11)


@pytest.mark.parametrize(
    ("preset", "settings", "words"),
    [
        ("nano-detection", ["head=upernet"], ["upernet", "mask-rcnn-nano"]),
        ("nano-detection", ["head=null"], ["None", "mask-rcnn-nano"]),
        ("nano", ["head=mask-rcnn"], ["classification", "head"]),
        ("nano", ["task=detektion"], ["detektion", "detection"]),
    ],
)
def test_task_and_head_fit_together(preset: str, settings: list[str], words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        load_preset(preset, settings)
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize(
    ("preset", "name"), [("nano", "scenes"), ("nano-detection", "fashion-mnist")]
)
def test_images_of_another_task_are_refused(preset: str, name: str) -> None:
    found = load_preset(preset, [f"data.name={name}"])
    with pytest.raises(UsageError, match=name):
        make_task(found.task_choice).load(found.data)


@pytest.mark.parametrize(
    ("preset", "setting"),
    [
        ("nano-detection", "mixup=0.8"),
        ("nano-segmentation", "label_smoothing=0.1"),
        ("nano-segmentation", "micro_batch_size=1"),
        ("nano-detection", "data.image_size=64"),
        ("nano-segmentation", "data.resize=warp"),
        ("nano-detection", "data.source=download"),
        ("nano-detection", "data.source=/nowhere"),
    ],
)
def test_planning_refuses_what_the_task_cannot_use(preset: str, setting: str) -> None:
    key, _, value = setting.partition("=")
    refused = call("plan", "--preset", preset, "--only", "ln", "--set", setting, status=2)
    assert f"{key} {value.removesuffix('.0')}" in refused


def test_processes_share_a_batch_with_sync_batch_norm() -> None:
    found = load_preset("nano-segmentation", ["micro_batch_size=1", "sync_batch_norm=true"])
    task, recipe = make_task(found.task_choice), found.recipes.enhanced
    assert [len(task.faults(recipe, processes)) for processes in (1, 2)] == [1, 0]


def test_a_run_is_evaluated_as_it_was_trained(tmp_path: Path) -> None:
    record = go("nano-segmentation", tmp_path)
    found, run, images = make("nano-segmentation")
    task, context = make_task(run.task), make_device_context("cpu", found.compute)
    sampling = Sampling(len(images.train), 4, 2, 0)
    loaders = task.loaders(images, found.data, run.recipe, sampling, context.device, found.compute)
    network = context.put(task.read(tmp_path / WEIGHTS, run.spec, ema=False))
    assert record is not None
    values = task.evaluate(network, loaders.validation, context).values
    assert values["miou"] == record.metrics["miou"]


def _preset_file(preset: str, folder: Path) -> Path:
    """The preset with as few scenes as the small runs here have."""
    text = (FOLDER / f"{preset}.yaml").read_text()
    file = folder / "mine.yaml"
    file.write_text(text.replace("  image_size: 128\n", "  image_size: 128\n  limit: 16\n", 1))
    return file


@pytest.mark.parametrize("preset", PRESETS)
def test_a_file_of_weights_is_evaluated_on_a_preset(preset: str, tmp_path: Path) -> None:
    record = go(preset, tmp_path / "run", "ema_decay=0.9")
    assert record is not None
    rows = RunFolder(tmp_path / "run").read_metrics()
    last, headline = rows[-1], TASKS[preset.removeprefix("nano-")].headline
    moved = shutil.copy(tmp_path / "run" / WEIGHTS, tmp_path / "elsewhere.pt")
    on = ["--preset", _preset_file(preset, tmp_path), "--format", "json"]
    [found] = json.loads(call("evaluate", "--weights", moved, *on))
    [average] = json.loads(call("evaluate", "--weights", tmp_path / "run", "--ema", *on))
    for metric in TASKS[preset.removeprefix("nano-")].metrics:
        assert found[metric.key] == last[metric.key] == record.metrics[metric.key]
        assert average[metric.key] == last[metric.ema]
    assert found[headline.key] is not None
    other = {"nano-detection": "nano-segmentation", "nano-segmentation": "nano-detection"}[preset]
    said = call("evaluate", "--weights", moved, "--preset", other, status=2)
    assert str(moved) in said
    assert load_preset(other).head in said
    assert "slides" in call("evaluate", "--weights", moved, *on, "--test", "slides", status=2)


def test_a_segmenter_is_tested_by_crops_and_at_several_scales(tmp_path: Path) -> None:
    assert go("nano-segmentation", tmp_path / "run") is not None
    found, run, images = make("nano-segmentation")
    on = ["--preset", _preset_file("nano-segmentation", tmp_path), "--format", "json"]
    values = {
        test: json.loads(call("evaluate", "--weights", tmp_path / "run", *on, "--test", test))[0]
        for test in ("whole", "slide", "multi-scale")
    }
    # A crop has the size of a scene.
    assert values["slide"]["pixel_accuracy"] == values["whole"]["pixel_accuracy"]
    assert values["multi-scale"]["test"] == "multi-scale"
    # The mean of twelve softmax maps, by hand.
    task, context = make_task(run.task), make_device_context("cpu", found.compute)
    network = context.put(task.read(tmp_path / "run" / WEIGHTS, run.spec, ema=False)).eval()
    sampling = Sampling.of(run.recipe, len(images.train), 0)
    loaders = task.loaders(images, found.data, run.recipe, sampling, context.device, found.compute)
    right = pixels = 0
    loss = 0.0
    for x, labels in loaders.validation:
        mean = torch.zeros(())
        for side in (64, 96, 128, 160, 192, 224):
            for flipped in (False, True):
                given = F.interpolate(x.flip(3) if flipped else x, (side, side), mode="bilinear")
                with torch.no_grad():
                    each = F.interpolate(network(given), (128, 128), mode="bilinear").softmax(1)
                mean = mean + (each.flip(3) if flipped else each) / 12
        right += int((mean.argmax(1) == labels).sum())
        pixels += labels.numel()
        loss += float(F.nll_loss(mean.log(), labels, reduction="sum")) / 128**2
    assert values["multi-scale"]["pixel_accuracy"] == pytest.approx(100 * right / pixels, abs=0.01)
    assert values["multi-scale"]["val_loss"] == pytest.approx(loss / len(images.val), rel=1e-4)


def test_the_head_belongs_to_the_identity_of_a_run() -> None:
    _, run, _ = make("nano-detection")
    other = dataclasses.replace(run, task={**run.task, "head": "mask-rcnn"})
    assert len({run.name, other.name, dataclasses.replace(run, task={}).name}) == 3
    assert run.content()["task"]["values"]["width"] == 48


def test_each_metric_has_its_own_key_and_label() -> None:
    metrics = [metric for task in TASKS.values() for metric in task.metrics]
    assert len(METRICS) == len({metric.label for metric in metrics}) == len(metrics)
    for task in (CLASSIFICATION, DETECTION, SEGMENTATION):
        assert metrics_in(["step", *task.keys]) is task
