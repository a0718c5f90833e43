"""The state of a run between two updates: written aside, flushed and renamed; two are kept.

A file holds a line with the SHA-256 of what follows, and then what ``torch.save`` wrote. Reading
takes tensors and plain values only: a checkpoint can run no code.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from modernize.errors import RoadmapError
from modernize.files import replacing

KEPT = 2


class CheckpointError(RoadmapError):
    """A checkpoint that cannot be written."""


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
    _write(folder / f"checkpoint-{update:09d}.pt", digest, content)
    for old in find(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def save_weights(folder: Path, weights: dict[str, Any]) -> None:
    """Writes what a run came to, as :func:`modernize.weights.read` takes it.

    Args:
        folder: the run's folder.
        weights: ``{"network": state dict, "ema": state dict or None, "spec": of the network}``.

    Raises:
        CheckpointError: naming the file and the reason.
    """
    _write(folder / WEIGHTS, _bytes(weights))


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """Returns the newest checkpoint that is whole, or None where there is none.

    Every damaged one on the way is named on standard output.
    """
    for path in find(folder):
        try:
            return _read(path, device)
        except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            print(f"{path} is damaged ({reason}); trying the one before it.")
    return None


def remove(folder: Path) -> None:
    """Removes every checkpoint of a run that has come to its end, and what a killed one left."""
    for path in [*find(folder), *folder.glob(".checkpoint-*"), *folder.glob(f".{WEIGHTS}.*")]:
        path.unlink(missing_ok=True)


def find(folder: Path) -> list[Path]:
    """Returns a run's checkpoints, newest first."""
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    digest, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("its content is not what its checksum says")
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return state


def _bytes(state: dict[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def _write(path: Path, *parts: bytes | memoryview) -> None:
    advice = "Make room and run the study again; it goes on from the last good checkpoint."
    with replacing(path, fault=CheckpointError, advice=advice) as file:
        for part in parts:
            file.write(part)
