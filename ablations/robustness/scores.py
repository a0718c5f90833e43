"""The scores of a network: mean corruption errors and accuracies, from counts. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ablations.analysis.corruption_errors import (
    Parts,
    accuracy,
    corruption_error,
    corruption_errors,
)
from ablations.robustness.sets import KINDS, alexnet_errors
from modernize.errors import UsageError


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
