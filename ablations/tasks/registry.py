"""The task of a run or a preset, by its name. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ablations.metrics import CLASSIFICATION, DETECTION, SEGMENTATION
from ablations.tasks.classification import Classification
from ablations.tasks.detection import Detection
from ablations.tasks.segmentation import Segmentation
from ablations.tasks.task import Task

_TASKS: Mapping[str, Callable[..., Task]] = {
    CLASSIFICATION.task: Classification,
    DETECTION.task: Detection,
    SEGMENTATION.task: Segmentation,
}


def make_task(choice: Mapping[str, Any]) -> Task:
    """Returns a task.

    Args:
        choice: its ``name``, and the name of its ``head``; empty: classification.
    """
    head = {"head": choice["head"]} if "head" in choice else {}
    return _TASKS[choice.get("name", CLASSIFICATION.task)](**head)
