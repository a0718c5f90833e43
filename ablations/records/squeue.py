"""The jobs of a study that SLURM has now, queued or running. SLURM's accounting is not needed."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ablations.records.submissions import Submission, submissions_folder

ANSWER_SECONDS = 20  # how long SLURM may take to answer
ASKED_AT_ONCE = 500  # job numbers or names on one command line


@dataclasses.dataclass(frozen=True)
class SchedulerJob:
    """A queued or running job.

    Attributes:
        job: its number, with the index in the array.
        state: in SLURM's words, such as PENDING or RUNNING.
        reason: why it is queued.
    """

    job: str
    state: str
    reason: str

    @property
    def waits(self) -> bool:
        """Whether it does not run yet."""
        return self.state not in ("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "SIGNALING")


def find_jobs(study: Path, submissions: Iterable[Submission]) -> dict[str, SchedulerJob] | None:
    """Returns run name -> its queued or running job; None if SLURM gives no answer.

    Jobs are found by number, so that every user finds them, or by name if the submission was killed
    before it knew the number. For a run that was submitted twice, the later job counts.
    """
    wanted = {s.token: s for s in submissions}
    numbers = [s.jobs for s in wanted.values() if s.jobs is not None]
    names = [s.token for s in wanted.values() if s.jobs is None]
    shown: dict[str, list[tuple[str, SchedulerJob]]] = {}
    for option, values in (("--jobs", numbers), ("--name", names)):
        for start in range(0, len(values), ASKED_AT_ONCE):
            lines = _squeue(f"{option}={','.join(values[start : start + ASKED_AT_ONCE])}")
            if lines is None:
                return None
            for line in lines:
                token, job, place, state, reason = (part.strip() for part in line.split("|", 4))
                if token in wanted:
                    index = int(place) if place.isdigit() else None
                    number = job if index is None else f"{job}_{index}"
                    run = dict(enumerate(wanted[token].runs)).get(index or 0, "")
                    shown.setdefault(token, []).append((run, SchedulerJob(number, state, reason)))
    hidden = [token for token in wanted if token not in shown and _is_of_another_user(study, token)]
    if hidden and _jobs_are_private():
        return None
    return {run: job for token in wanted for run, job in shown.get(token, ())}


def run_slurm(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Runs a command of SLURM, without the user's filters; None if it does not answer."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_SECONDS,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _squeue(which: str) -> list[str] | None:
    """Returns a line for each of these jobs; None if SLURM gives no answer."""
    done = run_slurm(
        "squeue", "--noheader", "--array", "--all", which, "--format", "%j|%F|%K|%T|%r"
    )
    if done is None:
        return None
    if done.returncode:  # for example for a single number that is too old
        return [] if "Invalid job id" in done.stderr else None
    return done.stdout.splitlines()


def _is_of_another_user(study: Path, token: str) -> bool:
    """Tells whether another user submitted these jobs; root sees the jobs of all users."""
    try:
        owner = (submissions_folder(study) / f"{token}.json").stat().st_uid
    except FileNotFoundError:
        return False
    return os.geteuid() not in (0, owner)


def _jobs_are_private() -> bool:
    """Tells whether SLURM may hide the jobs of other users."""
    done = run_slurm("scontrol", "show", "config")
    if done is None or done.returncode:
        return True
    private = re.search(r"^PrivateData\s*=(.*)$", done.stdout, flags=re.MULTILINE)
    return private is None or "jobs" in private[1]
