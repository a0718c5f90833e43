"""The executors: ways to train the runs of a study, behind one interface and in one table."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.devices import find_device
from ablations.fit import Machine
from ablations.launching.job import Job
from ablations.launching.scheduler import check_usable, find_slurm
from ablations.launching.slurm_config import SlurmConfig
from ablations.launching.torchrun import find_torchrun
from ablations.recipe import Preset
from ablations.records import Record

if TYPE_CHECKING:
    from ablations.data.sampling import Rank


@dataclasses.dataclass(frozen=True)
class Event:
    """What an executor reports, several times a second or whenever something changes.

    Attributes:
        running: the jobs that run now.
        ended: the jobs that ended since the last event, each with its record.
        message: for the user; empty: nothing to say.
    """

    running: Sequence[Job] = ()
    ended: Sequence[tuple[Job, Record]] = ()
    message: str = ""


class Executor(abc.ABC):
    """A way to train runs.

    Attributes:
        waits: whether :meth:`launch` ends when the runs have ended, and not before.
        background: whether runs train in other processes, so that progress bars can be shown.
    """

    waits = True
    background = True

    @abc.abstractmethod
    def launch(self, study: Path, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """Launches the jobs and yields events; closing the generator stops what it trains.

        The launch holds the study's lock, and writes there which jobs are pending.

        Args:
            study: the study's folder.
            jobs: what to train.
        """

    def machine(self, preset: Preset) -> Machine:
        """Returns the machine that trains the runs, as far as it matters and is known."""
        matters = preset.compute.precision == "fp16" or preset.compute.compile
        return Machine(find_device() if matters else "", here=True, python=True)

    def preview(self, study: Path, jobs: Sequence[Job]) -> str:  # noqa: ARG002
        """Returns the text for a dry run, beside the plan; empty: there is none."""
        return ""

    def join(self) -> contextlib.AbstractContextManager[Rank | None]:
        """Joins other processes that train the same runs; gives this process's rank among them."""
        return contextlib.nullcontext()


def _local(jobs: int | None, _config: SlurmConfig) -> Executor:
    from ablations.launching.local_queue import LocalQueue

    return LocalQueue(jobs)


def _slurm(jobs: int | None, config: SlurmConfig) -> Executor:
    from ablations.launching.slurm import Slurm

    check_usable()
    return Slurm(config if jobs is None else config.model_copy(update={"max_running": jobs}))


def _debug(_jobs: int | None, _config: SlurmConfig) -> Executor:
    from ablations.launching.in_process import InProcess

    return InProcess()


EXECUTORS: Mapping[str, Callable[[int | None, SlurmConfig], Executor]] = {
    "local": _local,
    "slurm": _slurm,
    "debug": _debug,
}
"""Name -> function of runs at a time and SLURM config. Under torchrun another executor is used."""


def choose_executor(
    name: str, preset: Preset, jobs: int | None, config: SlurmConfig
) -> tuple[Executor, str]:
    """Returns an executor, and its name with the reason for it.

    Args:
        name: one of :data:`EXECUTORS`, or "auto".
        preset: says whether it is made for a cluster.
        jobs: runs at a time; None: as many as the machine or the SLURM config allows.
        config: what SLURM is asked for.

    Raises:
        UsageError: if it cannot be used here.
    """
    if (environment := find_torchrun()) is not None:
        from ablations.launching.distributed import Distributed

        reason = f"because torchrun started {environment.world_size} processes"
        return Distributed(environment), f"torchrun, {reason}"
    if name == "auto":
        missing = find_slurm() if preset.cluster else "the preset is not made for a cluster"
        name = "local" if missing else "slurm"
        reason = f"because {missing or 'its controller answers'}"
    else:
        reason = "as requested"
    return EXECUTORS[name](jobs, config), f"{name}, {reason}"
