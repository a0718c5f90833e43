"""Files of a results folder: written atomically, and checked against a schema when read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from modernize import files
from modernize.errors import RoadmapError

ADVICE = "Free space or change permissions there, or choose another folder with --results."
AGAIN = "delete it and run the study again"

Faults = dict[Path, str]
"""File -> a sentence that says what is wrong with it."""


class ResultsError(RoadmapError):
    """A results folder that cannot be read or written."""


class DamagedError(ResultsError):
    """A file of a results folder that can be read, but whose content is not valid."""


def read_json(
    path: Path, schema: TypeAdapter[Any] | None = None, advice: str = AGAIN
) -> dict[str, Any] | None:
    """Returns a JSON object, or None if there is no such file.

    Args:
        path: of the file.
        schema: of its values.
        advice: for the user, if it is damaged.

    Raises:
        DamagedError: if its content is not valid; with the file and the reason.
        ResultsError: if it cannot be read.
    """
    try:
        values = _object(files.read_bytes(path))
        check(values, schema)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise DamagedError(f"{path} is damaged ({error}); {advice}.") from error
    return values


def read_or_note(path: Path, schema: TypeAdapter[Any], faults: Faults) -> dict[str, Any] | None:
    """Returns a JSON object; None if there is none, or if it is damaged, which is noted."""
    try:
        return read_json(path, schema, "it is ignored")
    except ResultsError as error:
        faults[path] = str(error)
        return None


def read_lines(path: Path, schema: TypeAdapter[Any], faults: Faults) -> list[dict[str, Any]]:
    """Returns the JSON objects of a file, one per line; none if there is no such file.

    Args:
        path: of the file.
        schema: of a line's values; other lines are ignored.
        faults: gets a sentence about ignored lines.
    """
    try:
        content = files.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        faults[path] = f"{path} cannot be read ({error.strerror}); it is ignored."
        return []
    rows, damaged = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            values = _object(line)
            check(values, schema)
            rows.append(values)
        except ValueError as error:
            damaged.append(f"line {number} ({error})")
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        faults[path] = f"{path}: {damaged[0]}{more} cannot be read; the rest is used."
    return rows


def check(values: Any, schema: TypeAdapter[Any] | None) -> None:
    """Raises ValueError that names the first invalid value."""
    try:
        if schema is not None:
            schema.validate_python(values)
    except ValidationError as error:
        raise ValueError(reason_of(error)) from None


def reason_of(error: ValidationError) -> str:
    """Returns the first fault: "top1: input should be a valid number"."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}" if where else message


def _object(content: bytes) -> dict[str, Any]:
    """Returns a JSON object.

    Raises:
        ValueError: for any other content.
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
    """Writes a JSON object atomically."""
    write_text(path, json.dumps(values, indent=1) + "\n", flush=flush)


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Appends a JSON object on a new line, even if an interrupted writer left half a line.

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
    """Writes a text file atomically."""
    write_bytes(path, text.encode(errors="backslashreplace"), flush=flush)


def write_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Writes a file atomically; with ``flush`` it survives a power failure."""
    files.write_bytes(path, content, fault=ResultsError, advice=ADVICE, flush=flush)


def set_aside(path: Path, kind: str = "damaged") -> Path:
    """Renames a file that cannot be used, so that it is kept, and returns its new path."""
    names = (f"{path.name}.{kind}", *(f"{path.name}.{kind}-{n}" for n in range(2, 1000)))
    target = next(p for name in names if not os.path.lexists(p := path.with_name(name)))
    try:
        return path.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error


def make_folder(path: Path) -> None:
    """Creates a folder and its parents, if they do not exist."""
    files.make_folder(path, fault=ResultsError, advice=ADVICE)


def unwritable(path: Path, error: OSError) -> ResultsError:
    """Returns the error for a file that cannot be written."""
    return ResultsError(f"cannot write {path}: {error.strerror or error}. {ADVICE}")
