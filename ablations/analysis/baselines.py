"""What a step is compared with: the step it builds on, or else the nearest before it with runs."""

from __future__ import annotations

from collections.abc import Container, Mapping

PARENT = "parent"
"""Stands for the step that each variant builds on, or the nearest one before it with runs."""


def nearest(step: str, parents: Mapping[str, str | None], measured: Container[str]) -> str | None:
    """Returns the nearest step that another one builds on, directly or not, and that has runs.

    Args:
        step: its key.
        parents: step -> the step that it builds on, of all steps that are known.
        measured: the steps that have finished runs.

    Returns:
        None where no step before it has any.
    """
    passed, parent = {step}, parents.get(step)
    while parent and parent not in passed:
        if parent in measured:
            return parent
        passed.add(parent)
        parent = parents.get(parent)
    return None


def baseline(step: str, parents: Mapping[str, str | None], measured: Container[str]) -> str:
    """Returns what a step is compared with; if there is nothing to compare, what it builds on."""
    found = nearest(step, parents, measured) if step in measured else None
    return found or parents.get(step) or ""
