"""Runs trained in the process that was started: for a debugger, and under torchrun."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ablations.devices import Slot, core_count
from ablations.launching.group import Group, find_group
from ablations.launching.job import (
    Job,
    announce_unfinished,
    record_failure,
    train_here,
    train_in,
)
from ablations.processes import STOP_SIGNALS
from ablations.records import Record, RunFolder
from modernize.errors import UsageError

if TYPE_CHECKING:
    from ablations.data.sampling import Rank


def train_one_by_one(jobs: Sequence[Job], slot: Slot) -> Iterator[tuple[Job, Record]]:
    """Trains the jobs in this process, one after the other, and yields the ends.

    What fails is put on record and raised again, so that a debugger stops where it was raised.
    """
    for context, job in enumerate(jobs):
        announce_unfinished(jobs[context:])
        folder = RunFolder(job.folder)
        try:
            record = folder.prepare(job.run) or train_in(job, folder, slot, lambda: True)
        except Exception as error:
            record_failure(folder, error)
            raise
        if record is not None:
            yield job, record


@contextlib.contextmanager
def joined() -> Iterator[tuple[str, Rank]]:
    """Joins the processes that torchrun started, and gives this one's device and share."""
    from ablations.training.device_context import process_group

    with process_group(_group().local_rank) as found:
        yield found


def _group() -> Group:
    if (group := find_group()) is None:
        raise UsageError("torchrun did not start this process together with others.")
    return group


def train_distributed(jobs: Sequence[Job], device: str, rank: Rank) -> Iterator[tuple[Job, Record]]:
    """Trains the jobs one after the other in all processes that torchrun started; yields the ends.

    A run that fails in one process fails in all of them, and ends the job: those that are left go
    on with the next start.

    Args:
        jobs: the same for all processes.
        device: this process's.
        rank: which of the processes it is.
    """
    from ablations.training.device_context import make_device_context

    threads = max(core_count() // _group().local_world, 1)
    stopping: list[int] = []
    for name in STOP_SIGNALS:
        signal.signal(name, lambda number, _frame: stopping.append(number))
    for number, job in enumerate(jobs):
        folder = RunFolder(job.folder)
        try:
            context = make_device_context(device, job.compute, rank)
            if context.first:
                announce_unfinished(jobs[number:])
                folder.prepare(job.run)
            record = train_here(job, folder, context, threads, lambda: not stopping)
        except Exception as error:
            if folder.read_record() is None:  # what fails next is of less interest
                record_failure(folder, error)
            raise
        if record is None:
            return
        yield job, record
