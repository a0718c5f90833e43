"""JSON files of a results folder, written aside and renamed: no reader sees half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modernize import files
from modernize.errors import RoadmapError

ADVICE = "Make room or give rights there, or name another folder with --results."


class ResultsError(RoadmapError):
    """A results folder that cannot be read or written."""


class DamagedError(ResultsError):
    """A file of a results folder that can be read, and does not hold what it should."""


def read_json(path: Path) -> dict[str, Any] | None:
    """Returns a JSON object, or None where there is no such file.

    Raises:
        DamagedError: where it is no whole JSON object.
        ResultsError: where it cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise DamagedError(
            f"{path} cannot be read ({error}); delete it and run the study again."
        ) from error
    if not isinstance(values, dict):
        raise DamagedError(f"{path} is no JSON object; delete it and run the study again.")
    return values


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the JSON objects of a file, one a line; none where there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def write_json(path: Path, values: Mapping[str, Any], *, flush: bool = True) -> None:
    """Writes a JSON object, whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + "\n", flush=flush)


def write_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Writes a text file, whole or not at all."""
    write_bytes(path, text.encode(errors="backslashreplace"), flush=flush)


def write_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Writes a file, whole or not at all; ``flush``: so that it outlasts a power cut."""
    files.write_bytes(path, content, fault=ResultsError, advice=ADVICE, flush=flush)


def set_aside(path: Path) -> Path:
    """Renames a damaged file, so that what it held is kept beside it, and returns its new path."""
    names = (f"{path.name}.damaged", *(f"{path.name}.damaged-{n}" for n in range(2, 1000)))
    target = next(p for name in names if not os.path.lexists(p := path.with_name(name)))
    try:
        return path.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error


def make_folder(path: Path) -> None:
    """Makes a folder and those around it, where they are not there yet."""
    files.make_folder(path, fault=ResultsError, advice=ADVICE)


def unwritable(path: Path, error: OSError) -> ResultsError:
    """Returns what is raised where a file cannot be written."""
    return ResultsError(f"cannot write {path}: {error.strerror or error}. {ADVICE}")
