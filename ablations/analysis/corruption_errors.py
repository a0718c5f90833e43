"""Errors under corruption, from counts of right predictions. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ablations.records.schemas import Counts
from modernize.errors import UsageError

Parts = Mapping[str, Counts]
"""The counts of each part of a set, such as ``fog/3`` for severity 3 of fog."""


def accuracy(counts: Counts) -> float:
    """Returns the accuracy in percent."""
    right, images = counts
    return 100 * right / images


def corruption_errors(parts: Parts) -> dict[str, float]:
    """Returns the mean error in percent of each corruption, over its severities."""
    errors: dict[str, list[float]] = {}
    for name, counts in parts.items():
        if "/" in name:
            errors.setdefault(name.partition("/")[0], []).append(100 - accuracy(counts))
    return {name: float(np.mean(values)) for name, values in errors.items()}


def severity_accuracies(parts: Parts) -> dict[int, float]:
    """Returns the mean accuracy in percent of each severity, over the corruptions."""
    values: dict[int, list[float]] = {}
    for name, counts in parts.items():
        if "/" in name:
            values.setdefault(int(name.partition("/")[2]), []).append(accuracy(counts))
    return {severity: float(np.mean(found)) for severity, found in sorted(values.items())}


def corruption_error(errors: Mapping[str, float], references: Mapping[str, float]) -> float:
    """Returns the mean over corruptions of the error relative to a reference's, in percent.

    With AlexNet's errors on ImageNet-C as the reference, it is mCE.

    Args:
        errors: of a network, the mean error in percent of each corruption.
        references: the same of the reference.

    Raises:
        UsageError: if a corruption is missing, or the reference makes no error on one.
    """
    if missing := [name for name in references if name not in errors]:
        raise UsageError(f"there is no error of {', '.join(missing)}; all corruptions are needed.")
    if perfect := [name for name, error in references.items() if not error]:
        raise UsageError(
            f"the reference makes no error on {', '.join(perfect)}, so that no error can be "
            "relative to it; name another row."
        )
    return 100 * float(np.mean([errors[name] / references[name] for name in references]))
