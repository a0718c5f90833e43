"""Measures what networks cost on one device: images per second by turns, and memory.

All networks stay on the device. In each round every one of them has a turn in each mode, so that
what slows the machine down for a while falls on all alike. All are treated alike as well: the same
images, autocast, memory format, compiler, loss and optimizer, and no stochastic depth.
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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablations.benchmark.contestants import Contestant, Source
from ablations.benchmark.results import INFERENCE, TRAINING, Row
from ablations.processes import process_context
from ablations.recipe import Compute
from ablations.training.device_context import DeviceContext, make_device_context
from modernize.fusion import fuse_for_inference
from modernize.network import Network

LEAST = 3  # iterations that are timed in a turn, however long they take
PRODUCT_SIDE = {"cuda": 8192, "cpu": 2048}  # of the matrices whose product is the peak
CLASSES = 1000  # of the labels, and of all the networks

Iterate = Callable[[], None]
"""Does one iteration: a batch through the network, and in training an update."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Under which conditions all networks are measured; can be sent to another process.

    Attributes:
        device: torch's name of it.
        compute: precision, memory format and compiler, as in training.
        batch_size: images that pass through a network at once.
        image_size: their height and width in pixels.
        threads: of the CPU.
    """

    device: str
    compute: Compute
    batch_size: int
    image_size: int
    threads: int

    def context(self) -> DeviceContext:
        """Returns the place of this process, set up for them.

        Raises:
            UsageError: for a precision that the device cannot have.
        """
        torch.set_num_threads(self.threads)
        return make_device_context(self.device, self.compute)

    def images(self, context: DeviceContext) -> tuple[Tensor, Tensor]:
        """Returns images (N, 3, H, W) of noise, and labels (N,)."""
        draw = torch.Generator().manual_seed(0)
        shape = (self.batch_size, 3, self.image_size, self.image_size)
        images = torch.randn(shape, generator=draw).to(context.device)
        labels = torch.randint(CLASSES, (self.batch_size,), generator=draw).to(context.device)
        if context.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, labels


@dataclasses.dataclass(frozen=True)
class Look:
    """What is found out about a network in one mode before it is measured.

    Attributes:
        memory_mib: the most memory that it takes: weights, activations, and in training gradients
            and the optimizer's state; None where it was not measured.
        seconds: of an iteration, roughly.
        failure: why it cannot be measured; empty where it can.
    """

    memory_mib: float | None = None
    seconds: float = 0.0
    failure: str = ""


@dataclasses.dataclass
class Lane:
    """One network in one mode.

    Attributes:
        row: where its figures go.
        begin: begins a turn, and gives what does one iteration of it; what a turn needs besides
            the network is freed at its end.
    """

    row: Row
    begin: Callable[[], contextlib.AbstractContextManager[Iterate]]


class Resident:
    """A network on the device, and how it is run in either mode.

    Args:
        source: builds it.
        context: where.
        images, labels: what passes through it.
        modes: those that it is for.
    """

    def __init__(
        self,
        source: Source,
        context: DeviceContext,
        images: Tensor,
        labels: Tensor,
        modes: Sequence[str],
    ) -> None:
        torch.manual_seed(0)
        self.context, self.images, self.labels = context, images, labels
        self.network = context.put(source.build())
        self.ready: Any = None
        if TRAINING not in modes:  # then the network itself need not stay
            self.network = self.ready = self._make_ready()
        elif context.compile and INFERENCE in modes:  # once, not once a turn
            self.ready = self._make_ready()
        compiles = context.compile and TRAINING in modes
        self.model: Any = torch.compile(self.network) if compiles else self.network

    def _make_ready(self) -> Any:
        """Returns the network, or a copy of it, as it is for inference."""
        ready = self.context.put(prepare_for_inference(self.network, self.context.dtype))
        return torch.compile(ready) if self.context.compile else ready

    @contextlib.contextmanager
    def begin(self, mode: str) -> Iterator[Iterate]:
        """Begins a turn in a mode; see :class:`Lane`."""
        with self._inference() if mode == INFERENCE else self._training() as iterate:
            yield iterate

    @contextlib.contextmanager
    def _inference(self) -> Iterator[Iterate]:
        self.network.eval()
        model = self.ready or self._make_ready()

        def iterate() -> None:
            with torch.inference_mode(), self.context.autocast():
                model(self.images)

        yield iterate

    @contextlib.contextmanager
    def _training(self) -> Iterator[Iterate]:
        self.network.train()
        # So small a rate that the weights stay what they are, turn after turn.
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-8, weight_decay=0.05, fused=True
        )
        half = self.context.dtype is torch.float16
        scaler = torch.amp.GradScaler(self.context.device.type, enabled=half)

        def iterate() -> None:
            with self.context.autocast():
                logits = self.model(self.images)
            loss = F.cross_entropy(logits.float(), self.labels)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

        try:
            yield iterate
        finally:
            optimizer.zero_grad(set_to_none=True)


def prepare_for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Returns what infers as the network's own project would have it.

    That is a copy with its norms and scales fused, for ours; what other libraries come with is the
    network in evaluation mode.
    """
    return fuse_for_inference(network, dtype) if isinstance(network, Network) else network.eval()


def take_turn(
    iterate: Iterate,
    batch_size: int,
    seconds: float,
    synchronize: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the images per second of one turn.

    Two iterations go before it: one to warm up, and one to tell how many more fill the time.

    Args:
        iterate: does one iteration.
        batch_size: images in each.
        seconds: how long to time; at least :data:`LEAST` iterations.
        synchronize: waits until the device has done what it was told.
        clock: gives the time in seconds.
    """
    iterate()
    synchronize()
    start = clock()
    iterate()
    synchronize()
    count = max(LEAST, math.ceil(seconds / max(clock() - start, 1e-6)))
    start = clock()
    for _ in range(count):
        iterate()
    synchronize()
    return count * batch_size / (clock() - start)


def run_rounds(
    lanes: Sequence[Lane],
    rounds: int,
    turn: Callable[[Iterate], float],
) -> Iterator[int]:
    """Gives every lane a turn in each round, and yields how many rounds are complete after each.

    A lane that fails says so in its row, and has no further turns.

    Args:
        lanes: in the order of their turns.
        rounds: how many.
        turn: returns the images per second of a turn.
    """
    for number in range(rounds):
        for lane in lanes:
            if lane.row.failure:
                continue
            try:
                with lane.begin() as iterate:
                    lane.row.images_per_second.append(turn(iterate))
            except Exception as error:  # whatever it is, the others go on
                lane.row.failure = describe_failure(error)
                free_memory()
        yield number + 1


def describe_failure(error: Exception) -> str:
    """Returns in one line why a network cannot be measured."""
    said = str(error).strip().partition("\n")[0]
    short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in said
    return f"{'out of memory' if short else 'failed'}: {said or type(error).__name__}"


def free_memory() -> None:
    """Gives back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronizer(context: DeviceContext) -> Callable[[], None]:
    """Returns what waits until a place's device has done what it was told."""
    if context.device.type == "cuda":
        return lambda: torch.cuda.synchronize(context.device)
    return lambda: None


def product_speed(context: DeviceContext, seconds: float = 0.5) -> float:
    """Returns the multiply-accumulates a second that a large product of matrices reaches.

    It is what the device can do at best in a place's precision, near enough to its peak.

    Args:
        context: where.
        seconds: how long to try; the fastest product counts.
    """
    side = PRODUCT_SIDE["cuda" if context.device.type == "cuda" else "cpu"]
    matrix = torch.randn(side, side, device=context.device, dtype=context.dtype)
    synchronize = synchronizer(context)
    torch.mm(matrix, matrix)  # sets up what libraries set up once
    synchronize()
    fastest = math.inf
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        torch.mm(matrix, matrix)
        synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return side**3 / fastest


# -- memory --------------------------------------------------------------------------------------


def look_at(source: Source, mode: str, conditions: Conditions) -> Look:
    """Runs a network twice in one mode, and returns what that took.

    On a GPU this is done here; on a CPU in a process of its own, whose peak is the network's alone.
    What compiles a network takes memory of the CPU as well, and hides how much the network takes.
    """
    if torch.device(conditions.device).type == "cuda":
        return _look(source, mode, conditions)
    context = process_context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_look_and_tell, args=(sender, source, mode, conditions))
    process.start()
    sender.close()
    try:
        told: Look = receiver.recv()
    except EOFError:
        process.join()
        # The system kills what takes too much memory; what fails otherwise says so itself.
        return Look(failure=f"killed: its process ended with status {process.exitcode}")
    finally:
        receiver.close()
    process.join()
    if conditions.compute.compile:
        told = dataclasses.replace(told, memory_mib=None)
    return told


def _look_and_tell(
    sender: multiprocessing.connection.Connection, source: Source, mode: str, conditions: Conditions
) -> None:
    sender.send(_look(source, mode, conditions))


def _look(source: Source, mode: str, conditions: Conditions) -> Look:
    try:
        context = conditions.context()
        synchronize = synchronizer(context)
        images, labels = conditions.images(context)
        source.load()  # what is imported is not the network's memory
        if context.device.type == "cuda":
            free_memory()
            torch.cuda.reset_peak_memory_stats(context.device)
        # On a GPU the peak begins anew here; that of a process began as the process did.
        before = context.peak_memory()
        resident = Resident(source, context, images, labels, [mode])
        with resident.begin(mode) as iterate:
            iterate()
            synchronize()
            start = time.perf_counter()
            iterate()  # now with the optimizer's state, which the first one made
            synchronize()
            return Look(context.peak_memory() - before, time.perf_counter() - start)
    except Exception as error:  # whatever it is, the others go on
        return Look(failure=describe_failure(error))


# -- all of it -----------------------------------------------------------------------------------


def make_rows(contestants: Sequence[Contestant], modes: Sequence[str]) -> list[Row]:
    """Returns a row for each network and mode, still without figures."""
    return [
        Row(c.names, c.model, c.library, c.version, c.params, c.flops, mode)
        for c in contestants
        for mode in modes
    ]


def look_at_all(
    contestants: Sequence[Contestant], rows: Sequence[Row], conditions: Conditions
) -> Iterator[tuple[Row, Look]]:
    """Looks at every network in every mode, enters memory and failures, and yields them.

    Args:
        contestants: the networks.
        rows: theirs, as :func:`make_rows` made them.
        conditions: under which they are measured.
    """
    modes = len(rows) // len(contestants)
    for number, row in enumerate(rows):
        source = contestants[number // modes].source
        look = look_at(source, row.mode, conditions)
        if number == 0 and conditions.context().device.type == "cuda":
            look = look_at(source, row.mode, conditions)  # less what a GPU's libraries set up once
        row.memory_mib, row.failure = look.memory_mib, look.failure
        yield row, look


def make_lanes(
    contestants: Sequence[Contestant], rows: Sequence[Row], conditions: Conditions
) -> list[Lane]:
    """Puts the networks on the device, and returns a lane for each row that has not failed.

    Args:
        contestants: the networks.
        rows: theirs, as :func:`make_rows` made them.
        conditions: under which they are measured.

    Raises:
        UsageError: for a precision that the device cannot have.
    """
    context = conditions.context()
    if context.compile:
        _allow_compiling(len(rows))
    images, labels = conditions.images(context)
    modes = len(rows) // len(contestants)
    lanes: list[Lane] = []
    for number, contestant in enumerate(contestants):
        able = [row for row in rows[number * modes : (number + 1) * modes] if not row.failure]
        if not able:
            continue
        try:
            modes_asked = [row.mode for row in able]
            resident = Resident(contestant.source, context, images, labels, modes_asked)
        except Exception as error:  # whatever it is, the others go on
            for row in able:
                row.failure = describe_failure(error)
            free_memory()
            continue
        lanes += [Lane(row, functools.partial(resident.begin, row.mode)) for row in able]
    return lanes


def expected_seconds(looks: Sequence[Look], rounds: int, seconds: float) -> float:
    """Returns how long the rounds will take, roughly.

    Args:
        looks: one for each lane.
        rounds: how many.
        seconds: to time in each turn.
    """
    turns = (max(LEAST * look.seconds, seconds) + 2 * look.seconds for look in looks)
    return rounds * sum(turns)


def _allow_compiling(count: int) -> None:
    """Lets ``torch.compile`` compile as many networks as there are.

    By default it gives up without a word after 8 of one class, and runs the others as they are.
    """
    config: Any = importlib.import_module("torch._dynamo").config
    for name in ("recompile_limit", "cache_size_limit"):  # newer and older torch
        if hasattr(config, name):
            setattr(config, name, max(getattr(config, name), 2 * count))
