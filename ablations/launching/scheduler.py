"""What a study handed to SLURM, and what the scheduler says of it now.

A run's own files are the truth about it. The scheduler is asked only for what they cannot say:
whether a job still waits or runs. Its accounting is never needed.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from ablations.records import Faults, make_folder, read_or_note, write_json
from modernize.errors import RoadmapError, UsageError

ASK_SECONDS = 20  # how long the scheduler may take to answer
ASKED_AT_ONCE = 500  # job numbers or names on one command line

# What sbatch's own messages speak of, and the key of the site that it came from.
CAUSES = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "feature": "constraint",
    "constraint": "constraint",
    "node count": "nodes",
    "gres": "gpus_per_node, gpus_as or gpu_type",
    "gpu": "gpus_per_node, gpus_as or gpu_type",
    "memory": "memory",
    "node configuration": "nodes, cpus_per_task or gpus_per_node",
    "time limit": "time_limit_minutes",
    "job array": "max_array_size",
    "array": "max_array_size",
    "option": "options",
}


class SchedulerError(RoadmapError):
    """What SLURM refused, in its own words."""


@dataclasses.dataclass(frozen=True)
class Submission:
    """Runs handed to the scheduler with one call.

    Attributes:
        token: the name of its jobs; nothing else has it.
        runs: the runs' names, in the order of the array.
        jobs: the scheduler's number; None: whoever submitted died before it knew.
        code: where the copy of the program is that they run.
        commit, dirty: of that program.
        submitted: when, in seconds since 1970.
    """

    token: str
    runs: Sequence[str]
    jobs: Annotated[str, Field(pattern=r"^\d+$")] | None
    code: str
    commit: str | None
    dirty: bool | None
    submitted: float
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    def write(self, study: Path) -> None:
        """Writes it into a study's folder."""
        path = submissions_folder(study) / f"{self.token}.json"
        make_folder(path.parent)
        write_json(path, dataclasses.asdict(self))


_SUBMISSION = TypeAdapter(Submission)


@dataclasses.dataclass(frozen=True)
class Queued:
    """A job that waits or runs, as the scheduler sees it.

    Attributes:
        job: its number, with the place in the array.
        state: SLURM's word, such as PENDING or RUNNING.
        reason: why it waits.
    """

    job: str
    state: str
    reason: str

    @property
    def waits(self) -> bool:
        """Whether it does not run."""
        return self.state not in ("RUNNING", "COMPLETING", "STOPPED", "SUSPENDED", "SIGNALING")


def submissions_folder(study: Path) -> Path:
    """Returns where a study keeps what was handed to the scheduler."""
    return study / "submissions"


def read_submissions(study: Path, faults: Faults) -> list[Submission]:
    """Returns what was submitted of a study, oldest first.

    Of a damaged file only its name, which is that of its jobs, is known: it has no runs.

    Args:
        study: the study's folder.
        faults: where damaged files are noted.
    """
    found = []
    for path in submissions_folder(study).glob("*.json"):
        values = read_or_note(path, _SUBMISSION, faults)
        if values is not None:
            found.append(_SUBMISSION.validate_python(values))
        elif path in faults:
            found.append(Submission(path.stem, (), None, "", None, None, 0))
    return sorted(found, key=lambda submission: submission.submitted)


def find_slurm() -> str:
    """Returns why no SLURM can be used here; nothing where one answers."""
    for command in ("sbatch", "srun", "squeue"):
        if shutil.which(command) is None:
            return f"there is no {command} here"
    done = _run("scontrol", "ping")
    up = done is not None and done.returncode == 0 and " UP" in done.stdout
    return "" if up else "no controller answers"


def check_usable() -> None:
    """Raises UsageError where there is no SLURM here."""
    if why := find_slurm():
        raise UsageError(
            f"--executor slurm: {why}. Use it on a machine from which jobs can be submitted, or "
            "--executor local."
        )


def ask(study: Path, submissions: Iterable[Submission]) -> dict[str, Queued] | None:
    """Returns the jobs that wait or run, by the name of their run; None: the scheduler cannot tell.

    Jobs are found by their number, whoever asks, or by their name if the submission died before it
    knew the number. A run that was submitted twice is shown with the later job.
    """
    wanted = {s.token: s for s in submissions}
    numbers = [s.jobs for s in wanted.values() if s.jobs is not None]
    names = [s.token for s in wanted.values() if s.jobs is None]
    shown: dict[str, list[tuple[str, Queued]]] = {}
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
                    shown.setdefault(token, []).append((run, Queued(number, state, reason)))
    hidden = [token for token in wanted if token not in shown and _is_of_another_user(study, token)]
    if hidden and _jobs_are_private():
        return None
    return {run: job for token in wanted for run, job in shown.get(token, ())}


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Runs a command of SLURM, without the user's filters; None: there is no answer."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SQUEUE_")}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_SECONDS,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _squeue(which: str) -> list[str] | None:
    """Returns a line for each of these jobs that waits or runs; None: the scheduler cannot tell."""
    done = _run("squeue", "--noheader", "--array", "--all", which, "--format", "%j|%F|%K|%T|%r")
    if done is None:
        return None
    if done.returncode:  # as for a single number that is too old for the scheduler to know
        return [] if "Invalid job id" in done.stderr else None
    return done.stdout.splitlines()


def _is_of_another_user(study: Path, token: str) -> bool:
    """Tells whether another user submitted these jobs; root sees everyone's."""
    try:
        owner = (submissions_folder(study) / f"{token}.json").stat().st_uid
    except FileNotFoundError:
        return False
    return os.geteuid() not in (0, owner)


def _jobs_are_private() -> bool:
    """Tells whether the scheduler may hide other users' jobs from this one."""
    done = _run("scontrol", "show", "config")
    if done is None or done.returncode:
        return True
    private = re.search(r"^PrivateData\s*=(.*)$", done.stdout, flags=re.MULTILINE)
    return private is None or "jobs" in private[1]


def cancel(jobs: Sequence[str]) -> None:
    """Ends jobs that wait or run.

    Raises:
        SchedulerError: with SLURM's message.
    """
    done = _run("scancel", *jobs)
    if done is None:
        raise SchedulerError(f"scancel does not answer; run `scancel {' '.join(jobs)}` yourself.")
    if done.returncode:
        raise SchedulerError(explain(done.stderr.strip()))


def log_of(study: Path, submissions: Iterable[Submission], run: str) -> Path | None:
    """Returns what the scheduler kept of a run's errors, where the run itself could not write."""
    for submission in reversed(list(submissions)):
        if run in submission.runs and submission.jobs is not None:
            number = submission.jobs
            if len(submission.runs) > 1:
                number += f"_{submission.runs.index(run)}"
            folder = submissions_folder(study) / submission.token
            for path in (folder / f"{number}_0_log.err", folder / f"{number}_0_log.out"):
                if path.is_file() and path.stat().st_size:
                    return path
    return None


def explain(message: str) -> str:
    """Returns SLURM's message, and the key of the site that it is about."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in message.splitlines()]
    said = " ".join(line for line in lines if line) or "nothing"
    key = next((key for words, key in CAUSES.items() if words in said.lower()), None)
    hint = f" It is about the site's key {key}." if key else " See the keys of the site."
    return f"SLURM said: {said}.{hint}"
