"""How every run of a study stands: by its own files, and by what the scheduler says. No torch."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.launching import scheduler
from ablations.launching.claim import Launch, find_launch
from ablations.launching.scheduler import Queued, Submission
from ablations.records import Life, Record, ResultsError, Run, RunFolder, Study
from ablations.units import duration
from modernize.text import plain_log

LOG_BYTES = 16_384  # from the end of a log, enough for its last lines


class State(enum.StrEnum):
    """How a run stands."""

    FINISHED = "finished"
    COLLAPSED = "collapsed"
    DIVERGED = "diverged"
    FAILED = "failed"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPED = "stopped"  # between two launches, with something to go on from
    LOST = "lost"  # its job ended, and the run did not
    UNKNOWN = "unknown"  # submitted, and the scheduler cannot be asked
    MISSING = "missing"  # never begun
    UNREADABLE = "unreadable"  # its record is damaged

    @property
    def settled(self) -> bool:
        """Whether training it again would only end the same way."""
        return self in (State.FINISHED, State.COLLAPSED, State.DIVERGED)


@dataclasses.dataclass(frozen=True)
class RunState:
    """How one run stands.

    Attributes:
        run, folder: which one.
        state, detail: how it stands, and more about it in words.
        job: the scheduler's number of it, where it has one now.
        preempted: how often it was asked to make room, saved, and was queued again.
        log: the file to read about it, where there is one.
    """

    run: Run
    folder: RunFolder
    state: State
    detail: str = ""
    job: str = ""
    preempted: int = 0
    log: Path | None = None

    @property
    def with_scheduler(self) -> bool:
        """Whether the scheduler has it, so that launching it now would train it twice."""
        return bool(self.job) or self.state is State.UNKNOWN


def survey(study: Study) -> list[RunState]:
    """Returns how every run of a study stands, in the study's order."""
    submissions = scheduler.read_submissions(study.folder, study.faults)
    submitted = {name for submission in submissions for name in submission.runs}
    ends = {run.name: (run, folder, folder.record_or_fault()) for _, run, folder in study.runs()}
    open_ones = {
        name
        for name, (_run, _folder, end) in ends.items()
        if not (isinstance(end, Record) and end.settled)
    }
    waiting = [s for s in submissions if open_ones & set(s.runs) or not s.runs]
    queued = scheduler.ask(study.folder, waiting)
    launch = find_launch(study.folder)
    return [
        _stand(study, run, folder, end, submissions if name in submitted else [], queued, launch)
        for name, (run, folder, end) in ends.items()
    ]


def _stand(
    study: Study,
    run: Run,
    folder: RunFolder,
    end: Record | ResultsError | None,
    submissions: Sequence[Submission],
    queued: dict[str, Queued] | None,
    launch: Launch | None,
) -> RunState:
    history = folder.read_history() if submissions else []
    preempted = sum(line["event"] == "preempted" for line in history)
    found = (queued or {}).get(run.name)

    def stands(state: State, detail: str = "", *, read_log: bool = False) -> RunState:
        log = None
        if read_log:
            log = folder.log if folder.log.is_file() else None
            log = log or scheduler.log_of(study.folder, submissions, run.name)
        return RunState(run, folder, state, detail, found.job if found else "", preempted, log)

    if isinstance(end, ResultsError):
        return stands(State.UNREADABLE, str(end))
    if end is not None and end.settled:
        accuracy = "" if end.top1 is None else f"top-1 {end.top1:.2f} %"
        return stands(State(end.status), end.reason or accuracy)
    if found is not None and found.waits:
        return stands(State.QUEUED, "" if found.reason == "None" else found.reason)
    if found is not None:
        return stands(State.RUNNING, _progress(folder) or "starting")
    life = folder.life() if end is None else Life.GONE
    by_hand = "job" not in (folder.read_owner() or {"job": ""})
    if life is not Life.GONE and (by_hand or queued is None):
        paused = "suspended by a signal" if life is Life.SUSPENDED else ""
        return stands(State.RUNNING, paused or _progress(folder) or "starting")
    if end is None and (unnamed := (queued or {}).get("")) is not None:
        return stands(State.UNKNOWN, f"perhaps it is job {unnamed.job}, whose file is damaged")
    if end is None and submissions and queued is None:
        return stands(State.UNKNOWN, "submitted; no scheduler here says how its job stands")
    if launch is not None and launch.waits_for(run.name):
        return stands(State.QUEUED, "waits for its turn")
    if end is not None:
        return stands(State.FAILED, end.reason, read_log=True)
    done = folder.epochs_done() if folder.has_checkpoint() else None
    if submissions and not _cancelled(history):
        how = "its job is gone; submit again" + ("" if done is None else ", and it goes on")
        return stands(State.LOST, how, read_log=True)
    if done is not None:
        return stands(State.STOPPED, f"after epoch {done}; launch again to go on")
    return stands(State.MISSING)


def goes_on(study: Study, states: Sequence[RunState]) -> bool:
    """Tells whether anything waits or runs, or a launch is about to say what will."""
    launch = find_launch(study.folder)
    begins = launch is not None and launch.waiting is None
    return begins or any(s.state in (State.QUEUED, State.RUNNING) for s in states)


def _cancelled(history: Sequence[dict[str, Any]]) -> bool:
    return bool(history) and history[-1]["event"] == "cancelled"


def _progress(folder: RunFolder) -> str:
    """Returns "epoch 3 of 300, about 2 h 5 min left"."""
    said = folder.read_progress()
    if said is None:
        return ""
    text = epoch_of(said)
    if said.get("fraction"):
        left = said.get("seconds", 0) * (1 - said["fraction"]) / said["fraction"]
        text += f", about {duration(left)} left"
    return text


def epoch_of(said: Mapping[str, Any]) -> str:
    """Returns "epoch 3 of 300" of what a run said of where it stands."""
    return f"epoch {said['epoch'] + 1} of {said['epochs']}" if "epoch" in said else "begun"


def last_lines(log: Path, count: int) -> str:
    """Returns the last lines of a log, without colours; nothing where it cannot be read."""
    if not log.is_file():
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(plain_log(text).splitlines()[-count:])
