"""The exceptions a user can meet, and the wording they share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RoadmapError(Exception):
    """Something failed although the request was sound; the command line exits with status 1."""

    exit_status = 1


class UsageError(RoadmapError):
    """The request itself is wrong; the command line exits with status 2."""

    exit_status = 2


class SpecError(UsageError):
    """A network description that cannot be built; names every fault it has."""


class WeightsError(UsageError):
    """A checkpoint that cannot be read, or does not fit; names every tensor that is in the way."""


class CustomLayersError(UsageError):
    """A file of custom layers that cannot be used, or a custom layer whose file is not loaded."""


class UnknownNameError(UsageError):
    """A name that is not among the valid ones; says the closest match and lists them all.

    Args:
        kind: what the name stands for, such as ``"step"``.
        value: what was given.
        valid: every name that would have been accepted.
    """

    def __init__(self, kind: str, value: object, valid: Iterable[object]) -> None:
        names = [str(name) for name in valid]
        given = str(value)
        given = given if len(given) <= 100 else f"{given[:100]}..."
        close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {kind} {given!r}.{hint} Valid: {', '.join(names)}.")
