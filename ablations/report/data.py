"""The data of a report: records, metrics and the logs of failed runs, each read once."""

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

MOST_LOGS = 40  # failed runs that are shown with their logs; the others are only counted
LOG_LINES = 15


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run's accuracy and training loss by epoch.

    Attributes:
        seed: of the run.
        finished: whether the run counts.
        epochs: counted from 1.
        top1: after each epoch, in percent.
        loss: mean training loss of each epoch; NaN if it is not known.
    """

    seed: int
    finished: bool
    epochs: FloatArray
    top1: FloatArray
    loss: FloatArray


@dataclasses.dataclass(frozen=True)
class FailedRun:
    """A run that ended without a result that counts.

    Attributes:
        step, seed: which one.
        status: diverged, collapsed, failed or unreadable.
        reason: as text.
        log: the last lines of its log; empty if it has none.
    """

    step: str
    seed: int
    status: str
    reason: str
    log: str


@dataclasses.dataclass(frozen=True)
class ReportData:
    """The data of a study's runs.

    Attributes:
        outcomes: by variant.
        curves: variant -> the curves of its runs that have trained an epoch or more.
        failed_runs: the first :data:`MOST_LOGS` of them.
        failed_count: the number of all failed runs.
    """

    outcomes: Mapping[str, Outcomes]
    curves: Mapping[str, tuple[Curve, ...]]
    failed_runs: tuple[FailedRun, ...]
    failed_count: int

    @property
    def records(self) -> Iterator[Record]:
        """All records, variant by variant."""
        return (record for o in self.outcomes.values() for record in o.records.values())


def read_data(study: Study) -> ReportData | None:
    """Reads the data of a study's runs; None if only their summary is left."""
    if only_summary(study):
        return None
    outcomes = read_outcomes(study)
    curves: dict[str, list[Curve]] = {variant.key: [] for variant in study.variants}
    failed_runs: list[FailedRun] = []
    count = 0
    submissions = read_submissions(study.folder, study.faults)
    for variant, run, folder in study.runs():
        key, seed = variant.key, run.seed
        status = outcomes[key].statuses[seed]
        curve = _curve(folder, seed, status) if status != "missing" else None
        damage = study.faults.get(folder.metrics, "")
        if curve is not None:
            curves[key].append(curve)
        if damage or status not in (Status.FINISHED, "running", "missing"):
            count += 1
            if len(failed_runs) < MOST_LOGS:
                record = outcomes[key].records.get(seed)
                fault = study.faults.get(folder.path / "record.json", "")
                reason = damage or (record.reason if record else fault)
                status = "unreadable" if damage else status
                job_log = log_of(study.folder, submissions, run.name)
                log = last_lines(folder.log, LOG_LINES) or (
                    last_lines(job_log, LOG_LINES) if job_log else ""
                )
                failed_runs.append(FailedRun(key, seed, status, reason, log))
    return ReportData(
        outcomes, {key: tuple(found) for key, found in curves.items()}, tuple(failed_runs), count
    )


def _curve(folder: RunFolder, seed: int, status: str) -> Curve | None:
    names = ("epoch", "top1", "train_loss")
    points = [[row.get(name) for name in names] for row in folder.read_metrics()]
    if not points:
        return None
    array = np.array(points, dtype=float)  # None becomes NaN
    return Curve(seed, status == Status.FINISHED, array[:, 0], array[:, 1], array[:, 2])
