"""The local queue: a limited number of runs at a time, each in its own process."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from ablations.devices import Slot, find_slots
from ablations.launching.executors import Event, Executor
from ablations.launching.job import Job, record_end, record_failure, write_pending_jobs
from ablations.processes import delayed_signals, process_context, start_importing
from ablations.records import Record, RunFolder, Status
from ablations.records.files import make_folder
from ablations.terminal import Stream
from modernize.errors import RoadmapError
from modernize.text import plural

POLL_SECONDS = 0.1
STARTS = 3  # attempts to start a process
UNKNOWN_STATUS = 255  # exit code from multiprocessing if the start server of a process is gone
STOP_SECONDS = 20  # how long a run may take to stop before it is killed


class LocalQueue(Executor):
    """Trains a limited number of runs at a time on this machine, each in its own process.

    Args:
        jobs: runs at a time; None: one per GPU, or one per core up to a limit.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs

    def launch(self, study: Path, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """See :meth:`Executor.launch`.

        One at a time, runs keep their order. Several at a time, the longest start first, so that no
        slot is idle for long at the end.
        """
        if not jobs:
            return
        start_importing()
        slots = find_slots(len(jobs), self.jobs)
        devices = ", ".join(dict.fromkeys(slot.device for slot in slots))
        yield Event(
            message=f"{jobs[0].verb} on {devices}: {len(slots)} at a time, "
            f"{plural(slots[0].threads, 'thread')} each"
        )
        if len(slots) > 1:
            jobs = sorted(jobs, key=lambda job: job.macs, reverse=True)
        yield from run_queue(study, jobs, slots)


def run_queue(
    study: Path, jobs: Sequence[Job], slots: Sequence[Slot]
) -> Generator[Event, None, None]:
    """Trains the jobs in order, one at a time on each slot, and yields events.

    A run that fails does not stop the others. Closing the generator, as Ctrl-C does, stops those
    that run; each continues from its last checkpoint at the next launch.
    """
    waiting, free = list(jobs), list(slots)
    write_pending_jobs(study, jobs)
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and free:
                with delayed_signals():
                    running.append(_start(waiting.pop(0), free.pop(0)))
            ended = [one for one in running if one.ended]
            running = [one for one in running if one not in ended]
            free += [one.slot for one in ended]
            records = [(one.job, _record_of(one)) for one in ended]
            if ended:
                write_pending_jobs(study, [*(one.job for one in running), *waiting])
            yield Event([one.job for one in running], records)
            time.sleep(POLL_SECONDS)
    finally:
        _stop(running)


@dataclasses.dataclass(frozen=True, eq=False)
class _Running:
    """A run's process; it sends the record of how the run ended through a pipe."""

    job: Job
    slot: Slot
    process: BaseProcess
    receiver: Connection

    @property
    def ended(self) -> bool:
        """Whether it has ended. If its start server is gone, only the pipe shows that."""
        if self.process.is_alive():
            return False
        return self.process.exitcode != UNKNOWN_STATUS or self.receiver.poll()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it has ended."""
        if not self.ended and self.process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def _start(job: Job, slot: Slot) -> _Running:
    """Starts a run's process.

    Raises:
        RoadmapError: if the start server is killed several times.
    """
    context = process_context()
    for _ in range(STARTS):
        start_importing()  # starts a new server, if the old one is gone
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_train_run, args=(job, slot, sender))
        try:
            process.start()
        except (EOFError, ConnectionError):
            receiver.close()
        else:
            return _Running(job, slot, process, receiver)
        finally:
            sender.close()
    raise RoadmapError(
        f"the process that starts runs was killed {STARTS} times (out of memory?). Finished runs "
        "are kept; the same command continues."
    )


def _stop(running: Sequence[_Running]) -> None:
    """Lets runs save and stop; kills those that take too long, or all at a second Ctrl-C."""
    for one in running:
        one.send(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    try:
        while not all(one.ended for one in running) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    finally:
        for one in running:
            if not one.ended:
                one.send(signal.SIGKILL)
                one.receiver.poll(STOP_SECONDS)
                RunFolder(one.job.folder).release()
            one.process.join()


def _record_of(one: _Running) -> Record:
    """Returns a run's record: the written one, the one its process sent, or one of its death."""
    folder, exit_code = RunFolder(one.job.folder), one.process.exitcode
    sent: Record | None = None
    with contextlib.suppress(EOFError, OSError), one.receiver:
        sent = one.receiver.recv()  # does not block, because the process has ended
    if record := one.job.ended(folder):
        return record
    if sent is not None:
        return sent
    how = f"ended with status {exit_code}"
    if exit_code == 0:
        how = "received a signal to stop"
    elif exit_code and exit_code < 0:
        how = f"was killed by signal {-exit_code}"
        how += " (out of memory?)" if exit_code == -signal.SIGKILL else ""
    return record_end(folder, Record(Status.FAILED, f"its process {how}; see {folder.log}"))


def _train_run(job: Job, slot: Slot, sender: Connection) -> None:
    """Trains one run and sends its record; all that a run's process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops us
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()

    def keep_going() -> bool:
        return not stopping and (parent is None or parent.is_alive())

    folder = RunFolder(job.folder)
    with contextlib.ExitStack() as stack:
        try:
            make_folder(folder.path)
            log = stack.enter_context(folder.log.open("a", encoding="utf-8", buffering=1))
            sys.stdout = sys.stderr = Stream(log, required=False)
            if not keep_going():  # the launch is gone; another one may train the run
                return
            record = job.run_in(folder, slot, keep_going)
        except BaseException as error:
            sender.send(record_failure(folder, error))
            raise SystemExit(1) from None
    if record is not None:
        sender.send(record)
