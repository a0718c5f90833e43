"""The state of a run between two epochs, written aside and renamed."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from modernize.errors import RoadmapError


class CheckpointError(RoadmapError):
    """A checkpoint that cannot be written."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint: whole and on the disk, or not at all.

    Raises:
        CheckpointError: naming the file and the reason; the checkpoint before it stays.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except (OSError, RuntimeError) as error:
        aside.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error}. Make room and run the study again; "
            "it goes on from the checkpoint before."
        ) from error


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Returns a checkpoint, or None where there is none or it is damaged.

    Only tensors and plain values are read: a checkpoint can run no code.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        print(f"{path} is damaged ({error}); starting from the first epoch.")
        return None
    return state
