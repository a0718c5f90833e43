"""The status of every run of a study: from its own files and, for a submitted run, from SLURM.

This is the only reader of it: launching, the commands, statistics and reports all ask here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.records.files import ResultsError
from ablations.records.heartbeat import ProcessState
from ablations.records.lock import Launch, read_launch
from ablations.records.record import Record, Status
from ablations.records.run import Run, RunFolder
from ablations.records.squeue import SchedulerJob, find_jobs
from ablations.records.study import Study
from ablations.records.submissions import log_of, read_submissions
from ablations.units import about
from modernize.steps import Variant
from modernize.text import plain_log

LOG_BYTES = 16_384  # from the end of a log, enough for its last lines


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """The status of one run.

    Attributes:
        variant, run, folder: which one.
        status, detail: its status, and more about it in words.
        record: how it ended; None: it has not ended, or its record cannot be read.
        fault: why its record cannot be read.
        job: the number of its SLURM job, if SLURM has one now.
        preempted: how often SLURM preempted it, and it was saved and queued again.
        log: the file to read about what went wrong.
    """

    variant: Variant
    run: Run
    folder: RunFolder
    status: Status
    detail: str = ""
    record: Record | None = None
    fault: ResultsError | None = None
    job: str = ""
    preempted: int = 0
    log: Path | None = None

    @property
    def with_scheduler(self) -> bool:
        """Whether SLURM has it, or may have it: launching it now could train it twice."""
        return bool(self.job) or self.status is Status.UNKNOWN


def read_statuses(study: Study) -> list[RunStatus]:
    """Returns the status of every run of a study, in the study's order.

    Damaged files are noted in the study's ``faults``. SLURM is asked only if a run that was
    submitted has no record of its end.
    """
    submissions = read_submissions(study.folder, study.faults)
    submitted = {name for submission in submissions for name in submission.runs}
    found = [
        (variant, run, folder, folder.record_or_fault()) for variant, run, folder in study.runs()
    ]
    unsettled = {
        run.name
        for _variant, run, _folder, end in found
        if not (isinstance(end, Record) and end.settled)
    }
    jobs = find_jobs(study.folder, [s for s in submissions if unsettled & {*s.runs} or not s.runs])
    launch = read_launch(study.folder)
    statuses = []
    for variant, run, folder, end in found:
        mine = submissions if run.name in submitted else []
        record = end if isinstance(end, Record) else None
        fault = end if isinstance(end, ResultsError) else None
        history = folder.read_history() if mine else []
        job = (jobs or {}).get(run.name)
        status, detail = _status(run, folder, end, history, bool(mine), jobs, launch)
        log = None
        if status is Status.LOST or (status is Status.FAILED and record):
            log = folder.log if folder.log.is_file() else log_of(study.folder, mine, run.name)
        statuses.append(
            RunStatus(
                variant,
                run,
                folder,
                status,
                detail,
                record,
                fault,
                job=job.job if job else "",
                preempted=sum(line["event"] == "preempted" for line in history),
                log=log,
            )
        )
    return statuses


def _status(
    run: Run,
    folder: RunFolder,
    end: Record | ResultsError | None,
    history: Sequence[Mapping[str, Any]],
    submitted: bool,
    jobs: Mapping[str, SchedulerJob] | None,
    launch: Launch | None,
) -> tuple[Status, str]:
    """Returns a run's status, and more about it in words."""
    if isinstance(end, ResultsError):
        return Status.UNREADABLE, str(end)
    if end is not None and end.settled:
        return end.status, end.reason or end.result
    if (job := (jobs or {}).get(run.name)) is not None:
        if job.waits:
            return Status.QUEUED, "" if job.reason == "None" else job.reason
        return Status.RUNNING, _progress(folder) or "starting"
    process = folder.process_state() if end is None else ProcessState.GONE
    by_hand = "job" not in (folder.read_owner() or {"job": ""})
    if process is not ProcessState.GONE and (by_hand or jobs is None):
        suspended = "suspended by a signal" if process is ProcessState.SUSPENDED else ""
        return Status.RUNNING, suspended or _progress(folder) or "starting"
    if end is None and (unnamed := (jobs or {}).get("")) is not None:
        return Status.UNKNOWN, f"perhaps it is job {unnamed.job}, whose file is damaged"
    if end is None and submitted and jobs is None:
        return Status.UNKNOWN, "submitted; SLURM gives no answer about its job here"
    if launch is not None and launch.has(run.name):
        return Status.QUEUED, "waits for its turn"
    if end is not None:
        return Status.FAILED, end.reason
    done = folder.epochs_done() if folder.has_checkpoint() else None
    cancelled = bool(history) and history[-1]["event"] == "cancelled"
    if submitted and not cancelled:
        how = "" if done is None else f" to continue after epoch {done}"
        return Status.LOST, f"its job ended; submit it again{how}"
    if done is not None:
        return Status.STOPPED, f"after epoch {done}; launch again to continue"
    return Status.MISSING, ""


def is_active(study: Study, statuses: Sequence[RunStatus]) -> bool:
    """Tells whether a run is queued or running, or a launch is about to decide which are."""
    launch = read_launch(study.folder)
    return (launch is not None and launch.pending is None) or any(s.status.active for s in statuses)


def _progress(folder: RunFolder) -> str:
    """Returns "epoch 3 of 300, about 2 h 5 min left"."""
    progress = folder.read_progress()
    if progress is None:
        return ""
    text = epoch_of(progress)
    if progress.get("fraction"):
        left = progress.get("seconds", 0) * (1 - progress["fraction"]) / progress["fraction"]
        text += f", {about(left)} left"
    return text


def epoch_of(progress: Mapping[str, Any]) -> str:
    """Returns "epoch 3 of 300" of a run's progress."""
    return (
        f"epoch {progress['epoch'] + 1} of {progress['epochs']}"
        if "epoch" in progress
        else "started"
    )


def last_lines(log: Path, count: int) -> str:
    """Returns the last lines of a log, without colours; empty if it cannot be read."""
    if not log.is_file():
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(plain_log(text).splitlines()[-count:])
