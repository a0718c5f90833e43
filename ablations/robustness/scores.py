"""The scores of a network: mean corruption errors and accuracies, from counts. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ablations.records.tallies import Counts
from ablations.robustness.sets import KINDS, alexnet_errors
from modernize.errors import UsageError

Parts = Mapping[str, Counts]


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


def score(kind: str, parts: Parts) -> float:
    """Returns the score of a whole set: mCE, the mean error or the accuracy, in percent.

    Args:
        kind: one of :data:`~ablations.robustness.sets.KINDS`.
        parts: the counts of all its parts.

    Raises:
        UsageError: if a corruption is missing.
    """
    known = KINDS[kind]
    if not known.corruptions:
        return accuracy(parts["all"])
    errors = corruption_errors(parts)
    if known.metric == "mce":
        return corruption_error(errors, alexnet_errors())
    if missing := [name for name in known.corruptions if name not in errors]:
        raise UsageError(f"there is no error of {', '.join(missing)}; all corruptions are needed.")
    return float(np.mean([errors[name] for name in known.corruptions]))


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its counts: of one file of weights, or of the runs of a step.

    Attributes:
        name: for people.
        runs: for each run, the counts by kind of set.
        published: kind of set -> the paper's figure, as printed.
        model: the paper's name of it, with its pre-training; empty: it is not in Table 8.
    """

    name: str
    runs: Sequence[Mapping[str, Parts]]
    published: Mapping[str, str] = dataclasses.field(default_factory=dict)
    model: str = ""

    def parts(self, kind: str) -> list[Parts]:
        """Returns the counts of each run on a set."""
        return [run[kind] for run in self.runs if kind in run]

    def scores(self, kind: str) -> list[float]:
        """Returns the score of each run on a set."""
        return [score(kind, parts) for parts in self.parts(kind)]
