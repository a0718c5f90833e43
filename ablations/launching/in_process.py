"""The debug executor: runs trained in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from ablations.devices import find_slots
from ablations.launching.executors import Event, Executor
from ablations.launching.job import Job, record_failure, write_pending_jobs
from ablations.records import RunFolder


class InProcess(Executor):
    """Trains one run at a time in this process, for a debugger.

    A run that fails is recorded, and its error is raised again, so that a debugger stops there.
    """

    background = False

    def launch(self, study: Path, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        """See :meth:`Executor.launch`."""
        [slot] = find_slots(1)
        for number, job in enumerate(jobs):
            write_pending_jobs(study, jobs[number:])
            folder = RunFolder(job.folder)
            try:
                record = job.run_in(folder, slot, lambda: True)
            except Exception as error:
                record_failure(folder, error)
                raise
            if record is not None:
                yield Event(ended=[(job, record)])
