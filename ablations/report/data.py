"""What a report is made from: records, metrics and the logs of what went wrong, each read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ablations.analysis.outcomes import Outcomes, read_outcomes
from ablations.analysis.summary import only_summary
from ablations.records import Record, RunFolder, Status, Study, last_lines
from ablations.records.submissions import log_of, read_submissions

FloatArray = npt.NDArray[np.float64]

MOST_LOGS = 40  # of runs that went wrong; of the others only the number is told
LOG_LINES = 15


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run's accuracy and training loss over its epochs.

    Attributes:
        seed: of the run.
        finished: whether the run counts.
        epochs: counted from 1.
        top1: after each of them, in percent.
        loss: mean training loss of each of them; NaN where it is not known.
    """

    seed: int
    finished: bool
    epochs: FloatArray
    top1: FloatArray
    loss: FloatArray


@dataclasses.dataclass(frozen=True)
class Trouble:
    """A run that ended, and not well.

    Attributes:
        step, seed: which one.
        state: diverged, collapsed, failed or unreadable.
        reason: in words.
        log: the last lines of its log; empty where there is none.
    """

    step: str
    seed: int
    state: str
    reason: str
    log: str


@dataclasses.dataclass(frozen=True)
class ReportData:
    """What the runs of a study left behind.

    Attributes:
        ends: variant -> how its runs ended.
        curves: variant -> its runs that have trained an epoch or more.
        troubles: the first :data:`MOST_LOGS` runs that ended, and not well.
        trouble_count: how many there are in all.
    """

    ends: Mapping[str, Outcomes]
    curves: Mapping[str, tuple[Curve, ...]]
    troubles: tuple[Trouble, ...]
    trouble_count: int

    @property
    def records(self) -> Iterator[Record]:
        """All records, variant by variant."""
        return (record for ends in self.ends.values() for record in ends.records.values())


def gather(study: Study) -> ReportData | None:
    """Reads what the runs of a study left behind; None where only their summary was kept."""
    if only_summary(study):
        return None
    ends = read_outcomes(study)
    curves: dict[str, list[Curve]] = {variant.key: [] for variant in study.variants}
    troubles: list[Trouble] = []
    count = 0
    submissions = read_submissions(study.folder, study.faults)
    for variant, run, folder in study.runs():
        key, seed = variant.key, run.seed
        state = ends[key].states[seed]
        curve = _curve(folder, seed, state) if state != "missing" else None
        damage = study.faults.get(folder.metrics, "")
        if curve is not None:
            curves[key].append(curve)
        if damage or state not in (Status.FINISHED, "running", "missing"):
            count += 1
            if len(troubles) < MOST_LOGS:
                record = ends[key].records.get(seed)
                unread = study.faults.get(folder.path / "record.json", "")
                reason = damage or (record.reason if record else unread)
                state = "unreadable" if damage else state
                kept = log_of(study.folder, submissions, run.name)
                log = last_lines(folder.log, LOG_LINES) or (
                    last_lines(kept, LOG_LINES) if kept else ""
                )
                troubles.append(Trouble(key, seed, state, reason, log))
    return ReportData(
        ends, {key: tuple(found) for key, found in curves.items()}, tuple(troubles), count
    )


def _curve(folder: RunFolder, seed: int, state: str) -> Curve | None:
    names = ("epoch", "top1", "train_loss")
    points = [[row.get(name) for name in names] for row in folder.read_metrics()]
    if not points:
        return None
    array = np.array(points, dtype=float)  # None becomes NaN
    return Curve(seed, state == Status.FINISHED, array[:, 0], array[:, 1], array[:, 2])
