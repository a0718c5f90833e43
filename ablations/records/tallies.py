"""Tallies: how many images of each part of a set a network classifies correctly, in one file.

Each part is counted once: an evaluation that was interrupted continues with the missing parts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from ablations.records.files import Faults, make_folder, read_or_note, write_json
from ablations.records.schemas import Count, Positive

Counts = tuple[Count, Positive]
"""The number of images that are classified correctly, and of all images."""


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
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        """Checks the counts."""
        if wrong := [name for name, (right, images) in self.parts.items() if right > images]:
            raise ValueError(f"parts.{wrong[0]}: more right images than images")

    def with_part(self, name: str, right: int, images: int) -> Tallies:
        """Returns the same with the counts of another part."""
        return dataclasses.replace(self, parts={**self.parts, name: (right, images)})

    def write(self, path: Path) -> None:
        """Writes the file atomically."""
        make_folder(path.parent)
        write_json(path, dataclasses.asdict(self), flush=False)


TALLIES: TypeAdapter[Tallies] = TypeAdapter(Tallies)


def read_tallies(path: Path, faults: Faults) -> Tallies | None:
    """Returns the counts in a file; None if there is none, or it is damaged, which is noted."""
    values: dict[str, Any] | None = read_or_note(path, TALLIES, faults)
    return None if values is None else TALLIES.validate_python(values)
