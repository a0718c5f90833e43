"""Means, differences and what may be said of them. Arrays in, numbers out; no files, no torch.

All accuracies and differences are in percentage points. Where there is nothing to be had (one run,
or values without spread), the answer is None, never a NaN.
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
"""Of all intervals."""
LEVEL = 0.05
"""Below it a p-value, after correction, is called distinguishable from zero."""
POWER = 0.80
"""How often the number of seeds that :func:`seeds_needed` gives finds the difference."""
MOST_SEEDS = 1000
"""The most that :func:`seeds_needed` looks for."""
BOOTSTRAP_FROM = 8
"""The fewest values that :func:`bootstrap_interval` draws from."""

_RESAMPLES = 9999
_AT_ONCE = 1_000_000  # numbers drawn at a time, which bounds memory
_ROUNDING = 1e-9  # a deviation below this share of the values is what rounding leaves, not spread
_HOPELESS = LEVEL / 1000  # a level at which two pairs must differ by 10,000 deviations


@dataclasses.dataclass(frozen=True)
class Summary:
    """Some runs of one variant.

    Attributes:
        n: how many.
        mean: their mean, in percent.
        deviation: their sample deviation (divided by n - 1); None for one run.
        low, high: the 95 % interval of the mean, by Student's t; None for one run or no spread.
    """

    n: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class Difference:
    """One variant's accuracy less another's.

    Attributes:
        n: how many pairs of runs it is over, or the runs of the smaller of two samples.
        mean: the difference of the means, in percentage points.
        deviation: the sample deviation of the paired differences; None for two samples.
        low, high: the 95 % interval of the difference, by Student's t.
        p: of the two-sided t-test that the difference is zero, not corrected.
        effect: the difference, without its sign, over its deviation at one seed each.
        freedom: degrees of freedom that each seed after the first adds.
    """

    n: int
    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    effect: float | None = None
    freedom: float | None = None


def summarise_values(values: Sequence[float] | FloatArray) -> Summary:
    """Returns n, mean, deviation and interval of one or more finite values.

    Raises:
        UsageError: for no value, or one that is not finite.
    """
    array = _checked(values)
    return summary_from(len(array), float(array.mean()), _deviation(array))


def summary_from(n: int, mean: float, deviation: float | None) -> Summary:
    """Returns the summary of n runs of which only mean and sample deviation are known."""
    low = high = None
    if n > 1 and deviation:
        low, high = _interval(mean, deviation / math.sqrt(n), n - 1)
    return Summary(n, mean, deviation if n > 1 else None, low, high)


def paired_difference(
    values: Sequence[float] | FloatArray, baseline: Sequence[float] | FloatArray
) -> Difference:
    """Returns the mean of ``values - baseline``, pair by pair, with its interval and p-value.

    The two runs of a pair share their seed. Whatever that makes alike in them cancels; where it
    makes nothing alike the test is as valid, only weaker than one for two samples.

    Raises:
        UsageError: for different lengths, no pair, or a value that is not finite.
    """
    ours, theirs = _checked(values), _checked(baseline)
    if len(ours) != len(theirs):
        raise UsageError(f"{len(ours)} and {len(theirs)} values cannot be paired.")
    differences = ours - theirs
    n, mean = len(differences), float(differences.mean())
    deviation = _deviation(differences, scale=float(np.abs([ours, theirs]).max()))
    if not deviation:
        return Difference(n, mean, deviation)
    from scipy import stats

    low, high = _interval(mean, deviation / math.sqrt(n), n - 1)
    p = float(stats.ttest_rel(ours, theirs).pvalue)
    return Difference(n, mean, deviation, low, high, p, abs(mean) / deviation, 1.0)


def welch_difference(ours: Summary, baseline: Summary) -> Difference:
    """Returns the difference of two independent samples' means, by Welch's test.

    It takes no equal deviations for granted, and needs no single runs.
    """
    n, mean = min(ours.n, baseline.n), ours.mean - baseline.mean
    if ours.deviation is None or baseline.deviation is None:
        return Difference(n, mean)
    each = ours.deviation**2, baseline.deviation**2
    if not sum(each):
        return Difference(n, mean)
    from scipy import stats

    test = stats.ttest_ind_from_stats(
        *(ours.mean, ours.deviation, ours.n),
        *(baseline.mean, baseline.deviation, baseline.n),
        equal_var=False,
    )
    errors = each[0] / ours.n, each[1] / baseline.n
    freedom = sum(errors) ** 2 / (
        errors[0] ** 2 / (ours.n - 1) + errors[1] ** 2 / (baseline.n - 1)
    )  # Welch and Satterthwaite
    low, high = _interval(mean, math.sqrt(sum(errors)), freedom)
    return Difference(
        *(n, mean, None, low, high),
        p=float(test.pvalue),
        effect=abs(mean) / math.sqrt(sum(each)),
        freedom=sum(each) ** 2 / (each[0] ** 2 + each[1] ** 2),
    )


def holm(p_values: Sequence[float] | FloatArray) -> list[float]:
    """Returns p-values corrected for their number by Holm's method.

    The chance that any difference of a whole table is called one although there is none stays at
    or below the level, however the tests depend on each other.
    """
    if not len(p_values):
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]


def seeds_needed(
    effects: Sequence[float] | FloatArray,
    freedom: Sequence[float] | FloatArray,
    level: float = LEVEL,
) -> npt.NDArray[np.int64]:
    """Returns the fewest seeds of each variant for a two-sided t-test with 80 % power.

    Args:
        effects: differences over their deviation at one seed, as :class:`Difference` has them.
        freedom: degrees of freedom that each further seed adds: 1 for pairs, up to 2 for two
            samples.
        level: the p-value below which the test counts as finding something.

    Returns:
        2 to :data:`MOST_SEEDS`; one more than that stands for anything above.
    """
    from scipy import stats
    from statsmodels.stats.power import TTestPower

    effect, per_seed = np.asarray(effects, np.float64), np.asarray(freedom, np.float64)
    low = np.full(effect.shape, 2 if level >= _HOPELESS else 3)
    high = np.full(effect.shape, MOST_SEEDS + 1)
    while (low < high).any():  # halves the range: power grows with n
        n = (low + high) // 2
        degrees = (n - 1) * per_seed
        # Where the noncentral t is far beyond what the test asks, it cannot be computed, nor need
        # it be; the same goes for its far tail: differences found with the wrong sign.
        certain = 1.5 * stats.t.isf(level / 2, degrees) + 5
        bounded = np.minimum(effect, certain / np.sqrt(n))
        power = TTestPower().power(bounded, n, level / 2, df=degrees, alternative="larger")
        enough = power >= POWER
        low, high = np.where(enough | (low == high), low, n + 1), np.where(enough, n, high)
    return low


def bootstrap_interval(values: Sequence[float] | FloatArray) -> tuple[float, float] | None:
    """Returns the 95 % bootstrap interval (BCa) of a mean; the same on every call.

    It takes no bell curve for granted, but puts the sample in the population's place, so that it
    is too narrow for few values: 3 values have but 10 different resamples. From 8 values on there
    are 6435, and the level is near the nominal one (about 90 % at 8, for a normal population).

    Returns:
        None for fewer than :data:`BOOTSTRAP_FROM` values, or values without spread.
    """
    array = _checked(values)
    if len(array) < BOOTSTRAP_FROM or not _deviation(array):
        return None
    from scipy import stats

    interval = stats.bootstrap(
        (array,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, _AT_ONCE // len(array)),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _checked(values: Sequence[float] | FloatArray) -> FloatArray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise UsageError("statistics need one or more finite numbers in a row.")
    return array


def _deviation(array: FloatArray, scale: float | None = None) -> float | None:
    """Returns the sample deviation; 0 where it is no more than rounding of numbers of this size."""
    if len(array) < 2:
        return None
    deviation = float(array.std(ddof=1))
    size = float(np.abs(array).max()) if scale is None else scale
    return deviation if deviation > _ROUNDING * size else 0.0


def _interval(mean: float, error: float, freedom: float) -> tuple[float, float]:
    half = _quantile(freedom) * error
    return mean - half, mean + half


@functools.cache
def _quantile(freedom: float) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
