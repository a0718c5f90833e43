"""One run: what decides it, that it resumes exactly, and how it ends."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from ablations import checkpoint, train
from ablations.batches import Batches
from ablations.data import Images, load_images
from ablations.recipe import load_preset
from ablations.records import Run, RunFolder, Status
from modernize import STEPS, spec_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> Images:
    full = load_images(load_preset("nano").data)
    return dataclasses.replace(
        full,
        train=full.train[:512],
        train_labels=full.train_labels[:512],
        val=full.val[:200],
        val_labels=full.val_labels[:200],
    )


def make_run(images: Images, *settings: str, step: str = "ln", seed: int = 0) -> Run:
    preset = load_preset("nano", ["batch_size=64", "epochs=3", *settings])
    recipe = preset.recipes.classic if step == "resnet" else preset.recipes.enhanced
    spec = spec_of(step, "nano", in_channels=1, num_classes=10, depths=[1, 1, 1, 1], width=8)
    return Run(step, recipe.apply_to(spec), recipe, images.identity(), seed)


def run_to_end(run: Run, images: Images, path: Path, **options: Any) -> Any:
    folder = RunFolder(path)
    folder.prepare(run)
    return train.train(run, folder, images, 32, CPU, **options)


def last_weights(run: Run, images: Images, path: Path, stop_after: list[int]) -> dict[str, Any]:
    """Trains with interruptions after so many updates each; returns the last checkpoint's state."""
    kept: dict[str, Any] = {}
    write = checkpoint.save
    folder = RunFolder(path)
    folder.prepare(run)
    for updates in [*stop_after, 10**9]:
        left = [updates]

        def keep_going(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] > 0

        def save(target: Path, state: dict[str, Any]) -> None:
            write(target, state)
            kept.update(torch.load(target, weights_only=True))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                train, "checkpoint", type("C", (), {"load": checkpoint.load, "save": save})
            )
            record = train.train(run, folder, images, 32, CPU, keep_going)
        assert (record is None) == (updates < 10**9)
    return kept


@pytest.mark.parametrize("step", ["resnet", "downsample"])
def test_an_interrupted_run_ends_as_one_that_was_not(
    images: Images, tmp_path: Path, step: str
) -> None:
    run = make_run(images, "drop_path=0.2", step=step)
    whole = last_weights(run, images, tmp_path / "whole", [])
    pieces = last_weights(run, images, tmp_path / "pieces", [3, 12, 13])
    assert whole["network"].keys() == pieces["network"].keys()
    for name, value in whole["network"].items():
        assert torch.equal(value, pieces["network"][name]), name
    assert whole["metrics"] == pieces["metrics"]
    read = [RunFolder(tmp_path / name).read_metrics() for name in ("whole", "pieces")]
    assert read[0] == read[1]
    assert [row["epoch"] for row in read[0]] == [1, 2, 3]


def test_the_seed_decides_the_result(images: Images, tmp_path: Path) -> None:
    first, again, other = (
        run_to_end(make_run(images, seed=seed), images, tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first.train_loss == again.train_loss
    assert first.train_loss != other.train_loss


def test_a_finished_run_leaves_its_record_and_no_checkpoint(images: Images, tmp_path: Path) -> None:
    record = run_to_end(make_run(images), images, tmp_path)
    metrics = RunFolder(tmp_path).read_metrics()
    assert record == RunFolder(tmp_path).read_record()
    assert record.status is Status.FINISHED
    assert record.top1 == metrics[-1]["top1"]
    assert record.top1_best == max(row["top1"] for row in metrics)
    assert metrics[record.best_epoch - 1]["top1"] == record.top1_best
    assert record.seconds > 0
    assert record.provenance["device"] == "cpu"
    assert not RunFolder(tmp_path).checkpoint.exists()


def test_an_exploding_run_is_diverged_and_says_where(images: Images, tmp_path: Path) -> None:
    run = make_run(images, "classic.learning_rate=1e30", step="resnet")
    record = run_to_end(run, images, tmp_path)
    assert record.status is Status.DIVERGED
    assert "iteration" in record.reason
    assert "learning rate 1e+30" in record.reason
    assert RunFolder(tmp_path).read_record() == record


def test_the_first_bad_loss_is_named() -> None:
    recipe = load_preset("nano").recipes.enhanced
    losses = [torch.tensor(v) for v in (1.0, 2.0, float("inf"), float("nan"))]
    with pytest.raises(train.DivergedError, match=r"became inf at iteration 12 \(epoch 3\)"):
        train._check(losses, iteration=13, recipe=recipe, per_epoch=5)


def test_a_run_at_chance_is_collapsed(images: Images, tmp_path: Path) -> None:
    run = make_run(images, "enhanced.learning_rate=1e-12", "enhanced.final_learning_rate=0.0")
    record = run_to_end(run, images, tmp_path)
    assert record.status is Status.COLLAPSED
    assert "at chance" in record.reason


@pytest.mark.parametrize(
    ("top1", "status"),
    [(10.0, Status.COLLAPSED), (15.0, Status.COLLAPSED), (15.5, Status.FINISHED)],
)
def test_chance_is_measured_against_the_classes(top1: float, status: Status) -> None:
    rows = [{"epoch": 1, "top1": top1, "top5": 50.0, "train_loss": 2.3}]
    assert train.judge(rows, num_classes=10).status is status
    assert train.judge(rows, num_classes=1000).status is Status.FINISHED


def test_evaluation_counts_by_rank(images: Images) -> None:
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
    recipe = load_preset("nano").recipes.enhanced
    batches = Batches(images, 32, recipe, CPU)
    result = train.evaluate(Oracle(), batches)  # type: ignore[arg-type]
    assert served == len(images.val)
    assert result == {"top1": pytest.approx(10.0), "top5": pytest.approx(50.0)}


@pytest.mark.parametrize("step", [step.key for step in STEPS])
def test_weight_decay_goes_by_shape(images: Images, step: str) -> None:
    run = make_run(images, step=step)
    state = train.begin(run, CPU)
    decayed, spared = state.optimizer.param_groups
    assert decayed["weight_decay"] == run.recipe.weight_decay > 0
    assert spared["weight_decay"] == 0
    in_groups = {id(p) for group in (decayed, spared) for p in group["params"]}
    assert in_groups == {id(p) for p in state.network.parameters()}
    for name, p in state.network.named_parameters():
        is_weight_matrix = name.endswith("weight") and p.ndim in (2, 4)
        assert any(p is q for q in decayed["params"]) == is_weight_matrix, name


def test_optimizers_are_torchs_own_with_the_recipes_values(images: Images) -> None:
    sgd = train.begin(make_run(images, step="resnet"), CPU).optimizer
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.9
    adamw = train.begin(make_run(images, "betas=[0.8, 0.99]"), CPU).optimizer
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["betas"] == (0.8, 0.99)
    assert adamw.defaults["eps"] == 1e-8


def test_a_damaged_checkpoint_is_said_and_passed_over(
    images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(images)
    folder = RunFolder(tmp_path)
    folder.prepare(run)
    assert train.train(run, folder, images, 32, CPU, iter([True] * 8 + [False]).__next__) is None
    raw = folder.checkpoint.read_bytes()
    folder.checkpoint.write_bytes(raw[: len(raw) // 2])
    record = train.train(run, folder, images, 32, CPU)
    assert "checkpoint.pt is damaged" in capsys.readouterr().out
    assert record is not None
    assert record.epochs == 3


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.write_text, (tmp_path / "owned", "x"))

    torch.save({"network": Hostile()}, tmp_path / "checkpoint.pt")
    assert checkpoint.load(tmp_path / "checkpoint.pt", CPU) is None
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"epoch": 1})
    with pytest.MonkeyPatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(checkpoint.os, "fsync", full)
        with pytest.raises(checkpoint.CheckpointError, match="No space left"):
            checkpoint.save(path, {"epoch": 2})
    assert checkpoint.load(path, CPU) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
