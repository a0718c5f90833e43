"""What a launch does about each run that is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ablations.records import ARCHIVE, DamagedError, Run, RunFolder, RunStatus, Study, read_statuses
from ablations.tasks.registry import make_task
from modernize.closed_form import ClosedFormCost
from modernize.steps import Variant


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a study, before it is launched.

    Attributes:
        now: the run and its status.
        cost: of the network at the preset's image size.
        epochs_done: epochs that an unfinished run has behind it.
    """

    now: RunStatus
    cost: ClosedFormCost
    epochs_done: int

    @property
    def variant(self) -> Variant:
        """The variant of the run."""
        return self.now.variant

    @property
    def run(self) -> Run:
        """The run."""
        return self.now.run

    @property
    def folder(self) -> RunFolder:
        """The folder of its files."""
        return self.now.folder

    @property
    def blocked(self) -> str:
        """Why it must not be trained now; empty: it may be."""
        if self.now.with_scheduler:
            return f"{self.now.status}{f' as job {self.now.job}' if self.now.job else ''}"
        unknown = self.now.fault is not None and not isinstance(self.now.fault, DamagedError)
        return self.now.detail if unknown else ""  # it may be settled

    @property
    def needed(self) -> bool:
        """Whether it is still to be trained."""
        return not self.blocked and not self.now.status.settled

    @property
    def macs_left(self) -> int:
        """MACs per training image, times the epochs still to be trained."""
        return self.cost.flops * (self.run.recipe.epochs - self.epochs_done)

    @property
    def fraction_left(self) -> float:
        """The fraction of its epochs that is still to be trained."""
        return 1 - self.epochs_done / self.run.recipe.epochs if self.needed else 0.0

    @property
    def action(self) -> str:
        """What a launch does with it, in a few words."""
        record = self.now.record
        if record and record.settled:
            result = f", {record.result}" if record.result else ""
            source = f" (in {ARCHIVE})" if self.folder.only_archived else ""
            return f"skip: {record.status}{result}{source}"
        if self.blocked:
            return f"skip: {self.blocked}"
        if self.now.fault:
            return "run again: its record is damaged"
        if self.epochs_done:
            return f"continue after epoch {self.epochs_done}"
        return "run again: it failed" if record else "run"


def plan_runs(study: Study, asked: Sequence[tuple[Variant, int]]) -> list[Planned]:
    """Returns the plan for these variants and seeds, from their status now."""
    statuses = {status.run.name: status for status in read_statuses(study)}
    planned = []
    for variant, seed in asked:
        now = statuses[study.run(variant, seed).name]
        done = min(now.folder.epochs_done(), now.run.recipe.epochs)
        network = make_task(now.run.task).cost(now.run.spec, study.preset.data.image_size)
        planned.append(Planned(now, network, done))
    return planned
