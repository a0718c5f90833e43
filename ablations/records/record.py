"""The record of how a run ended, and the words for the status of a run. No torch here."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, TypeAdapter

from ablations.metrics import METRICS, TASKS, Metric
from ablations.records.files import check
from ablations.records.schemas import PROVENANCE, ClassRow, Count, Number, Percent, Seconds

_KEYS = {*METRICS, *(task.headline.best for task in TASKS.values())}


class Status(enum.StrEnum):
    """The status of a run: the only words for it, in every command, chart and report."""

    FINISHED = "finished"  # trained to the end
    COLLAPSED = "collapsed"  # trained to the end, and no better than chance
    DIVERGED = "diverged"  # the loss became infinite or NaN
    FAILED = "failed"  # an error ended it; the next launch tries it again
    QUEUED = "queued"  # a launch or SLURM will start it
    RUNNING = "running"
    STOPPED = "stopped"  # between two launches; the next one continues from its checkpoint
    LOST = "lost"  # its SLURM job ended before the run did
    UNKNOWN = "unknown"  # submitted to SLURM, which gives no answer about its job
    MISSING = "missing"  # not started
    UNREADABLE = "unreadable"  # its record is damaged

    @property
    def settled(self) -> bool:
        """Whether training it again would only end the same way."""
        return self in (Status.FINISHED, Status.COLLAPSED, Status.DIVERGED)

    @property
    def ended(self) -> bool:
        """Whether a record can have it."""
        return self.settled or self is Status.FAILED

    @property
    def active(self) -> bool:
        """Whether it will change without a new launch."""
        return self in (Status.QUEUED, Status.RUNNING)


def _checked_provenance(values: Any) -> Any:
    check(values, PROVENANCE)
    return values


def _of_an_end(status: Status) -> Status:
    if not status.ended:
        raise ValueError(f"no run ends with the status {status}")
    return status


@dataclasses.dataclass(frozen=True)
class Record:
    """How a run ended.

    Attributes:
        status, reason: one of those that a run ends with, and why it did not finish.
        metrics: by its key, each metric that was measured after the last epoch, the headline first;
            and under :attr:`~ablations.metrics.Metric.best` the highest headline of all epochs.
        best_epoch: its epoch, counted from 1.
        epochs: epochs trained.
        train_loss: mean over the last epoch.
        val_loss: mean over the validation images after the last epoch.
        classes: a row for each class of the last evaluation: its ``name``, and its part in some of
            the metrics, None if it does not occur; empty for classification.
        seconds: spent training and evaluating, over all attempts.
        provenance: versions, device, commit and times.
    """

    status: Annotated[Status, AfterValidator(_of_an_end)]
    reason: str = ""
    metrics: Mapping[str, Percent] = dataclasses.field(default_factory=dict)
    best_epoch: Count | None = None
    epochs: Count = 0
    train_loss: Number | None = None
    val_loss: Number | None = None
    classes: tuple[ClassRow, ...] = ()
    seconds: Seconds = 0.0
    provenance: Annotated[Mapping[str, Any], BeforeValidator(_checked_provenance)] = (
        dataclasses.field(default_factory=dict)
    )
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @property
    def settled(self) -> bool:
        """Whether training it again would only end the same way."""
        return self.status.settled

    @property
    def result(self) -> str:
        """The headline after the last epoch, such as "top-1 85.25 %"; empty if not measured."""
        metric = self._headline
        return metric.name(self.metrics[metric.key]) if metric else ""

    @property
    def best_result(self) -> str:
        """The highest headline of all epochs with its unit; empty if not measured."""
        metric = self._headline
        return metric.show(self.metrics.get(metric.best)) if metric else ""

    @property
    def _headline(self) -> Metric | None:
        known = (task.headline for task in TASKS.values())
        return next((metric for metric in known if metric.key in self.metrics), None)

    def values(self) -> dict[str, Any]:
        """Returns the content of the record's file, in which the metrics are not nested."""
        values: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            if value or name != "classes":
                values |= value if name == "metrics" else {name: value}
        return values


def _nested(values: Any) -> Any:
    """Returns a record's values with the metrics in one mapping."""
    if not isinstance(values, Mapping):
        return values
    metrics = {k: v for k, v in values.items() if k in _KEYS and v is not None}
    return {**{k: v for k, v in values.items() if k not in _KEYS}, "metrics": metrics}


RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, BeforeValidator(_nested)])
