"""The runs of a study evaluated on the sets in a user's folders: their jobs and their counts."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from ablations import terminal
from ablations.devices import Slot
from ablations.records import Record, RunFolder, Status, Study
from ablations.robustness.folders import (
    Counting,
    Evaluated,
    Options,
    count,
    describe_sets,
    find_sets,
    plan_counting,
    published,
    read,
)
from ablations.robustness.job import EvaluationJob
from ablations.robustness.scores import Network, score
from ablations.robustness.study import Plan, finished_runs, queued_runs
from ablations.units import percent


@dataclasses.dataclass(frozen=True)
class FoldersJob(EvaluationJob):
    """A finished run to be evaluated on sets in folders.

    Attributes:
        planned: what is counted.
        options: of the command.
    """

    planned: Sequence[Counting] = ()
    options: Options = dataclasses.field(default_factory=Options)

    def run_in(
        self, folder: RunFolder, slot: Slot, keep_going: Callable[[], bool]
    ) -> Record | None:
        """Counts the parts that are missing, and writes the counts after each.

        Returns:
            A record for the progress of the launch; None if it stopped before the end.
        """
        torch.set_num_threads(slot.threads)
        weights = _read(self).weights
        tell = functools.partial(terminal.echo, err=True)
        count(weights, self.planned, self.options, slot, tell, folder.faults, keep_going)
        return self.ended(folder)

    def ended(self, folder: RunFolder) -> Record | None:
        """See :meth:`Job.ended`."""
        scores = []
        for one in self.planned:
            if (parts := one.result(folder.faults)) is None:
                return None
            scores.append(f"{one.kind.header} {percent(score(one.kind.key, parts))}")
        return Record(Status.FINISHED, ", ".join(scores))

    def progress(self, folder: RunFolder) -> Mapping[str, Any]:
        """See :meth:`Job.progress`."""
        done = sum(len(one.stored(folder.faults).parts) for one in self.planned)
        return {"fraction": done / sum(len(one.images.parts) for one in self.planned)}


@dataclasses.dataclass(frozen=True)
class StudyOnFolders:
    """The finished runs of a study and the sets that they are evaluated on.

    Attributes:
        study: which one.
        jobs: a job for each run, evaluated or not.
        published: step -> the paper's name of its network and its figures in Table 8, if any.
    """

    study: Study
    jobs: Sequence[FoldersJob]
    published: Mapping[str, tuple[str, Mapping[str, str]]]

    @classmethod
    def of(
        cls,
        study: Study,
        steps: Sequence[str],
        folders: Mapping[str, Path],
        options: Options,
        store: Path,
        *,
        here: bool,
    ) -> Self:
        """Returns the finished runs of a study, whose weights and sets are checked here.

        Args:
            study: of classifiers, which must have their weights.
            steps: only these, by key or index; empty: all.
            folders: kind of set -> the user's folder.
            options: of the command.
            store: the folder of the counts.
            here: whether they are evaluated on this machine.

        Raises:
            UsageError: as :func:`~ablations.robustness.study.finished_runs` and
                :func:`~ablations.robustness.folders.read`; or if weights are not here.
            DataError: as :func:`~ablations.robustness.folders.find_sets`.
        """
        runs = finished_runs(study, steps)
        for _, _, folder in runs:
            folder.check_present()
        jobs = [
            FoldersJob(
                run,
                folder.path.absolute(),
                study.preset.data,
                study.preset.compute,
                layers=study.layers_file(run.spec),
                options=options,
            )
            for _, run, folder in runs
        ]
        _read(jobs[0])  # before the sets are listed, which may take minutes
        sets = find_sets(folders, options)
        planned, known = [], {}
        for job in jobs:
            evaluated = _read(job)
            counted = plan_counting(evaluated, sets, options, store.absolute(), here=here)
            planned.append(dataclasses.replace(job, planned=counted))
            known[job.run.key] = published(job.run.spec, evaluated.choice.image_size)
        return cls(study, planned, known)

    def plan(self) -> Plan:
        """Returns the work that is left."""
        queued = queued_runs(self.study)
        left = [job for job in self.jobs if not job.ended(self._folder(job))]
        with_slurm = [job for job in left if job.run.name in queued]
        return Plan(
            len(self.jobs),
            [job for job in left if job.run.name not in queued],
            gone=[],
            submitted=[f"{job.run.key}, seed {job.run.seed}" for job in with_slurm],
        )

    def networks(self) -> list[Network]:
        """Returns each step that has runs evaluated to the end, with their counts."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for job in self.jobs:
            if job.ended(self._folder(job)):
                counts = {one.kind.key: one.result(self.study.faults) for one in job.planned}
                found.setdefault(job.run.key, []).append(counts)
        return [
            Network(key, counts, figures, model)
            for key, counts in found.items()
            for model, figures in [self.published[key]]
        ]

    def notes(self) -> list[str]:
        """Returns sentences on how the images are prepared, and on damaged files of counts."""
        return [*describe_sets(self.jobs[0].planned), *self.study.faults.values()]

    def _folder(self, job: FoldersJob) -> RunFolder:
        return RunFolder(job.folder, faults=self.study.faults)


def _read(job: FoldersJob) -> Evaluated:
    job.load_custom_layers()
    return read(str(job.folder), job.options)
