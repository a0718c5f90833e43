"""The local queue: a bounded number of runs at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Any

from ablations.launching.job import (
    Job,
    Slot,
    announce_unfinished,
    record_end,
    record_failure,
    train_in,
)
from ablations.records import Record, ResultsError, RunFolder, Status
from ablations.records.files import make_folder
from ablations.sockets import use_short_paths
from ablations.terminal import Stream
from modernize.errors import RoadmapError, UsageError

if TYPE_CHECKING:
    pass

POLL_SECONDS = 0.1
STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
STARTS = 3  # attempts to start a process
UNKNOWN_STATUS = 255  # what multiprocessing says of a process whose start server is gone
STOP_SECONDS = 20  # how long a run may take to stop before it is killed


@dataclasses.dataclass(frozen=True)
class Tick:
    """How the queue stands: what runs, and what ended since the last tick."""

    running: Sequence[Job]
    ended: Sequence[tuple[Job, Record]]


class RunsFailedError(RoadmapError):
    """Some runs of a study failed; the others are on record."""


def start_importing() -> None:
    """Begins to import what runs need, in a process of its own, for a queue that is to come."""
    if prepare_starts().get_start_method() == "forkserver":
        start_server()


def start_server() -> None:
    """Starts the process that starts those of runs, unless it runs.

    Signals that end a launch are often sent to all its processes, as by Ctrl-C. They do not reach
    the server, nor a run before it can save: the launch stops them. The server imports what this
    process would, whatever modules there are in the current folder.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    environment = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        resource_tracker.ensure_running()  # which unblocks two of the signals when it has started
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.environ.clear()
        os.environ.update(environment)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Lets signals that end a launch act after the body: the server dies of half a request."""
    if threading.current_thread() is not threading.main_thread():  # which alone meets signals
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    for name in handlers:
        signal.signal(name, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for name, handler in handlers.items():
            signal.signal(name, signal.SIG_DFL if handler is None else handler)
        for number in came[:1]:
            signal.raise_signal(number)


def wait_passively() -> None:
    """Has the threads of torch, which is yet to be imported, sleep while they wait for each other.

    Those that spin stall each other as soon as anything else, such as a worker that decodes images,
    wants a core.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def prepare_starts() -> Any:
    """Returns what starts the processes of runs."""
    wait_passively()
    use_short_paths()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Imported once, not once a run; the second is what the first optimizer made imports.
    context.set_forkserver_preload(["ablations.training.train", "torch._dynamo"])
    return context


def find_slots(runs: int, jobs: int | None = None) -> list[Slot]:
    """Shares this machine out: a slot per GPU, or the CPU's cores among the slots.

    Args:
        runs: how many runs there are; more slots than that would idle.
        jobs: runs at a time; None: one per GPU, or one per core up to 8.

    Raises:
        UsageError: for less than one job.
    """
    import torch

    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: at least 1 run at a time.")
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if (device := find_device()) == "cuda":
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        count = jobs or len(devices)
    else:
        devices = [device]
        count = jobs or (1 if devices == ["mps"] else min(cores, 8))
    count = max(min(count, runs), 1)
    threads = max(cores // count, 1)
    return [Slot(devices[i % len(devices)], threads) for i in range(count)]


def find_device() -> str:
    """Returns torch's type of the device that this machine trains on."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def count_gpus() -> int:
    """Returns how many GPUs this process may use."""
    import torch

    return torch.cuda.device_count()


def core_count() -> int:
    """Returns how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run_queue(jobs: Sequence[Job], slots: Sequence[Slot]) -> Generator[Tick, None, None]:
    """Trains the jobs in order, as many at a time as there are slots, yielding how it stands.

    One failing run stops no other. Closing the iterator (as Ctrl-C does) stops those that run; each
    goes on from its last checkpoint the next time.
    """
    waiting, free = list(jobs), list(slots)
    announce_unfinished(jobs)
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and free:
                with _signals_held():
                    running.append(_start(waiting.pop(0), free.pop(0)))
            ended = [one for one in running if one.ended]
            running = [one for one in running if one not in ended]
            free += [one.slot for one in ended]
            outcomes = [(one.job, _outcome(one)) for one in ended]
            if ended:
                announce_unfinished([*(one.job for one in running), *waiting])
            yield Tick([one.job for one in running], outcomes)
            time.sleep(POLL_SECONDS)
    finally:
        _stop(running)


@dataclasses.dataclass(frozen=True, eq=False)
class _Running:
    """A run's process, and what it is for; through ``ear`` it says how it ended."""

    job: Job
    slot: Slot
    process: BaseProcess
    ear: Connection

    @property
    def ended(self) -> bool:
        """Whether it has ended. If its start server is gone, only the pipe shows that."""
        if self.process.is_alive():
            return False
        return self.process.exitcode != UNKNOWN_STATUS or self.ear.poll()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it has ended."""
        if not self.ended and self.process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


def _start(job: Job, slot: Slot) -> _Running:
    """Starts a run's process.

    Raises:
        RoadmapError: if the process that starts those of runs is killed again and again.
    """
    context = prepare_starts()
    for _ in range(STARTS):
        start_importing()  # a new start server, if that is gone
        ear, mouth = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(job, slot, mouth))
        try:
            process.start()
        except (EOFError, ConnectionError):
            ear.close()
        else:
            return _Running(job, slot, process, ear)
        finally:
            mouth.close()
    raise RoadmapError(
        f"the process that starts runs was killed {STARTS} times (was the memory short?). What is "
        "finished is kept; the same command goes on."
    )


def _stop(running: Sequence[_Running]) -> None:
    """Lets runs save and end; kills those that take too long, or at once at a second Ctrl-C."""
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
                one.ear.poll(STOP_SECONDS)
                RunFolder(one.job.folder).release()
            one.process.join()


def _outcome(one: _Running) -> Record:
    """Returns how a run ended: by its record, or by what its process said, or by its death."""
    folder, exit_code = RunFolder(one.job.folder), one.process.exitcode
    said: Record | None = None
    with contextlib.suppress(EOFError, OSError), one.ear:
        said = one.ear.recv()  # it is there, or its end is: the process has ended
    with contextlib.suppress(ResultsError):
        record = folder.read_record()
        if record and record.settled:
            return record
    if said is not None:
        return said
    how = f"ended with status {exit_code}"
    if exit_code == 0:
        how = "was told to stop"
    elif exit_code and exit_code < 0:
        how = f"was ended by signal {-exit_code}"
        how += " (was the memory short?)" if exit_code == -signal.SIGKILL else ""
    return record_end(folder, Record(Status.FAILED, f"its process {how}; see {folder.log}"))


def _work(job: Job, slot: Slot, mouth: Connection) -> None:
    """Trains one run, and says how it ended; the whole life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which tells us
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
            sys.stdout = sys.stderr = Stream(log, lasting=True)
            if not keep_going():  # the launch is gone; another one may have begun the run
                return
            record = folder.prepare(job.run) or train_in(job, folder, slot, keep_going)
        except BaseException as error:
            mouth.send(record_failure(folder, error))
            raise SystemExit(1) from None
    if record is not None:
        mouth.send(record)
