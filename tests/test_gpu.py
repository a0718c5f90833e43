"""Training on a CUDA GPU, wherever there is one; and its branches, with torch's queries replaced.

A test with the marker ``gpu`` runs only if ``torch.cuda.is_available()``.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from small_runs import PRESET, make_run, take_images
from torch import Tensor, nn

from ablations.choices import Compute
from ablations.data.images import InMemoryDataset
from ablations.data.loaders import Loaders, make_loaders
from ablations.data.sampling import Rank, Sampling
from ablations.data.worker_dataset import RawBatch
from ablations.data.worker_loader import WorkerTrainLoader
from ablations.records import RunFolder, Status
from ablations.tasks.classification import Classification
from ablations.training import device_context, train
from ablations.training.device_context import DeviceContext, make_device_context, process_group
from ablations.training.state import initial_state
from ablations.training.step import TrainingStep, make_scaler, seconds_per_iteration
from modernize.errors import UsageError

CUDA = torch.device("cuda:0")
LOSSES = Classification().losses
LABELS = torch.tensor([0, 1, 2, 3])


@pytest.fixture(scope="module")
def images() -> InMemoryDataset:
    return take_images()


def compute(**changes: Any) -> Compute:
    return PRESET.compute.model_copy(update=changes)


def loaders_on(
    images: InMemoryDataset, run: Any, context: DeviceContext, **changes: Any
) -> Loaders:
    recipe = run.recipe
    sampling = Sampling.of(recipe, len(images.train), run.seed)
    return make_loaders(
        images, PRESET.data, recipe, sampling, context.device, compute(**changes), threads=1
    )


@pytest.fixture
def context_on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceContext]:
    """The context that a process on a GPU gets; no GPU is used."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    libraries: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [library.allow_tf32 for library in libraries]
    yield make_device_context("cuda:0", compute(precision="fp16", tf32=True))
    for library, allowed in zip(libraries, before, strict=True):
        library.allow_tf32 = allowed  # monkeypatch would delete it first


def weights_of(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("step", ["resnet", "ln"])
def test_a_run_on_a_gpu_learns(
    images: InMemoryDataset, tmp_path: Path, step: str, precision: str
) -> None:
    context = make_device_context("cuda:0", compute(precision=precision))
    run = make_run(images, step=step)
    folder = RunFolder(tmp_path)
    folder.prepare(run)
    record = train.train(run, folder, loaders_on(images, run, context), context)
    assert record is not None
    assert record.status in (Status.FINISHED, Status.COLLAPSED)
    losses = [row["train_loss"] for row in folder.read_metrics()]
    assert losses[-1] < losses[0]
    assert record.provenance["precision"] == str(context.dtype).removeprefix("torch.")
    assert torch.cuda.get_device_name(0) in record.provenance["device"]


@pytest.mark.gpu
def test_a_gpu_counts_as_many_right_as_the_cpu(images: InMemoryDataset) -> None:
    run = make_run(images)
    counted = []
    for device in ("cpu", "cuda:0"):
        context = make_device_context(device, compute(precision="fp32", tf32=False))
        network = initial_state(run, context).network
        counted.append(
            Classification().evaluate(network, loaders_on(images, run, context).validation, context)
        )
    on_cpu, on_gpu = counted
    assert on_gpu.images == on_cpu.images
    top5 = [found.values["top5"] for found in counted]
    assert top5[1] == pytest.approx(top5[0], abs=100 * 2 / on_cpu.images)  # rounding


@pytest.mark.gpu
def test_fp16_skips_an_update_whose_gradients_overflow(images: InMemoryDataset) -> None:
    context = make_device_context("cuda:0", compute(precision="fp16"))
    state = initial_state(make_run(images), context)
    step = TrainingStep(state.network, state.optimizer, state.scaler, context, LOSSES)
    x = torch.randn(4, 1, 32, 32, device=CUDA)
    target = torch.arange(4, device=CUDA)
    before, scale = weights_of(state.network), state.scaler.get_scale()
    step(x * float("inf"), target)
    assert state.scaler.get_scale() < scale
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(state.network), strict=True))
    step(x, target)
    assert any(
        not torch.equal(a, b) for a, b in zip(before, weights_of(state.network), strict=True)
    )


@pytest.mark.gpu
def test_batches_of_workers_come_through_pinned_memory(images: InMemoryDataset) -> None:
    context = make_device_context("cuda:0", compute())
    run = make_run(images, "random_erasing=0.5")
    loaders = loaders_on(images, run, context, workers=1)
    assert isinstance(loaders.train, WorkerTrainLoader)
    batch, x, labels = next(iter(loaders.train.epoch(0)))
    loaders.close()
    assert x.device == labels.device == CUDA
    assert x.is_contiguous(memory_format=torch.channels_last)
    on_cpu = loaders_on(images, run, make_device_context("cpu", compute()), workers=0)
    other, y, _ = next(iter(on_cpu.train.epoch(0)))
    assert batch.seeds == other.seeds
    torch.testing.assert_close(x.cpu(), y)


@pytest.mark.gpu
@pytest.mark.parametrize("allowed", [True, False])
def test_tf32_is_as_the_preset_says(allowed: bool) -> None:
    make_device_context("cuda:0", compute(tf32=allowed))
    assert torch.backends.cuda.matmul.allow_tf32 is allowed
    assert torch.backends.cudnn.allow_tf32 is allowed
    x = torch.randn(512, 512, device=CUDA)
    error = (x @ x - (x.double() @ x.double()).float()).abs().max().item()
    has_tf32 = torch.cuda.get_device_capability() >= (8, 0)
    assert (error > 1e-3) is (allowed and has_tf32)


@pytest.mark.gpu
def test_memory_figures_are_the_gpus() -> None:
    context = make_device_context("cuda:0", compute())
    torch.cuda.reset_peak_memory_stats(CUDA)
    before = context.peak_memory()
    block = torch.empty(64 * 2**20, dtype=torch.uint8, device=CUDA)
    assert context.peak_memory() - before == pytest.approx(64, abs=1)
    del block
    assert context.peak_memory() - before == pytest.approx(64, abs=1)


@pytest.mark.gpu
def test_a_timed_iteration_waits_for_the_gpu() -> None:
    context = make_device_context("cuda:0", compute())
    x = torch.randn(4096, 4096, device=CUDA)

    def iterate() -> None:
        torch.mm(x, x)

    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    measured = seconds_per_iteration(iterate, 0.2, context.synchronize)
    begin.record()
    for _ in range(20):
        iterate()
    end.record()
    torch.cuda.synchronize()
    assert measured == pytest.approx(begin.elapsed_time(end) / 20 / 1000, rel=0.5)


@pytest.mark.gpu
def test_nccl_joins_the_processes(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 1)  # type: ignore[attr-defined]
    with process_group(0, Rank(0, 1), store) as (device, rank):
        assert device == "cuda:0"
        assert rank == Rank(0, 1)
        assert dist.get_backend() == "nccl"
        x = torch.ones(3, device=device)
        dist.all_reduce(x)
        assert x.tolist() == [1.0, 1.0, 1.0]


# Without a GPU: the same branches


def test_a_context_on_a_gpu_has_its_precision_and_tf32(context_on_cuda: DeviceContext) -> None:
    assert context_on_cuda.device == CUDA
    assert context_on_cuda.dtype is torch.float16
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="fp16"):
        make_device_context("cpu", compute(precision="fp16"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_only_fp16_scales_its_gradients(dtype: torch.dtype, context_on_cuda: DeviceContext) -> None:
    context = dataclasses.replace(context_on_cuda, dtype=dtype, device=torch.device("cpu"))
    assert make_scaler(context).is_enabled() is (dtype is torch.float16)


def test_scaled_gradients_update_the_weights_as_others_do() -> None:
    """torch scales on a CPU as well; the scale is a power of two, which divides out exactly."""
    results = []
    for enabled in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        context = make_device_context("cpu", compute(precision="fp32"))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", enabled=enabled, init_scale=2.0**8)
        step = TrainingStep(model, optimizer, scaler, context, LOSSES)
        for turn in range(3):
            step(torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(turn)), LABELS)
        results.append(weights_of(model))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_scaled_update_with_infinite_gradients_is_skipped() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    context = make_device_context("cpu", compute(precision="fp32"))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    step = TrainingStep(model, torch.optim.SGD(model.parameters(), lr=0.1), scaler, context, LOSSES)
    before = weights_of(model)
    step(torch.full((4, 3, 2, 2), float("inf")), LABELS)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(model), strict=True))
    assert scaler.get_scale() == 2.0**7


def test_a_gpus_memory_and_name_are_torchs(
    context_on_cuda: DeviceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(value: Any) -> Any:
        return lambda device=None: asked.append(device) or value

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", answer(3 * 2**20))
    monkeypatch.setattr(torch.cuda, "get_device_name", answer("a card"))
    monkeypatch.setattr(torch.cuda, "synchronize", answer(None))
    assert context_on_cuda.peak_memory() == 3.0
    assert context_on_cuda.name() == "a card"
    four = dataclasses.replace(context_on_cuda, process=Rank(1, 4))
    assert four.describe() == "4 x a card"
    context_on_cuda.synchronize()
    assert asked == [CUDA] * len(asked)
    assert len(asked) == 4


@pytest.mark.parametrize("gpus", [1, 2])
def test_processes_with_gpus_are_joined_by_nccl_one_gpu_each(
    gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[Any, ...]] = []
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(device_context.dist, "init_process_group", lambda *a, **_: begun.append(a))
    monkeypatch.setattr(device_context.dist, "get_rank", lambda: 1)
    monkeypatch.setattr(device_context.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(device_context.dist, "destroy_process_group", lambda: None)
    with process_group(1, Rank(1, 2), store=None) as (device, rank):
        assert device == f"cuda:{1 % gpus}"  # a scheduler may show each process only its own GPU
        assert rank == Rank(1, 2)
    assert begun == [("nccl",)]
    assert chosen == [device]


def test_a_batch_is_pinned_with_all_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    pixels, noise = torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.zeros(5)
    batch = RawBatch({}, pixels, [0, 1], noise, []).pin_memory()
    assert batch.indices == [0, 1]
    assert pinned == [pixels, noise]


@pytest.mark.parametrize("channels_last", [True, False])
def test_networks_are_laid_out_as_the_context_says(channels_last: bool) -> None:
    context = make_device_context("cpu", compute(channels_last=channels_last))
    context = dataclasses.replace(context, device=torch.device("meta"))
    with torch.device("meta"):
        network = context.put(nn.Conv2d(8, 16, 3))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert network.weight.is_meta
    assert network.weight.is_contiguous(memory_format=layout)
