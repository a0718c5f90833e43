"""Checkpoints that a run cannot resume from, and the state that resuming restores."""

import copy
import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import CONTEXT as ANY_CONTEXT
from small_runs import first_weights, make_run, make_small_loaders, stop_after, take_images

from ablations.data.images import InMemoryDataset
from ablations.data.sampling import Rank
from ablations.recipe import load_preset
from ablations.records import WEIGHTS, Record, Run, RunFolder
from ablations.training import checkpoint, resume, train
from ablations.training.device_context import DeviceContext, make_device_context, supports
from ablations.training.state import initial_state

CONTEXT = dataclasses.replace(ANY_CONTEXT, dtype=torch.float32)
MOST = 2**30
UPDATES = 8  # in an epoch of the images here
AT = UPDATES + 3  # where the runs here are stopped
Spoil = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def images() -> InMemoryDataset:
    return take_images()


def small(images: InMemoryDataset, *settings: str, seed: int = 0, step: str = "gelu") -> Run:
    """It starts from weights, with layer-wise learning-rate decay."""
    settings = "epochs=2", "warmup_epochs=0", "layer_decay=0.8", *settings
    return make_run(images, *settings, seed=seed, step=step, started=True)


def go(
    run: Run,
    images: InMemoryDataset,
    path: Path,
    stop: int | None = None,
    context: DeviceContext = CONTEXT,
) -> Record | None:
    folder = RunFolder(path)
    folder.prepare(run)
    more = {} if stop is None else {"keep_going": stop_after(stop)}
    loaders = make_small_loaders(images, run)
    return train.train(run, folder, loaders, context, start=first_weights(run), **more)


@pytest.fixture(scope="module")
def whole(images: InMemoryDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not stopped; with a moving average."""
    folder = tmp_path_factory.mktemp("whole")
    assert go(small(images, "ema_decay=0.9"), images, folder) is not None
    return folder


@pytest.fixture(scope="module")
def stopped(images: InMemoryDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, stopped in its second epoch; there is a checkpoint of the first one's end."""
    folder = tmp_path_factory.mktemp("stopped")
    assert go(small(images, "ema_decay=0.9"), images, folder, stop=AT) is None
    assert [p.name for p in checkpoint.find(folder)] == [
        f"checkpoint-{number:09d}.pt" for number in (AT, UPDATES)
    ]
    return folder


def same_result(one: Path, other: Path) -> bool:
    weights = [torch.load(f / WEIGHTS, weights_only=True) for f in (one, other)]
    metrics = [(f / "metrics.jsonl").read_bytes() for f in (one, other)]
    return metrics[0] == metrics[1] and all(
        torch.equal(value, weights[1][part][name])
        for part in ("network", "ema")
        for name, value in (weights[0][part] or {}).items()
    )


def spoil(folder: Path, change: Spoil) -> Path:
    """Changes what the newest checkpoint holds, checksum and all; returns its path."""
    newest = checkpoint.find(folder)[0]
    state = copy.deepcopy(checkpoint.read(newest, MOST))
    change(state)
    checkpoint.save(folder, int(newest.stem.split("-")[1]), state)
    return newest


def without(*names: str) -> Spoil:
    def change(state: Any) -> None:
        for name in names[:-1]:
            state = state[next(iter(state)) if name == "*" else name]
        del state[names[-1]]

    return change


def put(value: Any, *names: str) -> Spoil:
    def change(state: Any) -> None:
        for name in names[:-1]:
            state = state[next(iter(state)) if name == "*" else name]
        state[names[-1]] = value

    return change


def reshape(part: str) -> Spoil:
    def change(state: Any) -> None:
        name = max(state[part], key=lambda n: state[part][n].numel())
        state[part][name] = state[part][name][:1].clone()

    return change


def double(part: str) -> Spoil:
    def change(state: Any) -> None:
        name = next(n for n in state[part] if state[part][n].ndim > 1)
        state[part][name] = state[part][name].double()

    return change


TOP1 = "metrics", 0, "top1"
SPOILT: dict[str, Spoil] = {
    **{f"without {name}": without(name) for name in (
        "run", "network", "optimizer", "scaler", "ema", "loss_sums", "epoch", "update",
        "evaluated", "seconds", "metrics", "speed", "conditions", "changes",
    )},
    "an unknown key": put(1, "extra"),
    "another run": put("ln-seed0-0123456789", "run"),
    "a tensor is missing": lambda s: s["network"].popitem(),
    "a tensor too many": put(torch.zeros(3), "network", "head.more"),
    "another width": reshape("network"),
    "another width of the average": reshape("ema"),
    "another type": double("network"),
    "a number for a tensor": put(1.0, "ema", "n_averaged"),
    "a meta tensor": lambda s: s["network"].update(
        {n: t.to("meta") for n, t in s["network"].items()}
    ),
    "no average": put(None, "ema"),
    "no moments": put({}, "optimizer"),
    "moments of one parameter are missing": lambda s: s["optimizer"].popitem(),
    "moments of another optimizer": lambda s: s.update(
        optimizer={i: {"momentum_buffer": m["exp_avg"]} for i, m in s["optimizer"].items()}
    ),
    "moments lack a part": without("optimizer", 0, "exp_avg_sq"),
    "moments of another shape": put(torch.zeros(2), "optimizer", 0, "exp_avg"),
    "moments of a parameter too many": put({}, "optimizer", 10_000),
    "beyond the last epoch": put(3, "epoch"),
    "before the first epoch": put(-1, "epoch"),
    "beyond the last update": put(UPDATES, "update"),
    "other than its name says": put(2, "update"),
    "an epoch that is no integer": put(1.0, "epoch"),
    "an epoch that is true": put(True, "epoch"),
    "metrics of fewer epochs": put([], "metrics"),
    "metrics of more epochs": lambda s: s["metrics"].append({**s["metrics"][0], "epoch": 2}),
    "metrics lack a column": without("metrics", 0, "ema_top1"),
    "metrics that are no numbers": put(float("nan"), *TOP1),
    "metrics that are text": put("80", *TOP1),
    "metrics that are no rows": put([1], "metrics"),
    "speed of other epochs": put([], "speed"),
    "infinite seconds": put(float("inf"), "seconds"),
    "negative seconds": put(-1.0, "seconds"),
    "no evaluated images": put(0, "evaluated"),
    "an unknown precision": put("float8", "conditions", "precision"),
    "no threads": put(0, "conditions", "threads"),
    "other processes than losses": put(2, "conditions", "processes"),
    "a scaler of gradients": put({"scale": 1.0}, "scaler"),
    "changes that are no list": put({}, "changes"),
}  # fmt: skip


@pytest.fixture(scope="module")
def checked(images: InMemoryDataset, stopped: Path) -> Callable[[Spoil | None], str | None]:
    """Returns the first fault of the stopped run's checkpoint, once it is spoilt."""
    run = small(images, "ema_decay=0.9")
    sampling, state = make_small_loaders(images, run).train.sampling, initial_state(run, CONTEXT)
    newest = checkpoint.read(checkpoint.find(stopped)[0], MOST)

    def check(change: Spoil | None) -> str | None:
        found = copy.deepcopy(newest)
        if change is not None:
            change(found)
        return next(resume._faults(found, AT, run, state, sampling), None)

    return check


def test_a_checkpoint_has_no_fault(checked: Callable[[Spoil | None], str | None]) -> None:
    assert checked(None) is None


@pytest.mark.parametrize("name", SPOILT)
def test_whatever_is_wrong_with_a_checkpoint_is_found(
    name: str, checked: Callable[[Spoil | None], str | None]
) -> None:
    fault = checked(SPOILT[name])
    assert fault
    if name.startswith("without "):
        assert name.removeprefix("without ") in fault


@pytest.mark.parametrize("name", ["without speed", "another width", "beyond the last epoch"])
def test_an_unusable_checkpoint_is_set_aside(
    name: str,
    images: InMemoryDataset,
    stopped: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is named, nothing of it is taken over, and the one before it is used."""
    folder = shutil.copytree(stopped, tmp_path / "run")
    newest = spoil(folder, SPOILT[name])
    run = small(images, "ema_decay=0.9")
    sampling = make_small_loaders(images, run).train.sampling
    _, state = resume.resume_run(run, RunFolder(folder), CONTEXT, sampling)
    assert (state.epoch, state.update) == (1, 0)
    said = capsys.readouterr().out
    assert str(newest) in said
    assert not newest.exists()
    assert newest.with_name(f"{newest.name}.unusable").is_file()
    before = checkpoint.read(checkpoint.find(folder)[0], MOST)
    for key, value in state.network.state_dict().items():
        assert torch.equal(value, before["network"][key])


def test_going_back_ends_as_a_run_that_was_not_stopped(
    images: InMemoryDataset, stopped: Path, whole: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(stopped, tmp_path / "run")
    spoil(folder, put("ln-seed0-0123456789", "run"))
    assert go(small(images, "ema_decay=0.9"), images, folder) is not None
    assert same_result(folder, whole)
    assert not checkpoint.find(folder)
    assert len(list(folder.glob("*.unusable"))) == 1


@pytest.mark.integration
@pytest.mark.parametrize("other", ["seed", "network", "recipe", "images"])
def test_a_checkpoint_of_another_run_is_not_used(
    other: str,
    images: InMemoryDataset,
    stopped: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither is of an earlier start: the metrics agree with the resumed checkpoint."""
    run = {
        "seed": lambda: small(images, "ema_decay=0.9", seed=1),
        "network": lambda: small(images, "ema_decay=0.9", step="ln"),
        "recipe": lambda: small(images, "ema_decay=0.9", "weight_decay=0.01"),
        "images": lambda: dataclasses.replace(
            small(images, "ema_decay=0.9"), images={**images.identity(), "sha256": "0" * 16}
        ),
    }[other]()
    folder = shutil.copytree(stopped, tmp_path / "run")
    assert len(RunFolder(folder).read_metrics()) == 1
    assert go(run, images, folder, stop=1) is None
    said = capsys.readouterr().out
    assert said.count(small(images, "ema_decay=0.9").name) == 2
    assert RunFolder(folder).read_metrics() == []
    assert [p.name for p in checkpoint.find(folder)] == ["checkpoint-000000001.pt"]
    assert len(list(folder.glob("*.unusable"))) == 2


@pytest.mark.integration
@pytest.mark.parametrize(("begun", "later"), [(1, 2), (2, 1)])
def test_the_number_of_threads_stays(
    begun: int,
    later: int,
    images: InMemoryDataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = small(images, "epochs=1")
    torch.set_num_threads(begun)
    assert go(run, images, tmp_path / "whole") is not None
    assert go(run, images, tmp_path / "pieces", stop=3) is None
    torch.set_num_threads(later)
    record = go(run, images, tmp_path / "pieces")
    assert record is not None
    assert same_result(tmp_path / "pieces", tmp_path / "whole")
    assert record.provenance["threads"] == begun
    assert torch.get_num_threads() == later  # for later work of this process
    assert "changes" not in record.provenance
    assert "Note:" not in capsys.readouterr().out


@pytest.mark.integration
def test_far_more_threads_than_cores_are_not_kept_and_that_is_said(
    images: InMemoryDataset, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(stopped, tmp_path / "run")
    many = resume.MAX_THREADS_PER_CORE * (os.cpu_count() or 1) + 1
    spoil(folder, put(many, "conditions", "threads"))
    record = go(small(images, "ema_decay=0.9"), images, folder)
    assert record is not None
    assert record.provenance["threads"] == torch.get_num_threads()
    assert record.provenance["changes"] == [
        {"epoch": 2, "update": 3, "what": "threads", "from": many, "to": torch.get_num_threads()}
    ]
    assert f"threads was {many}" in capsys.readouterr().out


@pytest.mark.integration
def test_precision_stays_where_the_device_has_it(
    images: InMemoryDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun with ``auto`` on a CPU with bf16 instructions, and gone on with on one without."""
    run = small(images, "epochs=1")
    auto = load_preset("nano").compute.model_copy(update={"precision": "auto"})

    def on(fast: bool) -> DeviceContext:
        capabilities = {"avx512_bf16": fast, "amx_bf16": fast}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
        return make_device_context("cpu", auto)

    assert on(True).dtype is torch.bfloat16
    assert go(run, images, tmp_path / "whole", context=on(True)) is not None
    assert go(run, images, tmp_path / "pieces", stop=3, context=on(True)) is None
    assert on(False).dtype is torch.float32
    record = go(run, images, tmp_path / "pieces", context=on(False))
    assert record is not None
    assert same_result(tmp_path / "pieces", tmp_path / "whole")
    assert record.provenance["precision"] == "bfloat16"
    assert "changes" not in record.provenance


def test_bf16_stays_on_a_gpu_that_would_take_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU without bf16 units resumes the run of one with them; older ones change."""
    gpu = dataclasses.replace(CONTEXT, device=torch.device("cuda"), dtype=torch.float16)
    found = {"conditions": {"precision": "bfloat16", "threads": 1}}
    for emulated, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=emulated: has)
        assert resume._restore_conditions(gpu, found).dtype is expected
    assert supports(gpu.device, torch.float16)
    assert not supports(torch.device("cpu"), torch.float16)
    assert not supports(torch.device("mps"), torch.bfloat16)


@pytest.mark.integration
@pytest.mark.parametrize("skipped", [False, True])
def test_precision_that_a_device_lacks_changes_and_that_is_on_record(
    skipped: bool, images: InMemoryDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that a GPU began in fp16, with scaled gradients, goes on on a CPU."""
    run = small(images)
    fp16 = dataclasses.replace(CONTEXT, dtype=torch.float16)
    assert go(run, images, tmp_path, stop=AT, context=fp16) is None
    if skipped:  # gradients that overflow are no updates
        spoil(tmp_path, put({}, "optimizer"))
    capsys.readouterr()
    record = go(run, images, tmp_path)
    assert record is not None
    assert record.status.settled
    assert record.provenance["precision"] == "float32"
    [change] = record.provenance["changes"]
    assert change == {
        "epoch": 2, "update": 3, "what": "precision", "from": "float16", "to": "float32",
    }  # fmt: skip
    assert "resuming after 1 epoch and 3 updates" in capsys.readouterr().out


def test_changes_add_up(images: InMemoryDataset, stopped: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(stopped, tmp_path / "run")
    run = small(images, "ema_decay=0.9")
    spoil(folder, put("another CPU", "conditions", "device"))
    assert go(run, images, folder, stop=1) is None
    spoil(folder, put("1.0", "conditions", "torch"))
    record = go(run, images, folder)
    assert record is not None
    changes = [(c["update"], c["what"], c["from"]) for c in record.provenance["changes"]]
    assert changes == [(3, "device", "another CPU"), (4, "torch", "1.0")]


def test_losses_of_several_processes_are_each_ones_own(
    images: InMemoryDataset, stopped: Path
) -> None:
    """And their mean where another number of processes goes on."""
    run = small(images, "ema_decay=0.9")
    found = checkpoint.read(checkpoint.find(stopped)[0], MOST)
    found["loss_sums"] = torch.tensor([1.0, 3.0], dtype=torch.double)
    for rank, world, expected in ((0, 2, 1.0), (1, 2, 3.0), (0, 1, 2.0), (3, 4, 2.0)):
        context = dataclasses.replace(CONTEXT, process=Rank(rank, world))
        state = initial_state(run, context)
        state.load(found, context)
        assert state.loss_sum.item() == expected
