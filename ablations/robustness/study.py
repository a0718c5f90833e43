"""The runs of a study whose robustness is measured. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from ablations.metrics import CLASSIFICATION
from ablations.records import Record, Run, RunFolder, Status, Study
from modernize.errors import UsageError
from modernize.steps import Variant


def finished_runs(study: Study, steps: Sequence[str]) -> list[tuple[Variant, Run, RunFolder]]:
    """Returns the finished runs of a study.

    Args:
        study: of classifiers.
        steps: only these, by key or index; empty: all.

    Raises:
        UsageError: if it has no finished runs, or is of another task.
        UnknownNameError: for an unknown step.
    """
    if study.preset.task != CLASSIFICATION.task:
        raise UsageError(
            f"the study {study.name} is of {study.preset.task}: robustness is measured for "
            "classifiers only."
        )
    keys = {study.key_of(step) for step in steps}
    found = []
    for variant, run, folder in study.runs():
        record = folder.record_or_fault() if not keys or variant.key in keys else None
        if isinstance(record, Record) and record.status is Status.FINISHED:
            found.append((variant, run, folder))
    if not found:
        of = f" of {', '.join(sorted(keys))}" if keys else ""
        raise UsageError(f"the study {study.name} has no finished run{of}; launch it first.")
    return found
