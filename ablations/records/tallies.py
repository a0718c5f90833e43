"""Tallies: how many images of each part of a set a network classifies correctly, in one file.

Each part is counted once: an evaluation that was interrupted continues with the missing parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ablations.records.files import Faults, make_folder, read_or_note, write_json
from ablations.records.schemas import TALLIES, Counts


@dataclasses.dataclass(frozen=True)
class Tallies:
    """The counts of one network on one set.

    Attributes:
        key: a digest of everything that the counts depend on.
        about: the network and the set, for people.
        parts: the counts of each part that is done.
    """

    key: str
    about: Mapping[str, str]
    parts: Mapping[str, Counts]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Returns the counts of a checked JSON object."""
        parts = {name: (right, images) for name, (right, images) in values["parts"].items()}
        return cls(values["key"], values["about"], parts)

    def with_part(self, name: str, right: int, images: int) -> Self:
        """Returns the same with the counts of another part."""
        return dataclasses.replace(self, parts={**self.parts, name: (right, images)})

    def write(self, path: Path) -> None:
        """Writes the file atomically."""
        make_folder(path.parent)
        write_json(path, dataclasses.asdict(self), flush=False)


def read_tallies(path: Path, faults: Faults) -> Tallies | None:
    """Returns the counts in a file; None if there is none, or it is damaged, which is noted."""
    values = read_or_note(path, TALLIES, faults)
    return None if values is None else Tallies.of(values)
