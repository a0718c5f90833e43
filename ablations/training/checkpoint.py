"""Checkpoints: the state of a run between two updates. The last two are kept.

A file has a line with the SHA-256 of the rest, which ``torch.save`` wrote. Only tensors and plain
values are read: a checkpoint can run no code.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ablations.records import WEIGHTS
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


def save(folder: Path, update: int, state: dict[str, Any]) -> None:
    """Writes a checkpoint, completely or not at all, and removes all except the last two.

    Args:
        folder: the run's folder.
        update: number of updates done; orders the checkpoints.
        state: tensors and plain values.

    Raises:
        CheckpointError: naming the file and the reason; earlier checkpoints are kept.
    """
    with _bytes(state) as content:
        digest = hashlib.sha256(content).hexdigest().encode() + b"\n"
        _write(path_of(folder, update), digest, content)
    for old in [path for path in find(folder) if (_update_of(path) or 0) <= update][KEPT:]:
        old.unlink(missing_ok=True)


def save_weights(folder: Path, weights: dict[str, Any]) -> None:
    """Writes the weights of a finished run, for :func:`modernize.weights.read`.

    Args:
        folder: the run's folder.
        weights: ``{"network": state dict, "ema": state dict or None, "spec": of the network,
            "run": its name, "task": its task, "images": how images are prepared}``; the last two
            may be missing.

    Raises:
        CheckpointError: naming the file and the reason.
    """
    with _bytes(weights) as content:
        _write(folder / WEIGHTS, content)


def beside_weights(source: Path, key: str) -> Any:
    """Returns a value that :func:`save_weights` wrote under a key; None if there is none.

    Args:
        source: a run's folder, or a file of weights, which may be of any program.
        key: ``run``, ``spec``, ``task`` or ``images``.
    """
    file = source / WEIGHTS if source.is_dir() else source
    try:
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # the reader of the weights reports it
        return None
    return held.get(key) if isinstance(held, dict) else None


def load(
    folder: Path, max_bytes: int, check: Callable[[Any, int], None] = lambda _state, _update: None
) -> dict[str, Any] | None:
    """Returns the newest usable checkpoint, on the CPU, or None if there is none.

    Newer ones that cannot be used are renamed, and reported on standard output with the reason.

    Args:
        folder: the run's folder.
        max_bytes: bytes that a checkpoint of the run may have.
        check: called with a checkpoint's content, and the updates that its file name states;
            raises UnusableError.
    """
    for path in _candidates(folder):
        try:
            state = read(path, max_bytes)
            check(state, _update_of(path) or 0)
            return state
        except UnusableError as error:
            echo(f"{path} cannot be used: {error}. {_set_aside(path)}")
    return None


def read(path: Path, max_bytes: int) -> dict[str, Any]:
    """Returns the content of a checkpoint; it can run no code, and needs no memory beyond its size.

    Raises:
        UnusableError: for anything except a complete file that :func:`save` wrote.
    """
    try:
        if _update_of(path) is None:
            raise ValueError("its name does not state the update after which it was written")
        digest, _, content = read_bytes(path, max_bytes).partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise ValueError("its content does not match its checksum")
        check_zip(io.BytesIO(content))
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        return state
    except Exception as error:  # damaged bytes can raise any error
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        reason = reason or type(error).__name__
        raise UnusableError(reason.removesuffix(".")) from error


def remove(folder: Path) -> None:
    """Removes all checkpoints of a finished run, and unfinished files of killed processes.

    Unusable checkpoints, which were renamed, are kept.
    """
    remove_leftovers(folder)
    for path in find(folder):
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes unfinished files of killed processes."""
    for path in [*folder.glob(".checkpoint-*"), *folder.glob(f".{WEIGHTS}.*")]:
        path.unlink(missing_ok=True)


def find(folder: Path) -> list[Path]:
    """Returns a run's checkpoints, newest first, usable or not."""
    found = [path for path in _candidates(folder) if _update_of(path) is not None]
    return [path for path in found if path.is_file()]


def path_of(folder: Path, update: int) -> Path:
    """Returns the path of the checkpoint after this number of updates."""
    return folder / f"checkpoint-{update:09d}.pt"


def _candidates(folder: Path) -> list[Path]:
    """Returns all entries with the name of a checkpoint, newest first."""

    def newness(path: Path) -> tuple[bool, int, str]:
        update = _update_of(path)
        return update is None, update or 0, path.name

    return sorted(folder.glob("checkpoint-*.pt"), key=newness, reverse=True)


def _update_of(path: Path) -> int | None:
    found = re.fullmatch(r"checkpoint-(\d{9,15})\.pt", path.name, flags=re.ASCII)
    return int(found[1]) if found else None


def _set_aside(path: Path) -> str:
    """Renames an unusable checkpoint, so that it is not tried again; returns a message."""
    try:
        name = set_aside(path, "unusable").name
    except ResultsError as error:
        return str(error)
    return f"It was renamed to {name}. The run resumes from an earlier checkpoint, or starts again."


def _bytes(state: dict[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def _write(path: Path, *parts: bytes | memoryview) -> None:
    advice = "Make room and launch the study again; it resumes from the last good checkpoint."
    with atomic_write(path, fault=CheckpointError, advice=advice) as file:
        for part in parts:
            file.write(part)
