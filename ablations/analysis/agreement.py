"""Whether the changes of two sets of accuracies agree: of a study and the paper, or of two studies.

A change is a step's accuracy less that of the step it builds on, for the steps that both have.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ablations.analysis.accuracies import Accuracies, VariantAccuracy, of_paper, of_study
from ablations.analysis.baselines import nearest_measured
from ablations.analysis.statistics import (
    FloatArray,
    fraction_interval,
    percentile_interval,
    resampled_sums,
    resamples,
    spearman,
)
from ablations.records import Study, open_study
from modernize.errors import UsageError

FEWEST_STEPS = 3
"""The smallest number of changes with a rank correlation; of two it is always 1 or -1."""
FEWEST_SEEDS = 3
"""The smallest number of seeds that are resampled."""
_DECIMALS = 9  # a difference below is rounding error

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A change in both sets, in percentage points.

    Attributes:
        step, baseline: the keys of the two steps that are compared.
        ours, theirs: the accuracy of ``step`` less that of ``baseline``.
    """

    step: str
    baseline: str
    ours: float
    theirs: float

    @property
    def same_sign(self) -> bool:
        """Whether both have the same sign; a change of zero has only the sign of another zero."""
        return bool(np.sign(self.ours) == np.sign(self.theirs))


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far the changes of two sets of accuracies agree. All intervals are 95 % intervals.

    Attributes:
        ours, theirs: the names of the sets.
        pairs: the changes, in the order of the second set.
        sign_interval: of the fraction of equal signs (exact, from the binomial distribution).
        correlation: Spearman's rank correlation; None for fewer than :data:`FEWEST_STEPS` changes,
            or if all changes of a set are equal.
        over_steps: its interval by bootstrap over the changes: for other changes of this kind.
        over_seeds: its interval by bootstrap over our seeds: for other seeds of the same runs. None
            for fewer than :data:`FEWEST_SEEDS` seeds, or if single runs are not known.
        missing: steps with an accuracy in only one set: name of that set -> keys.
    """

    ours: str
    theirs: str
    pairs: tuple[Pair, ...]
    sign_interval: Interval
    correlation: float | None
    over_steps: Interval | None
    over_seeds: Interval | None
    missing: Mapping[str, tuple[str, ...]]

    @property
    def same_sign(self) -> int:
        """The number of changes that have the same sign in both."""
        return sum(pair.same_sign for pair in self.pairs)


def agreement(
    study: Study | Path | str, regime: str = "resnet50", *, best_epoch: bool = False
) -> Agreement:
    """Returns how far the changes of a study agree with the published ones.

    Args:
        study: its name in ``results``, or its folder; its steps must have the keys of the road.
        regime: whose published table.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.

    Raises:
        UnknownNameError: for a regime that is not in the paper.
        UsageError: if no change is in both, or the study has no runs.
    """
    return agreement_of(of_study(open_study(study), best_epoch=best_epoch), of_paper(regime))


def agreement_of(ours: Accuracies, theirs: Accuracies) -> Agreement:
    """Returns how far the changes of two sets of accuracies agree.

    The parents are those of the second set. If a parent is not in both sets, the change is from the
    nearest step before it that is.

    Raises:
        UsageError: if no change is in both.
    """
    rows, others = _measured(ours), _measured(theirs)
    common = [key for key in others if key in rows]
    parents = {**theirs.parents, **{row.key: row.parent for row in theirs.rows}}
    baselines = {key: nearest_measured(key, parents, common) for key in common}
    changes = [(key, base) for key, base in baselines.items() if base is not None]
    if not changes:
        raise UsageError(
            f"{ours.name} and {theirs.name} have no change in common: a change needs accuracies of "
            "a step and of one that it builds on, in both."
        )
    places = [(common.index(key), common.index(base)) for key, base in changes]
    step, base = np.array(places).T
    means = np.array([[_mean(rows[key]), _mean(others[key])] for key in common]).T
    x, y = np.round(means[:, step] - means[:, base], _DECIMALS)
    pairs = tuple(
        Pair(*names, float(a), float(b)) for names, a, b in zip(changes, x, y, strict=True)
    )
    enough = len(pairs) >= FEWEST_STEPS
    over_steps = over_seeds = None
    if enough:
        drawn = resamples(len(pairs))
        over_steps = percentile_interval(spearman(x[drawn], y[drawn]))
        resampled = _resampled_means([rows[key] for key in common])
        if resampled is not None:
            differences = np.round(resampled[:, step] - resampled[:, base], _DECIMALS)
            over_seeds = percentile_interval(spearman(differences, np.tile(y, (len(resampled), 1))))
    correlation = float(spearman(x[None], y[None])[0]) if enough else math.nan
    return Agreement(
        ours.name,
        theirs.name,
        pairs,
        fraction_interval(sum(pair.same_sign for pair in pairs), len(pairs)),
        correlation if math.isfinite(correlation) else None,
        over_steps,
        over_seeds,
        {
            ours.name: tuple(key for key in rows if key not in others),
            theirs.name: tuple(key for key in others if key not in rows),
        },
    )


def _measured(accuracies: Accuracies) -> dict[str, VariantAccuracy]:
    return {row.key: row for row in accuracies.rows if row.summary is not None}


def _mean(row: VariantAccuracy) -> float:
    return row.summary.mean if row.summary else math.nan


def _resampled_means(rows: Sequence[VariantAccuracy]) -> FloatArray | None:
    """Returns the means of the rows (resamples, rows) over seeds drawn with replacement.

    All rows get the same seeds, so that an effect that a seed has on all of them is kept.

    Returns:
        None if a row has too few seeds, or its single runs are not known.
    """
    if any(row.values is None or len(row.values) < FEWEST_SEEDS for row in rows):
        return None
    seeds = sorted({seed for row in rows for seed in row.values or ()})
    values = np.array([[(row.values or {}).get(seed, np.nan) for seed in seeds] for row in rows])
    present = np.isfinite(values)
    sums, drawn = (resampled_sums(part) for part in (np.where(present, values, 0), present * 1.0))
    with np.errstate(invalid="ignore"):  # of a row without any of the seeds that were drawn
        means: FloatArray = sums / drawn
    return means
