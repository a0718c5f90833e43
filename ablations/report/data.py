"""The data of a report: records, metrics and the logs of failed runs, each read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ablations.analysis.outcomes import Outcomes, outcomes_of
from ablations.analysis.summary import only_summary
from ablations.metrics import Metric
from ablations.records import Record, RunStatus, Status, Study, last_lines, read_statuses
from ablations.records.submissions import log_of, read_submissions

FloatArray = npt.NDArray[np.float64]

MOST_LOGS = 40  # failed runs that are shown with their logs; the others are only counted
LOG_LINES = 15

FAILED = (Status.DIVERGED, Status.COLLAPSED, Status.FAILED, Status.LOST, Status.UNREADABLE)
"""The statuses of a failed run, which has no result that counts and is not under way."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run's headline and training loss by epoch.

    Attributes:
        seed: of the run.
        finished: whether the run counts.
        epochs: counted from 1.
        values: of the headline after each epoch; NaN if it was not evaluated.
        loss: mean training loss of each epoch; NaN if it is not known.
    """

    seed: int
    finished: bool
    epochs: FloatArray
    values: FloatArray
    loss: FloatArray


@dataclasses.dataclass(frozen=True)
class FailedRun:
    """A failed run.

    Attributes:
        step, seed: which one.
        status: one of :data:`FAILED`.
        reason: as text.
        log: the last lines of its log; empty if it has none.
    """

    step: str
    seed: int
    status: Status
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
    runs = read_statuses(study)
    curves: dict[str, list[Curve]] = {variant.key: [] for variant in study.variants}
    failed: list[FailedRun] = []
    submissions = read_submissions(study.folder, study.faults)
    for run in runs:
        curve = None if run.status is Status.MISSING else _curve(run, study.metrics.headline)
        if curve is not None:
            curves[run.variant.key].append(curve)
        damage = study.faults.get(run.folder.metrics, "")
        if damage or run.status in FAILED:
            status = Status.UNREADABLE if damage else run.status
            reason = damage or (run.record.reason if run.record else run.detail)
            log = ""
            if len(failed) < MOST_LOGS:
                job_log = log_of(study.folder, submissions, run.run.name)
                paths = [run.folder.log, *([job_log] if job_log else [])]
                log = next(filter(None, (last_lines(path, LOG_LINES) for path in paths)), "")
            failed.append(FailedRun(run.variant.key, run.run.seed, status, reason, log))
    return ReportData(
        outcomes_of(runs),
        {key: tuple(found) for key, found in curves.items()},
        tuple(failed[:MOST_LOGS]),
        len(failed),
    )


def _curve(run: RunStatus, metric: Metric) -> Curve | None:
    names = ("epoch", metric.key, "train_loss")
    points = [[row.get(name) for name in names] for row in run.folder.read_metrics()]
    if not points:
        return None
    array = np.array(points, dtype=float)  # None becomes NaN
    finished = run.status is Status.FINISHED
    return Curve(run.run.seed, finished, array[:, 0], array[:, 1], array[:, 2])
