"""Worker processes that stay from one pass over the images to the next."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import os
import random
import signal
import threading
from collections.abc import Iterable, Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ablations.data.worker_dataset import BadImageError, Request, Served, Split
from ablations.sockets import use_short_paths
from modernize.errors import RoadmapError

NONE = "--set compute.workers=0, which decodes in the process that trains"
RESERVE = 2**23  # bytes of shared memory that batches leave for what cannot do without
PREFETCH = 2  # batches that each worker may be ahead


class WorkerError(RoadmapError):
    """A worker process that ended although it had images to serve."""


class _Plan:
    """What a DataLoader shall ask its workers for, told anew for every pass."""

    def __init__(self) -> None:
        self.requests: Iterable[list[Request]] = ()

    def __iter__(self) -> Iterator[list[Request]]:
        return iter(self.requests)


class Loader:
    """A DataLoader whose workers stay from one pass to the next.

    Args:
        split: what they serve.
        workers: how many; they start with the first pass.
        pin: whether batches are put into pinned memory.
    """

    def __init__(self, split: Split, workers: int, pin: bool) -> None:
        self.split, self.workers, self.pin = split, workers, pin
        self.passes = 0
        self.plan = _Plan()
        self.loader: DataLoader[Any] | None = None

    def serve(
        self, requests: Iterable[list[Request]]
    ) -> collections.abc.Generator[Served | BadImageError, None, None]:
        """Yields what workers make of the requests, in order.

        Raises:
            WorkerError: where one was killed.
            RuntimeError: where another pass has begun since.
        """
        self.passes += 1
        this = self.passes
        self.plan.requests = requests
        if self.loader is None:
            self.loader = self._start()
        try:
            batches = self._begin(self.loader)
        except OSError as error:
            raise WorkerError(
                f"cannot start the processes that decode images: {error.strerror or error}. They "
                f"need room in /dev/shm, files and processes; or {NONE}."
            ) from error
        while True:
            if self.passes != this:
                raise RuntimeError("this pass over the images ended when another one began")
            try:
                with contextlib.nullcontext() if self.workers else _kept_random_states():
                    served = next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:
                if not self.workers or str(error).startswith("Caught "):
                    raise  # from within a worker, and told by torch; the worker lives
                self.close()
                raise WorkerError(
                    f"a process that decodes images was killed ({error}). Most often memory was "
                    "short, of the machine or the job. Ask for more, or --set compute.workers to a "
                    "smaller number; the run goes on from its last checkpoint."
                ) from error
            if served is None:
                return
            yield served.unpack() if isinstance(served, Packed) else served

    def close(self) -> None:
        """Ends the workers; a later pass would start new ones."""
        loader, self.loader = self.loader, None
        if loader is not None and loader._iterator is not None:
            loader._iterator._shutdown_workers()  # type: ignore[attr-defined]

    def _start(self) -> DataLoader[Any]:
        several: dict[str, Any] = {}
        if self.workers:
            use_short_paths()
            several = {"persistent_workers": True, "prefetch_factor": PREFETCH}
        return DataLoader(
            self.split,
            batch_sampler=self.plan,
            collate_fn=_pack if self.workers else _as_it_is,
            num_workers=self.workers,
            worker_init_fn=_prepare_worker,
            pin_memory=self.pin,
            generator=torch.Generator(),  # else it would draw from the global one
            **several,
        )

    def _begin(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Returns the loader's iterator, without the signal handler that comes with workers.

        The handler raises a killed worker's error wherever this process happens to be; without it,
        waiting for the worker's batch does.
        """
        if not self.workers or loader._iterator is not None:
            return iter(loader)
        handler = signal.getsignal(signal.SIGCHLD)
        batches = iter(loader)
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
        # At exit, torch leaves it to multiprocessing to end them; which asks, and waits for ever.
        Finalize(None, _kill, args=(batches._workers,), exitpriority=1)  # type: ignore[attr-defined]
        return batches


@contextlib.contextmanager
def _kept_random_states() -> Iterator[None]:
    """Puts the global random states back as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _kill(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        process.kill()


def _as_it_is(served: Any) -> Any:
    return served


@dataclasses.dataclass(frozen=True)
class Packed:
    """A batch whose numbers travel as plain bytes, for there was no room in shared memory."""

    arrays: dict[str, Any]
    rest: dict[str, Any]

    def unpack(self) -> Served:
        """Returns the batch."""
        tensors: dict[str, Any] = {k: torch.from_numpy(v) for k, v in self.arrays.items()}
        return Served(**tensors, **self.rest)

    def pin_memory(self) -> Served:
        """Returns the batch in memory that a GPU can read by itself; a DataLoader calls it."""
        return self.unpack().pin_memory()


def _pack(served: Any) -> Any:
    """Puts a worker's batch into shared memory, or packs it if there is none left.

    A container often has 64 MB of it. Left to torch, a batch that finds no room is lost, and
    waited for without end.
    """
    if not isinstance(served, Served):
        return served
    values = {field.name: getattr(served, field.name) for field in dataclasses.fields(served)}
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    if sum(tensor.nbytes for tensor in tensors.values()) + RESERVE < _free_shared_memory():
        with contextlib.suppress(RuntimeError, OSError):  # as when another one was faster
            for tensor in tensors.values():
                tensor.share_memory_()  # type: ignore[no-untyped-call]
            return served
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return Packed(arrays, {k: v for k, v in values.items() if k not in arrays})


def _free_shared_memory() -> float:
    """Returns the free bytes of what Linux uses as shared memory; infinitely many elsewhere."""
    try:
        about = os.statvfs("/dev/shm")  # noqa: S108
    except (OSError, AttributeError):
        return math.inf
    return about.f_bavail * about.f_frsize


def _prepare_worker(_worker: int) -> None:
    """Leaves stopping to the process that owns the worker.

    Signals are often sent to all processes of a job at once. torch has the worker use one thread,
    and end with its owner.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
