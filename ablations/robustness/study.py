"""The runs of a study whose robustness is measured, and their evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ablations.analysis.robustness import is_complete
from ablations.launching.executors import Event, Executor
from ablations.launching.job import Job
from ablations.metrics import CLASSIFICATION
from ablations.records import WEIGHTS, Record, Run, RunFolder, Status, Study
from ablations.records.lock import study_lock
from ablations.records.squeue import SchedulerJob, find_jobs
from ablations.records.submissions import read_submissions
from ablations.robustness.job import RobustnessJob
from ablations.robustness.made_here import CorruptedImages
from modernize.errors import RoadmapError, UsageError
from modernize.steps import Variant
from modernize.user_code import digest_of


def finished_runs(study: Study, steps: Sequence[str]) -> list[tuple[Variant, Run, RunFolder]]:
    """Returns the finished runs of a study.

    Args:
        study: of classifiers.
        steps: only these, by key or index; empty: all.

    Raises:
        UsageError: if it has no finished runs, or is of another task.
        UnknownNameError: for an unknown step.
    """
    if study.preset.task != CLASSIFICATION.task:
        raise UsageError(
            f"the study {study.name} is of {study.preset.task}: robustness is measured for "
            "classifiers only."
        )
    keys = {study.key_of(step) for step in steps}
    found = []
    for variant, run, folder in study.runs():
        record = folder.record_or_fault() if not keys or variant.key in keys else None
        if isinstance(record, Record) and record.status is Status.FINISHED:
            found.append((variant, run, folder))
    if not found:
        of = f" of {', '.join(sorted(keys))}" if keys else ""
        raise UsageError(f"the study {study.name} has no finished run{of}; launch it first.")
    return found


@dataclasses.dataclass(frozen=True)
class Plan:
    """The finished runs of a study, and the work that is left.

    Attributes:
        finished: the number of finished runs.
        jobs: those that are to be evaluated.
        gone: names of runs without weights here that were not evaluated before.
        submitted: those that SLURM has now.
        images: the images to be corrupted; None: those of folders are evaluated.
    """

    finished: int
    jobs: Sequence[Job]
    gone: Sequence[str]
    submitted: Sequence[str]
    images: CorruptedImages | None = None


def plan(study: Study, steps: Sequence[str]) -> Plan:
    """Returns the plan for the finished runs of a study.

    Raises:
        UsageError: as :func:`finished_runs`; and for a custom data set, whose code is not run.
    """
    runs, images = finished_runs(study, steps), CorruptedImages.of(study)
    if study.preset.data.runs_code:
        raise UsageError(
            f"the study {study.name} has a custom data set: robustness does not run its code."
        )
    jobs, gone, submitted = [], [], []
    queued = queued_runs(study)
    for number, (_, run, folder) in enumerate(runs):
        weights = folder.path / WEIGHTS
        stored = folder.read_tallies()
        if not weights.is_file():
            if stored is None or not is_complete(stored.parts):
                gone.append(f"{run.key}, seed {run.seed}")
            continue
        job = RobustnessJob(
            run,
            folder.path.absolute(),
            study.preset.data,
            study.preset.compute,
            layers=study.layers_file(run.spec),
            images=images.folder.absolute(),
            key=digest_of(f"{_digest(weights)} {images.folder.name}".encode()),
            number=number,
        )
        if job.ended(folder):
            continue
        if run.name in queued:
            submitted.append(f"{run.key}, seed {run.seed}")
        else:
            jobs.append(job)
    return Plan(len(runs), jobs, gone, submitted, images)


def queued_runs(study: Study) -> Mapping[str, SchedulerJob]:
    """Returns run name -> the job that SLURM has of it now."""
    return find_jobs(study.folder, read_submissions(study.folder, study.faults)) or {}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def evaluate(
    study: Study, planned: Plan, executor: Executor, follow: Callable[[Iterator[Event]], None]
) -> None:
    """Evaluates the runs that are left, or submits them.

    Args:
        study: which one; nothing else may train or evaluate it meanwhile.
        planned: the work that is left.
        executor: where.
        follow: shows the executor's events until the last one.
    """
    with study_lock(study.folder):
        if planned.images is not None:
            planned.images.prepare(study)
        with contextlib.closing(executor.launch(study.folder.absolute(), planned.jobs)) as events:
            follow(events)


def remove_images(study: Study) -> None:
    """Deletes the corrupted images, unless a process or a SLURM job may need them."""
    images = CorruptedImages.of(study)
    if images.folder.is_dir() and not queued_runs(study):
        with contextlib.suppress(RoadmapError), study_lock(study.folder):
            images.remove()
