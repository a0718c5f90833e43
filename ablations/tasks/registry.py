"""The task of a run or a preset, by its name. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ablations.metrics import CLASSIFICATION
from ablations.tasks.classification import Classification
from ablations.tasks.task import Task

_TASKS: Mapping[str, Callable[..., Task]] = {CLASSIFICATION.task: Classification}


def make_task(choice: Mapping[str, Any]) -> Task:
    """Returns a task.

    Args:
        choice: its ``name``, and the settings of its head; empty: classification.
    """
    settings = dict(choice)
    return _TASKS[settings.pop("name", CLASSIFICATION.task)](**settings)
