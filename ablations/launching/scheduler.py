"""What a study handed to SLURM, and what the scheduler says of it now.

A run's own files are the truth about it. The scheduler is asked only for what they cannot say:
whether a job still waits or runs. Its accounting is never needed.
"""

from __future__ import annotations

import dataclasses
import getpass
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from ablations.records import read_json, write_json
from modernize.errors import RoadmapError, UsageError

ASK_SECONDS = 20  # how long the scheduler may take to answer

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
    jobs: str | None
    code: str
    commit: str | None
    dirty: bool | None
    submitted: float

    def write(self, study: Path) -> None:
        """Writes it into a study's folder."""
        path = submissions_folder(study) / f"{self.token}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, dataclasses.asdict(self))


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


def read_submissions(study: Path) -> list[Submission]:
    """Returns what was submitted of a study, oldest first."""
    found = []
    for path in submissions_folder(study).glob("*.json"):
        values = read_json(path)
        if values is not None:
            found.append(Submission(**values))
    return sorted(found, key=lambda submission: submission.submitted)


def find_slurm() -> str:
    """Returns why no SLURM can be used here; nothing where one answers."""
    for command in ("sbatch", "srun", "squeue"):
        if shutil.which(command) is None:
            return f"there is no {command} here"
    try:
        done = subprocess.run(
            ["scontrol", "ping"], capture_output=True, text=True, timeout=ASK_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return "no controller answers"
    up = done.returncode == 0 and " UP" in done.stdout
    return "" if up else "no controller answers"


def check_usable() -> None:
    """Raises UsageError where there is no SLURM here."""
    if why := find_slurm():
        raise UsageError(
            f"--executor slurm: {why}. Use it on a machine from which jobs can be submitted, or "
            "--executor local."
        )


def ask(submissions: Iterable[Submission]) -> dict[str, Queued] | None:
    """Returns the jobs that wait or run, by the name of their run; None: nobody answers.

    A run that was submitted twice is shown with the later job.
    """
    wanted = {s.token: s for s in submissions}
    if not wanted:
        return {}
    try:
        done = subprocess.run(
            ["squeue", "--noheader", "--array", "--user", getpass.getuser(),
             "--format", "%j|%F|%K|%T|%r"],
            capture_output=True, text=True, timeout=ASK_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found: dict[str, Queued] = {}
    for line in done.stdout.splitlines():
        token, job, place, state, reason = (part.strip() for part in line.split("|", 4))
        if token in wanted:
            index = int(place) if place.isdigit() else None
            number = job if index is None else f"{job}_{index}"
            found[wanted[token].runs[index or 0]] = Queued(number, state, reason)
    return found


def cancel(jobs: Sequence[str]) -> None:
    """Ends jobs that wait or run.

    Raises:
        SchedulerError: with SLURM's message.
    """
    done = subprocess.run(["scancel", *jobs], capture_output=True, text=True)
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
