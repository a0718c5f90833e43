"""Means, differences, intervals and tests. Arrays in, numbers out; no files, no torch.

All accuracies and differences are in percentage points. A statistic that does not exist (for one
run, or for values that are all equal) is None, never NaN.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modernize.errors import UsageError

FloatArray = npt.NDArray[np.float64]

CONFIDENCE = 0.95
"""The confidence level of all intervals."""
LEVEL = 0.05
"""A change whose corrected p-value is below it is called distinguishable from zero."""
POWER = 0.80
"""The power of a test with the number of seeds that :func:`seeds_needed` returns."""
MOST_SEEDS = 1000
"""The largest number of seeds that :func:`seeds_needed` tries."""
BOOTSTRAP_FROM = 8
"""The smallest sample that :func:`bootstrap_interval` accepts."""

_RESAMPLES = 9999
_BATCH = 4_000_000  # values drawn at a time, which bounds memory
_ROUNDING = 1e-9  # a standard deviation below this fraction of the values is rounding error
_TINY_LEVEL = LEVEL / 1000  # at which two pairs must differ by 10,000 standard deviations


@dataclasses.dataclass(frozen=True)
class Summary:
    """The accuracy of one variant over its runs.

    Attributes:
        n: number of runs.
        mean: in percent.
        std: the sample standard deviation (divided by n - 1); None for one run.
        low, high: the 95 % interval of the mean, by Student's t; None if the standard deviation
            is None or 0.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class Difference:
    """One variant's accuracy less another's.

    Attributes:
        n: number of pairs of runs, or of runs in the smaller of two samples.
        mean: the difference of the means, in percentage points.
        std: the sample standard deviation of the paired differences; None for two samples.
        low, high: the 95 % interval of the difference, by Student's t.
        p: of the two-sided t-test that the difference is zero, without correction.
        effect: the absolute difference over its standard deviation with one seed.
        dof_per_seed: degrees of freedom that each seed after the first adds.
    """

    n: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    effect: float | None = None
    dof_per_seed: float | None = None

    @property
    def paired(self) -> bool:
        """Whether it is from two or more pairs."""
        return self.std is not None


def summarise_values(values: Sequence[float] | FloatArray) -> Summary:
    """Returns n, mean, standard deviation and interval of one or more finite values.

    Raises:
        UsageError: if there is no value, or one that is not finite.
    """
    array = _checked(values)
    return summary_from(len(array), float(array.mean()), _std(array))


def summary_from(n: int, mean: float, std: float | None) -> Summary:
    """Returns the summary of n runs from their mean and sample standard deviation."""
    low = high = None
    if n > 1 and std:
        low, high = _interval(mean, std / math.sqrt(n), n - 1)
    return Summary(n, mean, std if n > 1 else None, low, high)


def paired_difference(
    values: Sequence[float] | FloatArray, baseline: Sequence[float] | FloatArray
) -> Difference:
    """Returns the mean of ``values - baseline``, pair by pair, with its interval and p-value.

    The two runs of a pair have the same seed. An effect that the seed has on both cancels. If it
    has none, the test is still valid, but has less power than a test of two samples.

    Raises:
        UsageError: if the lengths differ, there is no pair, or a value is not finite.
    """
    ours, theirs = _checked(values), _checked(baseline)
    if len(ours) != len(theirs):
        raise UsageError(f"{len(ours)} and {len(theirs)} values cannot be paired.")
    differences = ours - theirs
    n, mean = len(differences), float(differences.mean())
    std = _std(differences, scale=float(np.abs([ours, theirs]).max()))
    if not std:
        return Difference(n, mean, std)
    error = std / math.sqrt(n)
    low, high = _interval(mean, error, n - 1)
    return Difference(n, mean, std, low, high, _p(mean / error, n - 1), abs(mean) / std, 1.0)


def welch_difference(ours: Summary, baseline: Summary) -> Difference:
    """Returns the difference of two independent samples' means, by Welch's test.

    It does not assume equal standard deviations, and does not need single runs.
    """
    n, mean = min(ours.n, baseline.n), ours.mean - baseline.mean
    if ours.std is None or baseline.std is None:
        return Difference(n, mean)
    variances = ours.std**2, baseline.std**2
    if not sum(variances):
        return Difference(n, mean)
    errors = variances[0] / ours.n, variances[1] / baseline.n
    dof = sum(errors) ** 2 / (
        errors[0] ** 2 / (ours.n - 1) + errors[1] ** 2 / (baseline.n - 1)
    )  # Welch and Satterthwaite
    error = math.sqrt(sum(errors))
    low, high = _interval(mean, error, dof)
    return Difference(
        *(n, mean, None, low, high),
        p=_p(mean / error, dof),
        effect=abs(mean) / math.sqrt(sum(variances)),
        dof_per_seed=sum(variances) ** 2 / (variances[0] ** 2 + variances[1] ** 2),
    )


def holm(p_values: Sequence[float] | FloatArray) -> list[float]:
    """Returns p-values corrected for their number by Holm's method.

    The probability that any change of zero in the table is called distinguishable from zero stays
    at or below the level, whether or not the tests depend on each other.
    """
    p, m = np.asarray(p_values, np.float64), len(p_values)
    order = np.argsort(p)
    corrected = np.empty(m)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(m, 0, -1)), 1)
    return corrected.tolist()


def seeds_needed(
    effects: Sequence[float] | FloatArray,
    dof_per_seed: Sequence[float] | FloatArray,
    level: float = LEVEL,
) -> npt.NDArray[np.int64]:
    """Returns the number of seeds of each variant that a two-sided t-test needs for 80 % power.

    Args:
        effects: differences over their standard deviation, as in :class:`Difference`.
        dof_per_seed: degrees of freedom that each further seed adds: 1 for pairs, up to 2 for two
            samples.
        level: the significance level of the test.

    Returns:
        2 to :data:`MOST_SEEDS`; one more than that means any larger number.
    """
    from scipy import special

    effect, per_seed = np.asarray(effects, np.float64), np.asarray(dof_per_seed, np.float64)
    low = np.full(effect.shape, 2 if level >= _TINY_LEVEL else 3)
    high = np.full(effect.shape, MOST_SEEDS + 1)
    while (low < high).any():  # bisection: power increases with n
        n = (low + high) // 2
        dof = (n - 1) * per_seed
        # The noncentral t cannot be computed far above the critical value, where the power is 1
        # anyway. The other tail, differences found with the wrong sign, is left out as well.
        critical = special.stdtrit(dof, 1 - level / 2)
        noncentrality = np.minimum(effect * np.sqrt(n), 1.5 * critical + 5)
        power = 1 - special.nctdtr(dof, noncentrality, critical)
        enough = power >= POWER
        low, high = np.where(enough | (low == high), low, n + 1), np.where(enough, n, high)
    return low


def bootstrap_intervals(
    samples: Sequence[Sequence[float] | FloatArray],
) -> list[tuple[float, float] | None]:
    """Returns the 95 % bootstrap interval (BCa) of the mean of each sample; the same on every call.

    It does not assume a normal distribution. For few values it is too narrow: 3 values have only
    10 different resamples, 8 have 6,435, with a coverage of about 90 % for a normal population.

    Returns:
        None for a sample of fewer than :data:`BOOTSTRAP_FROM` values, or if all are equal.
    """
    arrays = [_checked(sample) for sample in samples]
    found: list[tuple[float, float] | None] = [None] * len(arrays)
    by_size: dict[int, list[int]] = {}
    for place, array in enumerate(arrays):
        if len(array) >= BOOTSTRAP_FROM and _std(array):
            by_size.setdefault(len(array), []).append(place)
    rows = _BATCH // _RESAMPLES
    for places in by_size.values():
        for start in range(0, len(places), rows):
            part = places[start : start + rows]
            intervals = _bca(np.array([arrays[place] for place in part]))
            for place, (low, high) in zip(part, intervals, strict=True):
                found[place] = float(low), float(high)
    return found


def _bca(values: FloatArray) -> FloatArray:
    """Returns the BCa interval (rows, 2) of the mean of each row (Efron, 1987)."""
    from scipy import special

    n = values.shape[1]
    mean = values.mean(axis=1, keepdims=True)
    resampled = np.sort(resampled_sums(values) / n, axis=0)
    tiny = _ROUNDING * np.abs(values).max(axis=1)
    below, upto = ((resampled < mean.T + side * tiny).mean(axis=0) for side in (-1, 1))
    bias = special.ndtri((below + upto) / 2)
    centred = values - mean  # proportional to the influence of each value on the mean
    skewness = (centred**3).sum(1) / (centred**2).sum(1) ** 1.5 / 6
    ends = special.ndtri([[(1 - CONFIDENCE) / 2], [(1 + CONFIDENCE) / 2]]) + bias
    levels = special.ndtr(bias + ends / (1 - skewness * ends))
    places = levels * (_RESAMPLES - 1)
    lower = np.floor(places).astype(int)
    upper, columns = np.minimum(lower + 1, _RESAMPLES - 1), np.arange(len(values))
    weight = places - lower
    found: FloatArray = (
        resampled[lower, columns] * (1 - weight) + resampled[upper, columns] * weight
    ).T
    return found


def resampled_sums(values: FloatArray) -> FloatArray:
    """Returns the sums (resamples, rows) over n of n values, drawn with replacement.

    The draws are the same for all rows and calls.

    Args:
        values: of each row (rows, n).
    """
    n, rng = values.shape[1], np.random.default_rng(0)
    sizes = [
        len(part) for part in np.array_split(np.arange(_RESAMPLES), _RESAMPLES * n // _BATCH + 1)
    ]
    return np.concatenate(
        [rng.multinomial(n, np.full(n, 1 / n), size) @ values.T for size in sizes]
    )


def spearman(x: FloatArray, y: FloatArray) -> FloatArray:
    """Returns Spearman's rank correlation of each row of two arrays (rows, values).

    It is NaN for a row that has NaN, or whose values are all equal in one of the arrays.
    """
    from scipy import stats

    ranks = [stats.rankdata(values, axis=1) for values in (x, y)]  # a row with NaN becomes NaN
    a, b = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    with np.errstate(invalid="ignore"):
        found: FloatArray = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return found


def resamples(n: int) -> npt.NDArray[np.int64]:
    """Returns indices (resamples, n) that draw n of n items with replacement; always the same."""
    return np.random.default_rng(0).integers(0, n, (_RESAMPLES, n))


def percentile_interval(values: FloatArray) -> tuple[float, float] | None:
    """Returns the range of the central 95 % of a statistic's resampled values, without NaN.

    Returns:
        None if all are NaN.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)


def fraction_interval(count: int, n: int) -> tuple[float, float]:
    """Returns the exact 95 % interval of a fraction (Clopper and Pearson), from ``count`` of n."""
    from scipy import stats

    found = stats.binomtest(count, n).proportion_ci(CONFIDENCE)
    return float(found.low), float(found.high)


def _checked(values: Sequence[float] | FloatArray) -> FloatArray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise UsageError("statistics need a sequence of one or more finite numbers.")
    return array


def _std(array: FloatArray, scale: float | None = None) -> float | None:
    """Returns the sample standard deviation; 0 if it is only rounding error at this scale."""
    if len(array) < 2:
        return None
    std = float(array.std(ddof=1))
    scale = float(np.abs(array).max()) if scale is None else scale
    return std if std > _ROUNDING * scale else 0.0


def _interval(mean: float, error: float, dof: float) -> tuple[float, float]:
    half = _quantile(dof) * error
    return mean - half, mean + half


@functools.cache
def _quantile(dof: float) -> float:
    from scipy import special

    return float(special.stdtrit(dof, (1 + CONFIDENCE) / 2))


def _p(t: float, dof: float) -> float:
    """Returns the two-sided p-value of Student's t."""
    from scipy import special

    return 2 * float(special.stdtr(dof, -abs(t)))
