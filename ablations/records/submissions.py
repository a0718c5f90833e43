"""Submissions: runs that were handed to SLURM, and the logs of their jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from ablations.records.files import Faults, make_folder, read_or_note, write_json


@dataclasses.dataclass(frozen=True)
class Submission:
    """Runs that one call handed to SLURM.

    Attributes:
        token: the name of its jobs, which is unique.
        runs: the runs' names, in the order of the array.
        jobs: the job number; None: the submitting process was killed before it knew it.
        code: the folder of the copy of the program that they run.
        commit, dirty: of that program.
        submitted: when, in seconds since 1970.
    """

    token: str
    runs: Sequence[str]
    jobs: Annotated[str, Field(pattern=r"^\d+$")] | None
    code: str
    commit: str | None
    dirty: bool | None
    submitted: float
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    def write(self, study: Path) -> None:
        """Writes the submission into a study's folder."""
        path = submissions_folder(study) / f"{self.token}.json"
        make_folder(path.parent)
        write_json(path, dataclasses.asdict(self))


_SUBMISSION = TypeAdapter(Submission)


def submissions_folder(study: Path) -> Path:
    """Returns the folder of a study's submissions."""
    return study / "submissions"


def read_submissions(study: Path, faults: Faults) -> list[Submission]:
    """Returns the submissions of a study, oldest first.

    From a damaged file only the name of its jobs is known: its submission has no runs.

    Args:
        study: the study's folder.
        faults: gets a sentence for each damaged file.
    """
    found = []
    for path in submissions_folder(study).glob("*.json"):
        values = read_or_note(path, _SUBMISSION, faults)
        if values is not None:
            found.append(_SUBMISSION.validate_python(values))
        elif path in faults:
            found.append(Submission(path.stem, (), None, "", None, None, 0))
    return sorted(found, key=lambda submission: submission.submitted)


def log_of(study: Path, submissions: Iterable[Submission], run: str) -> Path | None:
    """Returns the log that SLURM kept of a run's job, for a run that could not write its own."""
    for submission in reversed(list(submissions)):
        if run in submission.runs and submission.jobs is not None:
            number = submission.jobs
            if len(submission.runs) > 1:
                number += f"_{submission.runs.index(run)}"
            folder = submissions_folder(study) / submission.token
            for path in (folder / f"{number}_0_log.err", folder / f"{number}_0_log.out"):
                if path.is_file() and path.stat().st_size:
                    return path
    return None
