"""JSON files of a results folder: written whole or not at all, and checked when they are read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from modernize import files
from modernize.errors import RoadmapError

ADVICE = "Make room or give rights there, or name another folder with --results."
AGAIN = "delete it and run the study again"

Faults = dict[Path, str]
"""What is wrong with files that were read: a sentence for each."""


class ResultsError(RoadmapError):
    """A results folder that cannot be read or written."""


class DamagedError(ResultsError):
    """A file of a results folder that can be read, and does not hold what it should."""


def read_json(
    path: Path, form: TypeAdapter[Any] | None = None, advice: str = AGAIN
) -> dict[str, Any] | None:
    """Returns a JSON object, or None if there is no such file.

    Args:
        path: of the file.
        form: what its values must be.
        advice: what the user can do if it is damaged.

    Raises:
        DamagedError: if it does not hold what it should: which file, and what is wrong.
        ResultsError: if it cannot be read, so that nobody knows what it holds.
    """
    try:
        values = _object(files.read_bytes(path))
        check(values, form)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error}); {advice}.") from error
    return values


def read_or_note(path: Path, form: TypeAdapter[Any], faults: Faults) -> dict[str, Any] | None:
    """Returns a JSON object; None, and a note of it, if there is something else."""
    try:
        return read_json(path, form, "it is passed over")
    except ResultsError as error:
        faults[path] = str(error)
        return None


def read_lines(path: Path, form: TypeAdapter[Any], faults: Faults) -> list[dict[str, Any]]:
    """Returns the JSON objects of a file, one a line; none if there is no such file.

    Args:
        path: of the file.
        form: what the values of a line must be; any other line is passed over.
        faults: where that is noted.
    """
    try:
        content = files.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        faults[path] = f"{path} cannot be read ({error.strerror}); it is passed over."
        return []
    rows, damaged = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            values = _object(line)
            check(values, form)
            rows.append(values)
        except ValueError as error:
            damaged.append(f"line {number} ({error})")
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        faults[path] = f"{path}: {damaged[0]}{more} cannot be read; the rest is used."
    return rows


def check(values: Any, form: TypeAdapter[Any] | None) -> None:
    """Raises ValueError, which names the first value that is not what it must be."""
    try:
        if form is not None:
            form.validate_python(values)
    except ValidationError as error:
        raise ValueError(reason_of(error)) from None


def reason_of(error: ValidationError) -> str:
    """Returns which value is wrong, and how: "top1: input should be a valid number"."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said[:1].lower()}{said[1:]}" if where else said


def _object(content: bytes) -> dict[str, Any]:
    """Returns a JSON object.

    Raises:
        ValueError: for anything else, saying what in a few words.
    """
    try:
        values = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_doubles)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    return values


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key occurs twice")
    return values


def write_json(path: Path, values: Mapping[str, Any], *, flush: bool = True) -> None:
    """Writes a JSON object, whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + "\n", flush=flush)


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Adds a JSON object as a line of its own, whatever an interrupted writer left at the end.

    Raises:
        ResultsError: if it cannot be written.
    """
    line = json.dumps(values).encode() + b"\n"
    try:
        if path.is_symlink():  # a link is replaced, never followed
            write_bytes(path, files.read_bytes(path) if path.exists() else b"")
        with path.open("ab+") as file:
            torn = file.tell() and file.seek(-1, 2) is not None and file.read(1) != b"\n"
            file.write(b"\n" + line if torn else line)
    except OSError as error:
        raise unwritable(path, error) from error


def write_text(path: Path, text: str, *, flush: bool = True) -> None:
    """Writes a text file, whole or not at all."""
    write_bytes(path, text.encode(errors="backslashreplace"), flush=flush)


def write_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Writes a file, whole or not at all; ``flush``: so that it outlasts a power cut."""
    files.write_bytes(path, content, fault=ResultsError, advice=ADVICE, flush=flush)


def set_aside(path: Path, kind: str = "damaged") -> Path:
    """Renames a file that cannot be used, so that it is kept beside, and returns its new path."""
    names = (f"{path.name}.{kind}", *(f"{path.name}.{kind}-{n}" for n in range(2, 1000)))
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
