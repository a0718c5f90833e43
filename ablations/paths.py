"""Paths in options and files, with ``~``, ``~user``, ``$VAR`` and ``${VAR}`` as in a shell."""

from __future__ import annotations

import os
import re
from pathlib import Path

from modernize.errors import UsageError

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)


def expand(text: str, folder: Path = Path()) -> str:
    """Returns a path with home folder and variables replaced, as a shell does.

    If a file exists under the path as it is written, the path is not changed, so that every file
    can be named.

    Args:
        text: the path as it is written.
        folder: the base of a relative path.

    Raises:
        UsageError: for an empty path, a NUL in it, an unknown user, or a variable that is not set
            or is empty.
    """
    if not text:
        raise UsageError("the path is empty; write . for the current folder.")
    if "\0" in text:
        raise UsageError(f"{text!r} is not a path: it has a NUL character.")
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
            f"{text!r}: the home folder of {user} is unknown. Give the full path, or ./{text} for "
            "a file of this name."
        )
    return os.path.expandvars(expanded)
