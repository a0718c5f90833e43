"""The job of one run: its network is evaluated on the corrupted images of its study."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ablations.analysis.robustness import CLEAN, PARTS, is_complete
from ablations.launching.job import Job
from ablations.records import WEIGHTS, Record, RunFolder, Status
from ablations.records.tallies import Tallies
from ablations.units import percent

if TYPE_CHECKING:
    from ablations.devices import Slot


@dataclasses.dataclass(frozen=True)
class EvaluationJob(Job):
    """A finished run to be evaluated by one process."""

    verb: ClassVar[str] = "Evaluating"
    alone: ClassVar[bool] = True

    def follow(self, study: Path) -> str:  # noqa: ARG002
        """See :meth:`Job.follow`."""
        return (
            "When they have ended, the same command prints the table; it also evaluates what is "
            "missing then."
        )


@dataclasses.dataclass(frozen=True)
class RobustnessJob(EvaluationJob):
    """A finished run to be evaluated on corrupted images of its study.

    Attributes:
        images: the folder of the images, as of
            :class:`~ablations.robustness.made_here.CorruptedImages`.
        key: of the counts: a digest of the weights and the images.
        number: of the job, which decides where it begins.
    """

    images: Path = Path()
    key: str = ""
    number: int = 0

    def run_in(
        self, folder: RunFolder, slot: Slot, keep_going: Callable[[], bool]
    ) -> Record | None:
        """Counts the parts that are missing, and writes the counts after each.

        Returns:
            A record for the progress of the launch; None if it stopped before the end.
        """
        from ablations.robustness.count import PartCounter

        if record := self.ended(folder):
            return record
        start = time.monotonic()
        tallies = self._stored(folder) or Tallies(self.key, {"set": "corruptions made here"}, {})
        self.load_custom_layers()
        counter = PartCounter(self.run, folder.path / WEIGHTS, self.images, slot, self.compute)
        first = self.number * 29 % len(PARTS)  # so that jobs make different files of images
        for part in (*PARTS[first:], *PARTS[:first]):
            if part in tallies.parts:
                continue
            if not keep_going():
                return None
            tallies = tallies.with_part(part, *counter.count(part))
            tallies.write(folder.tallies)
        return _record(tallies, time.monotonic() - start)

    def ended(self, folder: RunFolder) -> Record | None:
        """See :meth:`Job.ended`."""
        tallies = self._stored(folder)
        return _record(tallies) if tallies and is_complete(tallies.parts) else None

    def progress(self, folder: RunFolder) -> Mapping[str, Any]:
        """See :meth:`Job.progress`."""
        tallies = self._stored(folder)
        return {"fraction": len(tallies.parts) / len(PARTS)} if tallies else {}

    def _stored(self, folder: RunFolder) -> Tallies | None:
        """Returns the counts so far; None if there are none of these weights and images."""
        tallies = folder.read_tallies()
        return tallies if tallies and tallies.key == self.key else None


def _record(tallies: Tallies, seconds: float = 0.0) -> Record:
    """Returns a record whose reason is the result in words."""
    top1 = {name: 100 * right / images for name, (right, images) in tallies.parts.items()}
    corrupted = sum(value for name, value in top1.items() if name != CLEAN) / (len(PARTS) - 1)
    said = f"clean {percent(top1[CLEAN])}, corrupted {percent(corrupted)}"
    return Record(Status.FINISHED, said, seconds=seconds)
