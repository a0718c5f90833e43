"""The archive: a study's runs in one file, with all that tables and reports need, but no weights.

With it a study can be stored and shown without the folders of its runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ablations.records.files import Faults, read_lines, write_text
from ablations.records.schemas import ARCHIVED
from ablations.records.tallies import Tallies

ARCHIVE = "runs.jsonl"


@dataclasses.dataclass(frozen=True)
class ArchivedRun:
    """A run in the archive.

    Attributes:
        run: its name, which contains the digest of its content.
        record: the values of its record.
        metrics: of each epoch, oldest first.
        tallies: its counts under corruption; None if there are none.
    """

    run: str
    record: Mapping[str, Any]
    metrics: list[dict[str, Any]]
    tallies: Tallies | None = None

    def line(self) -> str:
        """Returns its line of the archive."""
        values = dataclasses.asdict(self)
        if self.tallies is None:
            del values["tallies"]
        return json.dumps(values) + "\n"


def write_archive(study: Path, runs: Iterable[ArchivedRun]) -> Path:
    """Writes the archive into a study's folder, one line per run, and returns its path."""
    write_text(study / ARCHIVE, "".join(run.line() for run in runs))
    return study / ARCHIVE


def read_archive(study: Path, faults: Faults) -> dict[str, ArchivedRun]:
    """Returns name -> run of the archive in a study's folder, as far as it can be read.

    Args:
        study: the folder.
        faults: gets a sentence about damaged lines.
    """
    lines = read_lines(study / ARCHIVE, ARCHIVED, faults)
    runs = {}
    for line in lines:
        tallies = line.pop("tallies", None)
        runs[line["run"]] = ArchivedRun(**line, tallies=Tallies.of(tallies) if tallies else None)
    return runs
