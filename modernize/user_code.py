"""Runs Python files of the user, and reports their errors as messages."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

from modernize.errors import RoadmapError
from modernize.files import read_bytes


def digest_of(content: bytes) -> str:
    """Returns 16 hexadecimal digits that identify a file's content."""
    return hashlib.sha256(content).hexdigest()[:16]


def read_code(path: Path, kind: str, fault: type[RoadmapError]) -> bytes:
    """Returns the content of a Python file.

    Args:
        path: of the file.
        kind: of file, such as "file of custom layers", for messages.
        fault: type of the error to raise.

    Raises:
        RoadmapError: of type ``fault``, if it cannot be read or is not text in UTF-8.
    """
    try:
        content = read_bytes(path)
        content.decode()  # a study keeps it as text
    except OSError as error:
        raise fault(f"the {kind} {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise fault(f"the {kind} {path} is not text in UTF-8: {error}.") from error
    return content


def run_code(path: Path, content: bytes, kind: str, fault: type[RoadmapError]) -> types.ModuleType:
    """Runs exactly these bytes as a module, so that a digest is of the code that was run.

    Args:
        path: where the file is, for messages.
        content: of the file.
        kind: of file, such as "file of custom layers", for messages.
        fault: type of the error to raise.

    Raises:
        RoadmapError: of type ``fault``, if the code fails.
    """
    name = f"{kind.replace(' ', '_')}_{digest_of(content)}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # as import does; dataclasses look themselves up there
    try:
        with reporting_errors(path, f"the {kind} {path} fails", fault):
            exec(compile(content, str(path), "exec"), module.__dict__)  # noqa: S102  # as import does
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


@contextlib.contextmanager
def reporting_errors(path: Path, start: str, fault: type[RoadmapError]) -> Iterator[None]:
    """Turns any exception of the code in a file into an error of type ``fault``.

    That includes ``SystemExit``, which would end a command without a message. Only Ctrl-C passes,
    unless the file itself raises ``KeyboardInterrupt``.

    Args:
        path: of the file.
        start: first words of the message.
        fault: type of the error to raise.
    """
    try:
        yield
    except RoadmapError:
        raise
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        in_file = last.filename == str(path) and "KeyboardInterrupt" in (last.line or "")
        if isinstance(error, KeyboardInterrupt) and not in_file:
            raise
        raise fault(f"{start}: {_explain(error, path)}") from error


def _explain(error: BaseException, path: Path) -> str:
    """Returns an error in one line, with the line of the file that raised it."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    try:
        text = (str(error).splitlines() or [""])[0]
    except Exception:  # of the error's own __str__
        text = "its text cannot be shown"
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")
