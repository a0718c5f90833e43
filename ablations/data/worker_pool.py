"""Worker processes that stay alive from one pass over the images to the next."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import os
import random
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ablations.data.worker_dataset import BadImageError, Batch, Request
from ablations.sockets import use_short_paths
from modernize.errors import RoadmapError

NONE = "--set compute.workers=0, which decodes in the process that trains"
RESERVE = 2**23  # bytes of shared memory that batches leave free for other uses
SomeBatch = TypeVar("SomeBatch", bound=Batch)
PREFETCH = 2  # batches that each worker may be ahead


class WorkerError(RoadmapError):
    """A worker process that could not be started, or ended early."""


class _BatchSampler:
    """The requests that a DataLoader sends to its workers; set for every pass."""

    def __init__(self) -> None:
        self.requests: Iterable[list[Request]] = ()

    def __iter__(self) -> Iterator[list[Request]]:
        return iter(self.requests)


class WorkerPool(Generic[SomeBatch]):
    """A DataLoader whose workers stay alive from one pass to the next.

    Args:
        dataset: prepares batches in the workers; its ``__getitems__`` returns a batch for some
            requests, or a BadImageError.
        workers: number of processes; they start with the first pass.
        pin: whether batches are copied to pinned memory.
    """

    def __init__(self, dataset: Dataset[Any], workers: int, pin: bool) -> None:
        self.dataset, self.workers, self.pin = dataset, workers, pin
        self.passes = 0
        self.batch_sampler = _BatchSampler()
        self.loader: DataLoader[Any] | None = None

    def load(
        self, requests: Iterable[list[Request]]
    ) -> collections.abc.Generator[SomeBatch | BadImageError, None, None]:
        """Yields the requested batches, in order.

        Raises:
            WorkerError: if a worker was killed.
            RuntimeError: if another pass has begun since.
        """
        self.passes += 1
        this = self.passes
        self.batch_sampler.requests = requests
        if self.loader is None:
            self.loader = self._start()
        try:
            batches = self._start_iterator(self.loader)
        except OSError as error:
            raise WorkerError(
                f"cannot start the processes that decode images: {error.strerror or error}. They "
                f"need room in /dev/shm, files and processes; or {NONE}."
            ) from error
        while True:
            if self.passes != this:
                raise RuntimeError("this pass over the images ended when another one began")
            try:
                with contextlib.nullcontext() if self.workers else _restored_random_states():
                    batch = next(batches, None)
            except (RuntimeError, OSError, EOFError) as error:
                if not self.workers or str(error).startswith("Caught "):
                    raise  # an error within a worker, passed on by torch; the worker is alive
                self.close()
                raise WorkerError(
                    f"a process that decodes images was killed ({error}). Most often memory was "
                    "short, of the machine or the job. Ask for more, or --set compute.workers to a "
                    "smaller number; the run continues from its last checkpoint."
                ) from error
            if batch is None:
                return
            unpacked: SomeBatch = batch.unpack() if isinstance(batch, PickledBatch) else batch
            yield unpacked

    def close(self) -> None:
        """Ends the workers; a later pass starts new ones."""
        loader, self.loader = self.loader, None
        if loader is not None and loader._iterator is not None:
            loader._iterator._shutdown_workers()  # type: ignore[attr-defined]

    def _start(self) -> DataLoader[Any]:
        several: dict[str, Any] = {}
        if self.workers:
            use_short_paths()
            several = {"persistent_workers": True, "prefetch_factor": PREFETCH}
        return DataLoader(
            self.dataset,
            batch_sampler=self.batch_sampler,
            collate_fn=_collate if self.workers else _unchanged,
            num_workers=self.workers,
            worker_init_fn=_prepare_worker,
            pin_memory=self.pin,
            generator=torch.Generator(),  # else it would draw from the global one
            **several,
        )

    def _start_iterator(self, loader: DataLoader[Any]) -> Iterator[Any]:
        """Returns the loader's iterator, without the signal handler that comes with workers.

        The handler would raise a killed worker's error at any line of this process. Without it,
        waiting for the worker's batch raises the error.
        """
        if not self.workers or loader._iterator is not None:
            return iter(loader)
        handler = signal.getsignal(signal.SIGCHLD)
        batches = iter(loader)
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
        # At exit, torch leaves them to multiprocessing, which asks them to end and waits for ever.
        Finalize(None, _kill, args=(batches._workers,), exitpriority=1)  # type: ignore[attr-defined]
        return batches


@contextlib.contextmanager
def _restored_random_states() -> Iterator[None]:
    """Restores the global random states at the end."""
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


def _unchanged(batch: Any) -> Any:
    return batch


@dataclasses.dataclass(frozen=True)
class PickledBatch:
    """A batch that is sent as plain bytes, because shared memory had no room."""

    kind: Callable[..., Batch]
    arrays: dict[str, Any]
    rest: dict[str, Any]

    def unpack(self) -> Any:
        """Returns the batch."""
        return self.kind(**{k: torch.from_numpy(v) for k, v in self.arrays.items()}, **self.rest)

    def pin_memory(self) -> Any:
        """Returns the batch in pinned memory; a DataLoader calls this."""
        return self.unpack().pin_memory()


def _collate(batch: Any) -> Any:
    """Moves a worker's batch to shared memory, or turns it into bytes if there is no room.

    A container often has only 64 MB. With torch's own code, a batch without room is lost, and the
    process that trains waits for it for ever.
    """
    if not isinstance(batch, Batch):
        return batch
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    if sum(tensor.nbytes for tensor in tensors.values()) + RESERVE < _free_shared_memory():
        with contextlib.suppress(RuntimeError, OSError):  # such as when another worker was faster
            for tensor in tensors.values():
                tensor.share_memory_()  # type: ignore[no-untyped-call]
            return batch
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    rest = {k: v for k, v in vars(batch).items() if k not in arrays}
    return PickledBatch(type(batch), arrays, rest)


def _free_shared_memory() -> float:
    """Returns the free bytes of Linux's shared memory; infinity on other systems."""
    try:
        about = os.statvfs("/dev/shm")  # noqa: S108
    except (OSError, AttributeError):
        return math.inf
    return about.f_bavail * about.f_frsize


def _prepare_worker(_worker: int) -> None:
    """Ignores signals: the process that owns the worker ends it.

    Signals are often sent to all processes of a job at once. torch makes the worker use one thread,
    and end with its owner.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
