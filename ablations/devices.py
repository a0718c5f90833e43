"""The devices of this machine, and how runs that train at the same time share them."""

from __future__ import annotations

import dataclasses
import os

from modernize.errors import UsageError

MOST_CPU_SLOTS = 8


@dataclasses.dataclass(frozen=True)
class Slot:
    """The part of this machine for one run at a time: a torch device, and a number of threads."""

    device: str
    threads: int


def find_slots(runs: int, jobs: int | None = None) -> list[Slot]:
    """Divides this machine among runs: a slot per GPU, or the CPU's cores among the slots.

    Args:
        runs: the number of runs; there are no more slots than that.
        jobs: runs at a time; None: one per GPU, or one per core up to 8.

    Raises:
        UsageError: if ``jobs`` is less than 1.
    """
    import torch

    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: at least 1 run at a time.")
    cores = core_count()
    if (device := find_device()) == "cuda":
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        count = jobs or len(devices)
    else:
        devices = [device]
        count = jobs or (1 if devices == ["mps"] else min(cores, MOST_CPU_SLOTS))
    count = max(min(count, runs), 1)
    threads = max(cores // count, 1)
    return [Slot(devices[i % len(devices)], threads) for i in range(count)]


def find_device() -> str:
    """Returns the type of the device that trains on this machine: cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def count_gpus() -> int:
    """Returns the number of GPUs that this process may use."""
    import torch

    return torch.cuda.device_count()


def core_count() -> int:
    """Returns the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1
