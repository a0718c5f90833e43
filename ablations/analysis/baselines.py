"""The baseline of a step: the step it builds on, or the nearest one before it with runs."""

from __future__ import annotations

from collections.abc import Container, Mapping

PARENT = "parent"
"""The choice of baseline that compares each variant with the step it builds on."""


def nearest_measured(
    step: str, parents: Mapping[str, str | None], measured: Container[str]
) -> str | None:
    """Returns the nearest step that another one builds on, directly or not, and that has runs.

    Args:
        step: its key.
        parents: step -> the step that it builds on, for all known steps.
        measured: the steps that have finished runs.

    Returns:
        None if no step before it has any.
    """
    visited, parent = {step}, parents.get(step)
    while parent and parent not in visited:
        if parent in measured:
            return parent
        visited.add(parent)
        parent = parents.get(parent)
    return None


def baseline_of(step: str, parents: Mapping[str, str | None], measured: Container[str]) -> str:
    """Returns the key of a step's baseline; of a step that cannot be compared, its parent's."""
    found = nearest_measured(step, parents, measured) if step in measured else None
    return found or parents.get(step) or ""
