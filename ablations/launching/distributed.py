"""The executor under torchrun: all its processes train each run together."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.devices import core_count, count_gpus, find_device
from ablations.fit import Machine
from ablations.launching.executors import Event, Executor
from ablations.launching.job import Job, record_failure, train_here, write_pending_jobs
from ablations.launching.torchrun import TorchrunEnvironment
from ablations.processes import STOP_SIGNALS
from ablations.recipe import Preset
from ablations.records import RunFolder

if TYPE_CHECKING:
    from ablations.data.sampling import Rank


class Distributed(Executor):
    """Trains one run at a time in all processes that torchrun started.

    A run that fails in one process fails in all of them, and ends the launch: the other runs train
    at the next launch.
    """

    background = False

    def __init__(self, environment: TorchrunEnvironment) -> None:
        self.environment = environment

    def machine(self, preset: Preset) -> Machine:  # noqa: ARG002
        """See :meth:`Executor.machine`."""
        device, here = find_device(), self.environment
        gpus = count_gpus() if device == "cuda" else None
        return Machine(
            device, here.world_size, here=True, python=True, local=here.local_world_size, gpus=gpus
        )

    @contextlib.contextmanager
    def join(self) -> Iterator[Rank]:
        """See :meth:`Executor.join`."""
        from ablations.training.device_context import process_group

        with process_group(self.environment.local_rank) as (self._device, self._rank):
            yield self._rank

    def launch(self, study: Path, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """See :meth:`Executor.launch`; the processes have joined before, and have equal jobs."""
        from ablations.training.device_context import make_device_context

        threads = max(core_count() // self.environment.local_world_size, 1)
        received: list[int] = []
        for name in STOP_SIGNALS:
            signal.signal(name, lambda number, _frame: received.append(number))
        for number, job in enumerate(jobs):
            folder = RunFolder(job.folder)
            try:
                context = make_device_context(self._device, job.compute, self._rank)
                if context.first:
                    write_pending_jobs(study, jobs[number:])
                    folder.prepare(job.run)
                record = train_here(job, folder, context, threads, lambda: not received)
            except Exception as error:
                if folder.read_record() is None:  # the first error is the reason, not the next ones
                    record_failure(folder, error)
                raise
            if record is None:
                return
            yield Event(ended=[(job, record)])
