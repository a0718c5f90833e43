"""The state of a run between two updates: written aside, flushed and renamed; two are kept.

A file holds a line with the SHA-256 of what follows, and then what ``torch.save`` wrote. Reading
takes tensors and plain values only: a checkpoint can run no code.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ablations.records.files import ResultsError, set_aside
from ablations.terminal import echo
from modernize.errors import RoadmapError
from modernize.files import atomic_write, read_bytes
from modernize.weight_checks import check_zip

KEPT = 2


class CheckpointError(RoadmapError):
    """A checkpoint that cannot be written."""


class UnusableError(Exception):
    """A checkpoint that is damaged, or not of the run in whose folder it is."""


WEIGHTS = "weights.pt"
"""What a finished run keeps: a plain ``torch.save`` of its state dict, and of the average's."""


def save(folder: Path, update: int, state: dict[str, Any]) -> None:
    """Writes a checkpoint, whole and on the disk or not at all, and removes all but the last two.

    Args:
        folder: the run's folder.
        update: updates done so far; orders the checkpoints.
        state: tensors and plain values.

    Raises:
        CheckpointError: naming the file and the reason; the checkpoints before it stay.
    """
    content = _bytes(state)
    digest = hashlib.sha256(content).hexdigest().encode() + b"\n"
    _write(path_of(folder, update), digest, content)
    for old in [path for path in find(folder) if (_update_of(path) or 0) <= update][KEPT:]:
        old.unlink(missing_ok=True)


def save_weights(folder: Path, weights: dict[str, Any]) -> None:
    """Writes what a run came to, as :func:`modernize.weights.read` takes it.

    Args:
        folder: the run's folder.
        weights: ``{"network": state dict, "ema": state dict or None, "spec": of the network,
            "run": its name}``.

    Raises:
        CheckpointError: naming the file and the reason.
    """
    _write(folder / WEIGHTS, _bytes(weights))


def run_of_weights(folder: Path) -> str | None:
    """Returns the run whose weights a finished run's folder holds; None if they do not say."""
    try:
        held = torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever is wrong, who reads the weights names it
        return None
    named = held.get("run") if isinstance(held, dict) else None
    return named if isinstance(named, str) else None


def load(
    folder: Path, most: int, check: Callable[[Any, int], None] = lambda _state, _update: None
) -> dict[str, Any] | None:
    """Returns the newest checkpoint that can be used, or None if there is none; on the CPU.

    Every other one on the way is named on standard output, with the reason, and set aside.

    Args:
        folder: the run's folder.
        most: bytes that a checkpoint of the run may have.
        check: is given a checkpoint's content, and the updates that its name says; raises
            UnusableError.
    """
    for path in _candidates(folder):
        try:
            state = read(path, most)
            check(state, _update_of(path) or 0)
            return state
        except UnusableError as error:
            echo(f"{path} cannot be used: {error}. {_set_aside(path)}")
    return None


def read(path: Path, most: int) -> dict[str, Any]:
    """Returns what a checkpoint holds; it can run no code, and claim no more memory than it has.

    Raises:
        UnusableError: for anything but a whole file that :func:`save` wrote.
    """
    try:
        if _update_of(path) is None:
            raise ValueError("its name does not say after which update it was written")
        digest, _, content = read_bytes(path, most).partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError("its content is not what its checksum says")
        check_zip(io.BytesIO(content))
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        return state
    except Exception as error:  # whatever the bytes of such a file lead to
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        reason = reason or type(error).__name__
        raise UnusableError(reason.removesuffix(".")) from error


def remove(folder: Path) -> None:
    """Removes every checkpoint of a run that has come to its end, and what a killed one left.

    What was set aside stays.
    """
    remove_leftovers(folder)
    for path in find(folder):
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes the unfinished files that a killed process left; it can come back no more."""
    for path in [*folder.glob(".checkpoint-*"), *folder.glob(f".{WEIGHTS}.*")]:
        path.unlink(missing_ok=True)


def find(folder: Path) -> list[Path]:
    """Returns a run's checkpoints, newest first, whether or not they can be used."""
    found = [path for path in _candidates(folder) if _update_of(path) is not None]
    return [path for path in found if path.is_file()]


def path_of(folder: Path, update: int) -> Path:
    """Returns where the checkpoint after so many updates is."""
    return folder / f"checkpoint-{update:09d}.pt"


def _candidates(folder: Path) -> list[Path]:
    """Returns everything that is called like a checkpoint, newest first, and of any kind."""

    def newness(path: Path) -> tuple[bool, int, str]:
        update = _update_of(path)
        return update is None, update or 0, path.name

    return sorted(folder.glob("checkpoint-*.pt"), key=newness, reverse=True)


def _update_of(path: Path) -> int | None:
    found = re.fullmatch(r"checkpoint-(\d{9,15})\.pt", path.name, flags=re.ASCII)
    return int(found[1]) if found else None


def _set_aside(path: Path) -> str:
    """Renames what cannot be used, so that it is not tried again, and tells about it."""
    try:
        name = set_aside(path, "unusable").name
    except ResultsError as error:
        return str(error)
    return f"It is called {name} now; the one before it is tried, or the beginning."


def _bytes(state: dict[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def _write(path: Path, *parts: bytes | memoryview) -> None:
    advice = "Make room and run the study again; it goes on from the last good checkpoint."
    with atomic_write(path, fault=CheckpointError, advice=advice) as file:
        for part in parts:
            file.write(part)
