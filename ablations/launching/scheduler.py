"""SLURM's own commands: whether there is one, ending jobs, and its messages. No submitit here."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from ablations.records.squeue import run_slurm
from modernize.errors import RoadmapError, UsageError

# Words in sbatch's messages -> the key of the SLURM config that they are about.
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
    """SLURM refused something; the message is its own."""


def find_slurm() -> str:
    """Returns why SLURM cannot be used here; empty if it can."""
    for command in ("sbatch", "srun", "squeue"):
        if shutil.which(command) is None:
            return f"there is no {command} on this machine"
    done = run_slurm("scontrol", "ping")
    up = done is not None and done.returncode == 0 and " UP" in done.stdout
    return "" if up else "its controller does not answer"


def check_usable() -> None:
    """Raises UsageError if SLURM cannot be used here."""
    if why := find_slurm():
        raise UsageError(
            f"--executor slurm: {why}. Use it on a machine that can submit jobs, or use --executor "
            "local."
        )


def cancel(jobs: Sequence[str]) -> None:
    """Cancels jobs.

    Raises:
        SchedulerError: with SLURM's message.
    """
    done = run_slurm("scancel", *jobs)
    if done is None:
        raise SchedulerError(f"scancel does not answer; run it again: scancel {' '.join(jobs)}")
    if done.returncode:
        raise SchedulerError(explain(done.stderr.strip()))


def explain(message: str) -> str:
    """Returns SLURM's message, with the key of the SLURM config that it is about."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in message.splitlines()]
    text = " ".join(line for line in lines if line) or "no message"
    key = next((key for words, key in CAUSES.items() if words in text.lower()), None)
    hint = (
        f" It is about the key {key} of the SLURM config."
        if key
        else " See the keys of the SLURM config."
    )
    return f"SLURM refused: {text}.{hint}"
