"""A study's runs in one file: what tables, statistics and reports need, and no weights.

With it a study can be kept, or shown, when the folders of its runs are gone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ablations.records.files import ResultsError, write_text

ARCHIVE = "runs.jsonl"


@dataclasses.dataclass(frozen=True)
class ArchivedRun:
    """What is kept of a run.

    Attributes:
        run: its name, which is that of its content.
        record: the values of its record.
        metrics: of each epoch, oldest first.
    """

    run: str
    record: Mapping[str, Any]
    metrics: list[dict[str, Any]]


def write_archive(study: Path, runs: Iterable[ArchivedRun]) -> Path:
    """Writes the file into a study's folder, a line a run, and returns its path."""
    lines = [json.dumps(dataclasses.asdict(run)) + "\n" for run in runs]
    write_text(study / ARCHIVE, "".join(lines))
    return study / ARCHIVE


def read_archive(study: Path) -> dict[str, ArchivedRun]:
    """Returns name -> run of the file in a study's folder; nothing where there is none.

    Raises:
        ResultsError: where it cannot be read, naming the line.
    """
    path = study / ARCHIVE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read ({error}).") from error
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            run = ArchivedRun(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ResultsError(
                f"{path}, line {number}, is no whole run ({error}); take the file from where it "
                "came from, or delete it."
            ) from error
        found[run.run] = run
    return found
