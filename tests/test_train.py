"""One run: what decides it, that it resumes exactly, and how it ends."""

import copy
import dataclasses
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import (
    CONTEXT,
    CPU,
    first_weights,
    make_run,
    make_small_loaders,
    stop_after,
    take_images,
)

from ablations.data.images import InMemoryDataset
from ablations.data.mixing import Mixing, numpy_seed
from ablations.records import WEIGHTS, Record, Run, RunFolder, Status
from ablations.tasks.classification import Classification
from ablations.training import checkpoint, train
from ablations.training.device_context import resolve_precision
from ablations.training.device_name import cpu_name
from ablations.training.state import initial_state
from modernize import STEPS
from modernize.errors import UsageError

# Of a run that starts from weights, with other classes.
STARTED = ["ema_decay=0.9", "layer_decay=0.8", "head_init_scale=0.1"]


@pytest.fixture(scope="module")
def images() -> InMemoryDataset:
    return take_images()


def go(run: Run, images: InMemoryDataset, path: Path, **options: Any) -> Record | None:
    """Trains, or goes on training, in a folder."""
    folder = RunFolder(path)
    folder.prepare(run)
    loaders, start = make_small_loaders(images, run), first_weights(run)
    return train.train(run, folder, loaders, CONTEXT, start=start, **options)


def run_all_epochs(run: Run, images: InMemoryDataset, path: Path, **options: Any) -> Record:
    record = go(run, images, path, **options)
    assert record is not None
    return record


def last_state(
    run: Run, images: InMemoryDataset, path: Path, stops: list[int], **options: Any
) -> dict[str, Any]:
    """Trains with a stop after each of these updates; returns the last checkpoint."""
    kept: dict[str, Any] = {}
    write = checkpoint.save

    def save(folder: Path, update: int, state: dict[str, Any]) -> None:
        write(folder, update, state)
        kept.update(copy.deepcopy(state))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        for updates in stops:
            assert go(run, images, path, keep_going=stop_after(updates), **options) is None
        run_all_epochs(run, images, path, **options)
    return kept


@pytest.mark.integration
@pytest.mark.parametrize(
    ("step", "settings"),
    [
        ("resnet", []),
        ("downsample", ["drop_path=0.2", "mixup=0.8", "cutmix=1.0", "micro_batch_size=16"]),
        ("gelu", ["ema_decay=0.9"]),
        ("downsample", STARTED),
    ],
)
def test_a_stopped_run_ends_as_one_that_was_not(
    images: InMemoryDataset, tmp_path: Path, step: str, settings: list[str]
) -> None:
    run = make_run(images, *settings, step=step, started=settings is STARTED)
    whole = last_state(run, images, tmp_path / "whole", [])
    # In the middle of an epoch, at its end, at its beginning, and with checkpoints all the way.
    pieces = last_state(run, images, tmp_path / "pieces", [3, 5, 1, 6], checkpoint_seconds=0)
    for part in ("network", "ema"):
        assert (whole[part] is None) == (pieces[part] is None)
        for name, value in (whole[part] or {}).items():
            assert torch.equal(value, pieces[part][name]), name
    assert whole["metrics"] == pieces["metrics"]
    texts = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "pieces")]
    assert texts[0] == texts[1]
    assert [json.loads(line)["epoch"] for line in texts[0].splitlines()] == [1, 2, 3]


def test_a_run_of_iterations_ends_inside_an_epoch(images: InMemoryDataset, tmp_path: Path) -> None:
    """Of 3 epochs of 8 updates, 12: whole, and stopped in its last epoch."""
    run = make_run(images, "iterations=12", "warmup_epochs=0", "ema_decay=0.9", "schedule=poly",
                   "power=1", "final_learning_rate=0")  # fmt: skip
    assert (run.recipe.updates(8), run.recipe.epochs_begun(8)) == (12, 2)
    whole = last_state(run, images, tmp_path / "whole", [])
    pieces = last_state(run, images, tmp_path / "pieces", [3, 6], checkpoint_seconds=0)
    assert whole["metrics"] == pieces["metrics"]
    for part in ("network", "ema"):
        assert all(torch.equal(value, pieces[part][k]) for k, value in whole[part].items())
    peak = run.recipe.learning_rate
    rates = [row["learning_rate"] / peak for row in whole["metrics"]]
    assert rates == pytest.approx([5 / 12, 1 / 12])
    ema = whole["ema"]["n_averaged"].item()
    assert (len(whole["metrics"]), ema) == (2, 12)
    losses = [row["train_loss"] for row in whole["metrics"]]
    assert losses == pytest.approx([2.3, 2.3], abs=0.5)  # of a mean, not of a sum of 2 or 4


@pytest.mark.integration
@pytest.mark.parametrize("step", ["ln", "gelu"])
def test_accumulation_is_the_whole_batch(
    images: InMemoryDataset, tmp_path: Path, step: str
) -> None:
    """Gradients of micro-batches add up to the whole batch's, where no BatchNorm sees them."""
    states = [
        last_state(make_run(images, f"micro_batch_size={n}", step=step), images, tmp_path / n, [])
        for n in ("64", "16")
    ]
    close = [
        torch.allclose(value, states[1]["network"][name], atol=1e-4)
        for name, value in states[0]["network"].items()
    ]
    assert all(close) == (step == "ln")


@pytest.mark.integration
def test_the_seed_decides_the_result(images: InMemoryDataset, tmp_path: Path) -> None:
    first, again, other = (
        run_all_epochs(make_run(images, seed=seed), images, tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.train_loss == again.train_loss
    assert first.train_loss != other.train_loss


def test_a_finished_run_leaves_its_record_and_no_checkpoint(
    images: InMemoryDataset, tmp_path: Path
) -> None:
    record = run_all_epochs(make_run(images), images, tmp_path)
    metrics = RunFolder(tmp_path).read_metrics()
    assert record == RunFolder(tmp_path).read_record()
    assert record.status is Status.FINISHED
    assert record.metrics["top1"] == metrics[-1]["top1"]
    assert record.metrics["top1_best"] == max(row["top1"] for row in metrics)
    assert metrics[record.best_epoch - 1]["top1"] == record.metrics["top1_best"]
    assert record.seconds > 0
    assert record.provenance["device"] == cpu_name()
    assert not checkpoint.find(tmp_path)
    speeds = (tmp_path / "speed.jsonl").read_text().splitlines()
    assert len(speeds) == 3
    assert all(json.loads(line)["images_per_second"] > 0 for line in speeds)


def test_an_exploding_run_is_diverged_and_says_where(
    images: InMemoryDataset, tmp_path: Path
) -> None:
    rate = 1e30  # more than a preset may say
    run = make_run(images, step="resnet")
    run = dataclasses.replace(run, recipe=run.recipe.model_copy(update={"learning_rate": rate}))
    record = run_all_epochs(run, images, tmp_path)
    assert record.status is Status.DIVERGED
    assert "iteration" in record.reason
    assert "learning rate 1e+30" in record.reason
    assert RunFolder(tmp_path).read_record() == record


def test_the_first_bad_loss_is_named(
    images: InMemoryDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(epoch: int, first_update: int = 0) -> Any:
        for batch, x, labels in load(epoch, first_update):
            bad = epoch == 1 and batch.update == 4
            yield batch, x * float("nan") if bad else x, labels

    run = make_run(images)
    loaders = make_small_loaders(images, run)
    load = loaders.train.epoch
    monkeypatch.setattr(loaders.train, "epoch", poisoned)
    folder = RunFolder(tmp_path)
    folder.prepare(run)
    record = train.train(run, folder, loaders, CONTEXT)
    assert record is not None
    assert record.status is Status.DIVERGED
    assert "became nan at iteration 12 (epoch 2)" in record.reason
    assert record.epochs == 1


def test_a_run_at_chance_is_collapsed(images: InMemoryDataset, tmp_path: Path) -> None:
    run = make_run(images, "enhanced.learning_rate=1e-12", "enhanced.final_learning_rate=0.0")
    record = run_all_epochs(run, images, tmp_path)
    assert record.status is Status.COLLAPSED
    assert "at chance" in record.reason


@pytest.mark.integration
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["weight", "average", "running_mean", "images"])
def test_what_is_no_number_after_the_last_loss_is_diverged(
    images: InMemoryDataset, tmp_path: Path, value: float, where: str
) -> None:
    """A loss is of the weights before its update: the last update shows in none."""

    class Late:
        data_wait, source, bad = 0.0, "", MappingProxyType({})

        def __iter__(self) -> Any:
            for x, labels in validation:
                yield x * value if where == "images" and len(trained) == 2 else x, labels

    run = make_run(images, "epochs=2", "warmup_epochs=0", "ema_decay=0.9", step="gelu")
    loaders = make_small_loaders(images, run)
    validation = loaders.validation
    loaders = dataclasses.replace(loaders, validation=Late())
    trained: list[int] = []
    finish = train._Trainer._finish_epoch

    def spoilt(trainer: Any) -> None:
        trained.append(trainer.state.epoch)
        if len(trained) == 2 and where != "images":
            state = trainer.state
            tensors = (state.ema.module if where == "average" else state.network).state_dict()
            name = next(n for n in tensors if n.endswith(where if "_" in where else "weight"))
            tensors[name].view(-1)[0] = value
        finish(trainer)

    folder = RunFolder(tmp_path)
    folder.prepare(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train._Trainer, "_finish_epoch", spoilt)
        record = train.train(run, folder, loaders, CONTEXT)
    assert record is not None
    assert record.status is Status.DIVERGED
    assert "epoch 2" in record.reason
    assert record.epochs == 1
    assert not (tmp_path / WEIGHTS).exists()
    assert folder.read_record() == record


def test_evaluation_counts_by_rank(images: InMemoryDataset) -> None:
    """Logits that rank the right class first for some images and third for the others."""

    class Oracle(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            nonlocal served
            labels = torch.from_numpy(images.val_labels[served : served + len(x)])
            ranks = torch.arange(served, served + len(x)) % 10
            served += len(x)
            logits = -torch.ones(len(x), 10)
            for row, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
                logits[row, label] = 5.0
                others = [c for c in range(10) if c != label][: int(rank)]
                logits[row, others] = 9.0  # so many classes come before the right one
            return logits

    served = 0
    result = Classification().evaluate(
        Oracle(), make_small_loaders(images, make_run(images)).validation, CONTEXT
    )
    assert served == len(images.val)
    assert (result.values["top1"], result.values["top5"]) == (
        pytest.approx(10.0),
        pytest.approx(50.0),
    )
    assert result.images == served


def test_outputs_that_are_no_numbers_are_not_right(images: InMemoryDataset) -> None:
    """NaN ranks first in torch."""

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 10), float("nan"))

    result = Classification().evaluate(
        Broken(), make_small_loaders(images, make_run(images)).validation, CONTEXT
    )
    assert (result.values["top1"], result.values["top5"]) == (0, 0)
    assert result.not_finite == len(images.val)


@pytest.mark.parametrize("step", [step.key for step in STEPS])
def test_weight_decay_goes_by_shape(images: InMemoryDataset, step: str) -> None:
    run = make_run(images, step=step)
    state = initial_state(run, CONTEXT)
    decayed, spared = state.optimizer.param_groups
    assert decayed["weight_decay"] == run.recipe.weight_decay > 0
    assert spared["weight_decay"] == 0
    in_groups = {id(p) for group in (decayed, spared) for p in group["params"]}
    assert in_groups == {id(p) for p in state.network.parameters()}
    for name, p in state.network.named_parameters():
        is_weight_matrix = name.endswith("weight") and p.ndim in (2, 4)
        assert any(p is q for q in decayed["params"]) == is_weight_matrix, name


def test_optimizers_are_torchs_own_with_the_recipes_values(images: InMemoryDataset) -> None:
    sgd = initial_state(make_run(images, step="resnet"), CONTEXT).optimizer
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.9
    adamw = initial_state(make_run(images, "betas=[0.8, 0.99]"), CONTEXT).optimizer
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["betas"] == (0.8, 0.99)
    assert adamw.defaults["eps"] == 1e-8


def test_metrics_go_to_tensorboard_on_request(images: InMemoryDataset, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_all_epochs(make_run(images), images, tmp_path, loggers=["tensorboard"])
    told = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = RunFolder(tmp_path).read_metrics()
    assert [event.step for event in told.Scalars("top1")] == [1, 2, 3]
    for name in ("top1", "train_loss", "val_loss"):
        values = [event.value for event in told.Scalars(name)]
        assert values == pytest.approx([row[name] for row in rows])


@pytest.mark.integration
def test_mixed_precision_learns_the_same_things(images: InMemoryDataset, tmp_path: Path) -> None:
    """bf16 rounds, and does not change, what is computed; weights stay in fp32."""
    run = make_run(images)
    records = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        folder = RunFolder(tmp_path / name)
        folder.prepare(run)
        place = dataclasses.replace(CONTEXT, dtype=dtype)
        records[name] = train.train(run, folder, make_small_loaders(images, run), place)
        weights = torch.load(folder.path / WEIGHTS, weights_only=True)["network"]
        assert {w.dtype for w in weights.values()} == {torch.float32}
    fp32, bf16 = records["fp32"], records["bf16"]
    assert fp32 is not None
    assert bf16 is not None
    assert bf16.provenance["precision"] == "bfloat16"
    assert bf16.train_loss != fp32.train_loss
    assert bf16.train_loss == pytest.approx(fp32.train_loss, rel=0.03)


def test_precision_is_resolved_for_the_device() -> None:
    assert resolve_precision("fp32", CPU) is torch.float32
    assert resolve_precision("bf16", CPU) is torch.bfloat16
    assert resolve_precision("auto", CPU) in (torch.float32, torch.bfloat16)
    with pytest.raises(UsageError, match=r"fp16.*cpu"):
        resolve_precision("fp16", CPU)


def test_labels_are_smoothed_as_torch_does(images: InMemoryDataset) -> None:
    run = make_run(images, "label_smoothing=0.1")
    x, labels, logits = torch.zeros(8, 1, 4, 4), torch.arange(8), torch.randn(8, 10)
    _, target = Mixing(run.recipe, 10)(x, labels, seed=0)
    ours = torch.nn.functional.cross_entropy(logits, target)
    theirs = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    assert torch.allclose(ours, theirs)


def test_mixing_is_timms_and_leaves_numpys_generator_alone(images: InMemoryDataset) -> None:
    from timm.data.mixup import Mixup

    run = make_run(images, "mixup=0.8", "cutmix=1.0")
    theirs = Mixup(0.8, 1.0, prob=1.0, switch_prob=0.5, label_smoothing=0.1, num_classes=10)
    kinds = set()
    for seed in range(20):
        x, labels = torch.randn(8, 1, 32, 32), torch.arange(8)
        before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
        ours = Mixing(run.recipe, 10)(x.clone(), labels, seed)
        assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]
        with numpy_seed(seed):
            expected = theirs(x.clone(), labels)
        assert torch.equal(ours[0], expected[0])
        assert torch.equal(ours[1], expected[1])
        kinds.add(bool((ours[0] == x).any()))  # CutMix leaves pixels as they were
    assert kinds == {False, True}


def test_the_validation_loss_is_the_mean_cross_entropy_of_the_saved_network(
    images: InMemoryDataset, tmp_path: Path
) -> None:
    run = make_run(images, "epochs=1", "warmup_epochs=0", step="gelu")
    record = run_all_epochs(run, images, tmp_path)
    network = initial_state(run, CONTEXT).network
    network.load_state_dict(torch.load(tmp_path / WEIGHTS, weights_only=True)["network"])
    batches = list(make_small_loaders(images, run).validation)
    with torch.no_grad():
        logits = torch.cat([network.eval()(x) for x, _ in batches])
    loss = torch.nn.CrossEntropyLoss()(logits, torch.cat([labels for _, labels in batches]))
    assert record.val_loss == pytest.approx(loss.item(), rel=1e-5)
    assert RunFolder(tmp_path).read_metrics()[-1]["val_loss"] == record.val_loss


def test_the_average_follows_the_weights(images: InMemoryDataset, tmp_path: Path) -> None:
    run = make_run(images, "ema_decay=0.5", "epochs=2", "warmup_epochs=0", step="gelu")
    run_all_epochs(run, images, tmp_path)
    rows = RunFolder(tmp_path).read_metrics()
    assert all({"ema_top1", "ema_val_loss"} <= row.keys() for row in rows)
    weights = torch.load(tmp_path / WEIGHTS, weights_only=True)
    assert weights["network"].keys() == weights["ema"].keys()
    assert any(not torch.equal(weights["network"][n], w) for n, w in weights["ema"].items())
