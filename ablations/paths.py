"""Paths as people write them in options and files: with ``~``, ``~user``, ``$VAR``, ``${VAR}``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from modernize.errors import UsageError

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)


def expand(text: str, folder: Path = Path()) -> str:
    """Returns a path with the user's folder and the variables in it replaced, as a shell does.

    What exists as it is written is meant as it is written, so that any file can be named.

    Args:
        text: as it was written.
        folder: what a path that is not absolute starts from.

    Raises:
        UsageError: for an empty path, a NUL in it, an unknown user, and a variable that is not set
            or is empty.
    """
    if not text:
        raise UsageError("the path is empty; write . for the folder you are in.")
    if "\0" in text:
        raise UsageError(f"{text!r} is not a path: no file's name has a NUL character.")
    if os.path.lexists(folder / text):
        return text
    for plain, braced in _VARIABLE.findall(text):
        name = plain or braced
        if not os.environ.get(name):
            state = "is empty" if name in os.environ else "is not set"
            raise UsageError(f"{text!r}: the variable {name} {state}, and no file has this name.")
    expanded = os.path.expanduser(text)  # noqa: PTH111  # a Path would lose ./ and fail without a home
    homeless = os.environ.get("HOME") == "" and text.partition("/")[0] == "~"
    if text.startswith("~") and (expanded == text or homeless):
        user = text.partition("/")[0]
        raise UsageError(
            f"{text!r}: the folder of {user} is not known here. Give the whole path, or ./{text} "
            "for a file of this name."
        )
    return os.path.expandvars(expanded)
