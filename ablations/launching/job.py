"""A job: one run to be trained, and its training in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ablations import fit
from ablations.choices import Compute, DataChoice
from ablations.devices import Slot
from ablations.fit import Machine, RunSetup
from ablations.records import COMMAND, Record, ResultsError, Run, RunFolder, Status
from ablations.records.lock import write_pending
from ablations.weights.starts import StartFile
from modernize.custom_layers import load_custom_layers
from modernize.errors import RoadmapError

if TYPE_CHECKING:
    from ablations.training.device_context import DeviceContext


@dataclasses.dataclass(frozen=True)
class Job:
    """One run to be trained.

    Attributes:
        run, folder: the run, and the folder of its files.
        data, compute: the images; precision and other settings of the computation.
        skip_bad_images: whether to skip unreadable images.
        loggers: where the metrics are written, too; of :data:`~ablations.fit.LOGGERS`.
        layers: the study's copy of the file of the network's custom layers, if it has any.
        start: the weights that the run starts from; None: fresh ones.
        macs: per training image, times the epochs left; longer jobs start first.

    A subclass does other work on a run; its methods replace those of training.
    """

    run: Run
    folder: Path
    data: DataChoice
    compute: Compute
    skip_bad_images: bool = False
    loggers: tuple[str, ...] = ()
    layers: Path | None = None
    start: StartFile | None = None
    macs: int = 0
    verb: ClassVar[str] = "Training"
    alone: ClassVar[bool] = False
    """Whether one process does all the work, even if others could share it."""

    def run_in(
        self, folder: RunFolder, slot: Slot, keep_going: Callable[[], bool]
    ) -> Record | None:
        """Does the work in this process, as :func:`train_here`, unless it is done."""
        return folder.prepare(self.run) or train_in(self, folder, slot, keep_going)

    def ended(self, folder: RunFolder) -> Record | None:
        """Returns the record of the work's end; None if it is not done, or cannot be read."""
        record = folder.record_or_fault()
        return record if isinstance(record, Record) and record.settled else None

    def follow(self, study: Path) -> str:
        """Returns how to follow jobs that were submitted."""
        return f"Follow them with: {COMMAND} status {study.name}   (or logs, collect, cancel)"

    def progress(self, folder: RunFolder) -> Mapping[str, Any]:
        """Returns how far it is: ``fraction``, and for training its epochs; empty: unknown."""
        return folder.read_progress() or {}

    def load_custom_layers(self) -> None:
        """Loads the network's custom layers from the study's copy of their file.

        Raises:
            CustomLayersError: if that file is missing or has changed.
        """
        if self.layers is not None:
            for layer in self.run.spec.custom_layers.values():
                load_custom_layers(self.layers, layer.digest)


def train_in(
    job: Job, folder: RunFolder, slot: Slot, keep_going: Callable[[], bool]
) -> Record | None:
    """Trains one run in this process on a slot; see :func:`train_here`."""
    import torch

    from ablations.training.device_context import make_device_context

    torch.set_num_threads(slot.threads)
    return train_here(
        job, folder, make_device_context(slot.device, job.compute), slot.threads, keep_going
    )


def train_here(
    job: Job,
    folder: RunFolder,
    context: DeviceContext,
    threads: int,
    keep_going: Callable[[], bool],
) -> Record | None:
    """Trains one run in this process, which may be one of several that train it together.

    Args:
        job: the run.
        folder: of the run, which this process has prepared.
        context: device, precision and process.
        threads: of the CPU, for loading images.
        keep_going: returns False when the run has to save and stop.

    Returns:
        The record; None if it stopped before the end.

    Raises:
        DataError: if the images are not those that the study started with.
        UsageError: if the run cannot be trained here.
    """
    from ablations.data.images import DataError
    from ablations.data.sampling import Sampling
    from ablations.tasks.registry import make_task
    from ablations.training.train import train

    job.load_custom_layers()
    task = make_task(job.run.task)
    images = task.load(job.data, skip_bad_images=job.skip_bad_images)
    if images.identity() != job.run.images:
        raise DataError("the images changed since this study started; use another --name.")
    recipe = job.run.recipe
    run, count = job.run, len(images.train)
    wanted = RunSetup(recipe, run.spec, count, job.data, job.compute, task, job.loggers)
    machine = Machine(context.device.type, context.process.world_size, here=True, python=True)
    fit.check([(run.key, wanted)], machine)
    sampling = Sampling.of(recipe, len(images.train), job.run.seed, context.process)
    loaders = task.loaders(
        images,
        job.data,
        recipe,
        sampling,
        context.device,
        job.compute,
        threads=threads,
        skip_bad_images=job.skip_bad_images,
    )
    start = job.start.read(run.spec) if job.start else None
    with folder.heartbeat() if context.first else contextlib.nullcontext():
        return train(
            job.run,
            folder,
            loaders,
            context,
            keep_going,
            loggers=job.loggers,
            start=start,
        )


def record_failure(folder: RunFolder, error: BaseException) -> Record:
    """Writes the error that is being handled into a run's log and record."""
    traceback.print_exc()
    kind = "" if isinstance(error, RoadmapError) else f"{type(error).__name__}: "
    reason = f"{kind}{error}".partition("\n")[0]
    return record_end(folder, Record(Status.FAILED, f"{reason}; see {folder.log}"))


def record_end(folder: RunFolder, record: Record) -> Record:
    """Writes a record and returns it; if it cannot be written, its reason includes that."""
    try:
        folder.write_record(record)
    except ResultsError as error:  # for example on a full disk
        return dataclasses.replace(
            record, reason=f"{record.reason}. The record is not written: {error}"
        )
    return record


def write_pending_jobs(study: Path, jobs: Iterable[Job]) -> None:
    """Writes the pending jobs into a study whose lock this process holds."""
    write_pending(study, [job.folder.name for job in jobs])
