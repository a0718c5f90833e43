"""The record of how a run ended, and the words for the status of a run. No torch here."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, TypeAdapter

from ablations.records.files import check
from ablations.records.schemas import PROVENANCE, Count, Number, Percent, Seconds
from ablations.units import percent


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
        top1, top5: accuracy after the last epoch, in percent; None: not measured.
        top1_best, best_epoch: the highest top-1 of all epochs, and its epoch, counted from 1.
        epochs: epochs trained.
        train_loss: mean over the last epoch.
        val_loss: mean over the validation images after the last epoch.
        seconds: spent training and evaluating, over all attempts.
        provenance: versions, device, commit and times.
    """

    status: Annotated[Status, AfterValidator(_of_an_end)]
    reason: str = ""
    top1: Percent | None = None
    top5: Percent | None = None
    top1_best: Percent | None = None
    best_epoch: Count | None = None
    epochs: Count = 0
    train_loss: Number | None = None
    val_loss: Number | None = None
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
    def accuracy(self) -> str:
        """The accuracy after the last epoch, such as "top-1 85.25 %"; empty if not measured."""
        return "" if self.top1 is None else f"top-1 {percent(self.top1)}"


RECORD = TypeAdapter(Record)
