"""The exceptions that are shown to a user as a message, and their common wording."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RoadmapError(Exception):
    """A failure although the request was valid; the command line exits with status 1."""

    exit_status = 1


class UsageError(RoadmapError):
    """A wrong request; the command line exits with status 2."""

    exit_status = 2


class SpecError(UsageError):
    """A network description that is not valid; names every fault."""


class WeightsError(UsageError):
    """A checkpoint that cannot be read or does not fit; names every tensor with a fault."""


class CustomLayersError(UsageError):
    """A file of custom layers that cannot be used, or a custom layer whose file is not loaded."""


class UnknownNameError(UsageError):
    """An unknown name; the message has the closest valid name and lists all of them.

    Args:
        kind: of thing that the name is for, such as ``"step"``.
        value: the unknown name.
        valid: all valid names.
    """

    def __init__(self, kind: str, value: object, valid: Iterable[object]) -> None:
        names = [str(name) for name in valid]
        given = str(value)
        given = given if len(given) <= 100 else f"{given[:100]}..."
        close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {kind} {given!r}.{hint} Valid: {', '.join(names)}.")
