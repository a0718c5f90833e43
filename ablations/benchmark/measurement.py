"""Measures networks on one device: images per second in interleaved rounds, and memory.

All networks stay on the device. In each round every network runs in each mode, so that a slow
period of the machine affects all of them. All have the same images, autocast, memory format,
compiler, loss and optimizer, and no stochastic depth.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import importlib
import math
import multiprocessing.connection
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablations.benchmark.networks import BenchmarkNetwork, Source
from ablations.benchmark.results import INFERENCE, TRAINING, Row
from ablations.choices import Compute
from ablations.processes import process_context
from ablations.tasks.registry import make_task
from ablations.tasks.task import Task
from ablations.training.device_context import DeviceContext, make_device_context
from ablations.training.step import TrainingStep, make_scaler
from modernize.fusion import fuse_for_inference
from modernize.spec import NetSpec

PRODUCT_SIDE = {"cuda": 8192, "cpu": 2048}  # of the matrices whose product is the peak
LEAST = 3  # iterations to time in a round, at least

Iterate = Callable[[], None]
"""Does one iteration: a batch through the network, and in training an update."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """The conditions under which all networks are measured; can be sent to another process.

    Attributes:
        device: torch's name of it.
        compute: precision, memory format and compiler, as in training.
        batch_size: images that pass through a network at once.
        size: (width, height) of an image in pixels.
        threads: of the CPU.
        choice: of the task, as :func:`~ablations.tasks.registry.make_task` takes it.
    """

    device: str
    compute: Compute
    batch_size: int
    size: tuple[int, int]
    threads: int
    choice: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task of the networks."""
        return make_task(self.choice)

    def context(self) -> DeviceContext:
        """Sets this process up, and returns its device context.

        Raises:
            UsageError: for a precision that the device does not support.
        """
        torch.set_num_threads(self.threads)
        return make_device_context(self.device, self.compute)

    def batch(self, context: DeviceContext) -> tuple[Tensor, Any]:
        """Returns images (N, 3, H, W) of noise, and their targets."""
        draw, (width, height) = torch.Generator().manual_seed(0), self.size
        images = torch.randn((self.batch_size, 3, height, width), generator=draw).to(context.device)
        if context.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, self.task.example(self.task.noise.classes, images)


@dataclasses.dataclass(frozen=True)
class Trial:
    """Two iterations of a network in one mode, before it is timed.

    Attributes:
        memory_mib: the peak above the input batch: weights, activations, and in training gradients
            and the state of the optimizer; None if it was not measured.
        seconds: of an iteration, roughly.
        failure: why the network cannot be measured; empty if it can.
    """

    memory_mib: float | None = None
    seconds: float = 0.0
    failure: str = ""


@dataclasses.dataclass
class TimedNetwork:
    """One network in one mode.

    Attributes:
        row: receives its figures.
        prepare: a context that prepares the network for this mode, gives the function that does
            one iteration, and frees what the mode needs besides the network.
    """

    row: Row
    prepare: Callable[[], contextlib.AbstractContextManager[Iterate]]


class LoadedNetwork:
    """A network on the device.

    Args:
        source: builds it.
        context: the device, precision, memory format and compiler.
        batch: images and targets.
        modes: in which it will run.
        task: whose losses it is trained with.
    """

    def __init__(
        self,
        source: Source,
        context: DeviceContext,
        batch: tuple[Tensor, Any],
        modes: Sequence[str],
        task: Task,
    ) -> None:
        torch.manual_seed(0)
        self.context, self.batch, self.task = context, batch, task
        self.network = context.put(source.build())
        self.fused: Any = None
        if TRAINING not in modes:  # then the network itself is not needed
            self.network = self.fused = self._fuse()
        elif context.compile and INFERENCE in modes:  # compiled once, not once a round
            self.fused = self._fuse()
        compiles = context.compile and TRAINING in modes
        self.model: Any = torch.compile(self.network) if compiles else self.network

    def _fuse(self) -> Any:
        """Returns the network, or a copy of it, for inference."""
        fused = self.context.put(prepare_for_inference(self.network, self.context.dtype))
        return torch.compile(fused) if self.context.compile else fused

    def prepare(self, mode: str) -> contextlib.AbstractContextManager[Iterate]:
        """Prepares the network for a mode; see :class:`TimedNetwork`."""
        return self._inference() if mode == INFERENCE else self._training()

    @contextlib.contextmanager
    def _inference(self) -> Iterator[Iterate]:
        self.network.eval()
        model, (images, _targets) = self.fused or self._fuse(), self.batch

        def iterate() -> None:
            with torch.inference_mode(), self.context.autocast():
                model(images)

        yield iterate

    @contextlib.contextmanager
    def _training(self) -> Iterator[Iterate]:
        self.network.train()
        # The learning rate is so small that the weights stay the same in all rounds.
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-8, weight_decay=0.05, fused=True
        )
        scaler = make_scaler(self.context)
        step = TrainingStep(self.model, optimizer, scaler, self.context, self.task.losses)
        try:
            yield functools.partial(step, *self.batch)
        finally:
            optimizer.zero_grad(set_to_none=True)


def prepare_for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Returns a network as its own project prepares it for inference.

    For ours that is a copy with fused norms and scales; for others the network in evaluation mode.
    """
    ours = isinstance(getattr(network, "spec", None), NetSpec)
    return fuse_for_inference(network, dtype) if ours else network.eval()


def run_rounds(
    networks: Sequence[TimedNetwork], rounds: int, measure: Callable[[Iterate], float]
) -> Iterator[int]:
    """Measures every network in each round, and yields after each round how many are complete.

    A network that fails gets the failure in its row, and is not measured again.

    Args:
        networks: in the order in which they are measured.
        rounds: how many.
        measure: returns the images per second of a function that does one iteration.
    """
    for number in range(rounds):
        for network in networks:
            if network.row.failure:
                continue
            try:
                with network.prepare() as iterate:
                    network.row.images_per_second.append(measure(iterate))
            except Exception as error:  # any failure; the others go on
                network.row.failure = describe_failure(error)
                free_memory()
        yield number + 1


def describe_failure(error: Exception) -> str:
    """Returns in one line why a network cannot be measured."""
    reason = str(error).strip().partition("\n")[0]
    short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in reason
    return f"{'out of memory' if short else 'failed'}: {reason or type(error).__name__}"


def free_memory() -> None:
    """Frees memory that nothing uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def product_speed(context: DeviceContext, seconds: float = 0.5) -> float:
    """Returns the MACs per second of a large product of matrices, in the context's precision.

    This is close to the peak of the device.

    Args:
        context: device and precision.
        seconds: how long to repeat the product; the fastest one counts.
    """
    side = PRODUCT_SIDE["cuda" if context.device.type == "cuda" else "cpu"]
    matrix = torch.randn(side, side, device=context.device, dtype=context.dtype)
    torch.mm(matrix, matrix)  # the first call sets up libraries
    context.synchronize()
    fastest = math.inf
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        torch.mm(matrix, matrix)
        context.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return side**3 / fastest


# -- memory --------------------------------------------------------------------------------------


def run_trial(source: Source, mode: str, setup: Setup) -> Trial:
    """Runs a network twice in one mode, and returns its memory and time.

    On a CPU this happens in a separate process, whose peak is the network's alone. With a compiler
    the memory is not reported, because the compiler's memory would count too.
    """
    if torch.device(setup.device).type == "cuda":
        return _run_trial(source, mode, setup)
    processes = process_context()
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=_send_trial, args=(sender, source, mode, setup))
    process.start()
    sender.close()
    try:
        trial: Trial = receiver.recv()
    except EOFError:
        process.join()
        # The system kills a process that takes too much memory; other failures are sent.
        return Trial(failure=f"killed: its process ended with status {process.exitcode}")
    finally:
        receiver.close()
    process.join()
    return dataclasses.replace(trial, memory_mib=None) if setup.compute.compile else trial


def _send_trial(
    sender: multiprocessing.connection.Connection, source: Source, mode: str, setup: Setup
) -> None:
    sender.send(_run_trial(source, mode, setup))


def _run_trial(source: Source, mode: str, setup: Setup) -> Trial:
    try:
        context = setup.context()
        batch = setup.batch(context)
        source.load()  # imported modules are not memory of the network
        if context.device.type == "cuda":
            free_memory()
            torch.cuda.reset_peak_memory_stats(context.device)
        # On a GPU the peak was just reset; on a CPU it is that of the process since its start.
        before = context.peak_memory()
        loaded = LoadedNetwork(source, context, batch, [mode], setup.task)
        with loaded.prepare(mode) as iterate:
            iterate()
            context.synchronize()
            start = time.perf_counter()
            iterate()  # now with the state of the optimizer, which the first one made
            context.synchronize()
            return Trial(context.peak_memory() - before, time.perf_counter() - start)
    except Exception as error:  # any failure; the others go on
        return Trial(failure=describe_failure(error))


# -- all networks --------------------------------------------------------------------------------

Plan = Sequence[tuple[BenchmarkNetwork, Sequence[Row]]]
"""Each network with its rows, one for each mode."""


def make_plan(networks: Sequence[BenchmarkNetwork], modes: Sequence[str]) -> Plan:
    """Returns the networks with rows that have no figures yet."""
    plan = []
    for n in networks:
        figures = n.names, n.model, n.library, n.version, n.params, n.flops
        spec = n.spec.to_dict() if n.spec else None
        plan.append((n, [Row(*figures, mode, spec=spec) for mode in modes]))
    return plan


def run_trials(plan: Plan, setup: Setup) -> Iterator[tuple[Row, Trial]]:
    """Runs the trials of all networks, enters memory and failures into the rows, and yields both.

    Args:
        plan: networks and rows.
        setup: the conditions.
    """
    first = torch.device(setup.device).type == "cuda"
    for network, rows in plan:
        for row in rows:
            if first:  # without the memory that the libraries of a GPU take once
                run_trial(network.source, row.mode, setup)
                first = False
            trial = run_trial(network.source, row.mode, setup)
            row.memory_mib, row.failure = trial.memory_mib, trial.failure
            yield row, trial


def load_networks(plan: Plan, setup: Setup) -> list[TimedNetwork]:
    """Puts the networks on the device, and returns them for each row that has not failed.

    Args:
        plan: networks and rows.
        setup: the conditions.

    Raises:
        UsageError: for a precision that the device does not support.
    """
    context = setup.context()
    if context.compile:
        _allow_compiling(sum(len(rows) for _, rows in plan))
    batch = setup.batch(context)
    timed: list[TimedNetwork] = []
    for network, rows in plan:
        able = [row for row in rows if not row.failure]
        if not able:
            continue
        try:
            modes = [row.mode for row in able]
            loaded = LoadedNetwork(network.source, context, batch, modes, setup.task)
        except Exception as error:  # any failure; the others go on
            for row in able:
                row.failure = describe_failure(error)
            free_memory()
            continue
        timed += [TimedNetwork(row, functools.partial(loaded.prepare, row.mode)) for row in able]
    return timed


def expected_seconds(trials: Sequence[Trial], rounds: int, seconds: float) -> float:
    """Returns roughly how long the rounds will take.

    Args:
        trials: one for each network and mode.
        rounds: how many.
        seconds: to time in each round.
    """
    times = (max(LEAST * trial.seconds, seconds) + 2 * trial.seconds for trial in trials)
    return rounds * sum(times)


def _allow_compiling(count: int) -> None:
    """Lets ``torch.compile`` compile as many networks as there are.

    By default it stops after 8 networks of one class, without a message, and runs the others
    uncompiled.
    """
    config: Any = importlib.import_module("torch._dynamo").config
    for name in ("recompile_limit", "cache_size_limit"):  # newer and older torch
        if hasattr(config, name):
            setattr(config, name, max(getattr(config, name), 2 * count))
