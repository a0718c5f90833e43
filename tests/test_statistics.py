"""Statistics against independent sources, and against what they promise, by simulation.

The independent sources: mpmath's incomplete beta function and quadrature with the formulas written
out here, figures that others have published, and plain counting.
"""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy import stats

from ablations.analysis.statistics import (
    BOOTSTRAP_FROM,
    MOST_SEEDS,
    bootstrap_intervals,
    holm,
    paired_difference,
    seeds_needed,
    summarise_values,
    summary_from,
    welch_difference,
)
from modernize.errors import UsageError

# Extra hours of sleep with two drugs, the same ten patients: Cushny and Peebles (1905), from which
# Student (1908) took his example. R has them as `sleep`, and prints what is expected below.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

FIXED = {
    2: ([80.15, 81.3], [79.9, 80.75]),
    3: ([80.0, 81.0, 84.0], [79.2, 81.4, 82.1]),
    5: ([70.1, 70.4, 69.8, 70.9, 70.2], [70.3, 70.2, 70.1, 70.0, 70.6]),
    10: (DRUG_2, DRUG_1),
}


def tail(t, freedom):
    """Both tails of Student's t."""
    half, t = mpmath.mpf(freedom) / 2, mpmath.mpf(t)
    return mpmath.betainc(half, 0.5, 0, 2 * half / (2 * half + t**2), regularized=True)


def quantile(freedom):
    """Where both tails of Student's t hold 5 %."""
    return mpmath.findroot(
        lambda t: tail(t, freedom) - 0.05, (1, 20), solver="bisect", maxsteps=90, verify=False
    )


def by_hand(values):
    """Mean, standard deviation and interval, computed with fractions where possible."""
    exact = [Fraction(str(v)) for v in values]
    n, mean = len(exact), sum(exact) / len(exact)
    std = mpmath.sqrt(mpmath.mpf(float(sum((v - mean) ** 2 for v in exact) / (n - 1))))
    half = quantile(n - 1) * std / mpmath.sqrt(n)
    return float(mean), float(std), float(mean) - float(half), float(mean) + float(half)


def power_by_quadrature(effect, n, freedom):
    """The chance that a t-test at 5 % finds an effect, with its sign, from the definition of t."""
    degrees, shift, bound = (n - 1) * freedom, effect * math.sqrt(n), quantile((n - 1) * freedom)

    def density(s):  # of a standard deviation over the true one
        log = (
            (degrees - 1) * mpmath.log(s)
            - degrees * s * s / 2
            + degrees / 2 * mpmath.log(degrees / 2)
            - mpmath.loggamma(degrees / 2)
        )
        return 2 * mpmath.exp(log)

    return float(
        mpmath.quad(lambda s: density(s) * mpmath.ncdf(shift - bound * s), [0, 0.5, 1, 2, 5])
    )


def within_sampling_error(found, nominal, simulations):
    """Whether a rate is what is expected, within 3.5 of its standard errors: 1 in 2,000 is not."""
    return abs(found - nominal) < 3.5 * math.sqrt(nominal * (1 - nominal) / simulations)


@pytest.mark.parametrize("n", FIXED)
def test_summaries_agree_with_formulas_to_1e_6(n):
    for values in FIXED[n]:
        summary = summarise_values(values)
        found = (summary.mean, summary.std, summary.low, summary.high)
        assert summary.n == n
        assert found == pytest.approx(by_hand(values), abs=1e-6)


@pytest.mark.parametrize("n", FIXED)
def test_paired_differences_agree_with_formulas_to_1e_6(n):
    values, baseline = FIXED[n]
    exact = [Fraction(str(a)) - Fraction(str(b)) for a, b in zip(values, baseline, strict=True)]
    mean, std, low, high = by_hand([float(d) for d in exact])
    found = paired_difference(values, baseline)
    assert found.n == n
    assert (found.mean, found.std) == pytest.approx((mean, std), abs=1e-6)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
    t = mean / std * math.sqrt(n)
    assert found.p == pytest.approx(float(tail(t, n - 1)), abs=1e-6)
    assert found.effect == pytest.approx(abs(mean) / std, abs=1e-6)


def test_students_own_example():
    """R: t.test(extra ~ group, data = sleep, paired = TRUE)."""
    found = paired_difference(DRUG_1, DRUG_2)
    assert found.mean == pytest.approx(-1.58)
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert (found.low, found.high) == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)


def test_welchs_test_on_it():
    """R: t.test(extra ~ group, data = sleep)."""
    found = welch_difference(summarise_values(DRUG_1), summarise_values(DRUG_2))
    assert found.p == pytest.approx(0.07939, abs=5e-6)
    assert (found.low, found.high) == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [((3, 80.5, 0.02), (3, 78.28, 0.08)), ((3, 79.51, 0.18), (5, 79.36, 0.07))],
)
def test_welchs_test_agrees_with_formulas_to_1e_6(ours, theirs):
    (n, a, s), (m, b, r) = ours, theirs
    v, w = s * s / n, r * r / m
    freedom = (v + w) ** 2 / (v * v / (n - 1) + w * w / (m - 1))
    half = float(quantile(freedom)) * math.sqrt(v + w)
    found = welch_difference(summary_from(*ours), summary_from(*theirs))
    assert found.p == pytest.approx(float(tail((a - b) / math.sqrt(v + w), freedom)), abs=1e-6)
    assert (found.low, found.high) == pytest.approx((a - b - half, a - b + half), abs=1e-6)
    assert found.n == min(n, m)


@pytest.mark.integration
def test_holms_correction():
    # Four p-values of which the two least are rejected at 5 %.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4]) == [0.4]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_holms_correction_agrees_with_its_definition():
    p_values = list(np.random.default_rng(1).beta(0.3, 3, 40))
    order = sorted(range(40), key=p_values.__getitem__)
    expected, running = [0.0] * 40, 0.0
    for rank, i in enumerate(order):
        running = max(running, (40 - rank) * p_values[i])
        expected[i] = min(running, 1.0)
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_seeds_needed_in_published_tables():
    """Cohen (1988), Table 2.4.1 for two samples; R: power.t.test(type = "paired") rounded up."""
    two = [d / math.sqrt(2) for d in (0.2, 0.5, 0.8)]
    assert list(seeds_needed(two, [2.0] * 3)) == [394, 64, 26]
    assert list(seeds_needed([0.2, 0.5, 0.8, 1.0], [1.0] * 4)) == [199, 34, 15, 10]


@pytest.mark.parametrize(("effect", "freedom"), [(0.9, 1.0), (2.5, 1.0), (0.4, 2.0), (1.2, 1.3)])
def test_seeds_needed_agree_with_quadrature(effect, freedom):
    n = int(seeds_needed([effect], [freedom])[0])
    assert power_by_quadrature(effect, n, freedom) >= 0.8
    assert power_by_quadrature(effect, n - 1, freedom) < 0.8


def test_seeds_needed_at_the_ends():
    effects = [0.0, 1e-9, 1e3, 1e9]
    for level in (0.05, 0.05 / 15, 0.05 / 900):
        needed = list(seeds_needed(effects, [1.0] * 4, level))
        assert needed[:2] == [MOST_SEEDS + 1] * 2
        assert needed[3] == 2
    assert list(seeds_needed(effects, [1.0] * 4, 1e-7))[3] == 3


def test_seeds_needed_fall_with_the_effect_and_rise_with_the_corrections():
    effects = np.geomspace(0.01, 1e4, 300)
    before = None
    for comparisons in (1, 15, 3000):
        needed = seeds_needed(effects, np.ones(300), 0.05 / comparisons)
        assert (np.diff(needed) <= 0).all()
        if before is not None:
            assert (needed >= before).all()
        before = needed


@pytest.mark.integration
@pytest.mark.parametrize(("effect", "paired"), [(0.9, True), (2.0, True), (1.3, False)])
def test_seeds_needed_give_the_power_in_a_simulation(effect, paired):
    simulations, rng = 1500, np.random.default_rng(2)
    n = int(seeds_needed([effect], [1.0 if paired else 2.0])[0])
    found = {}
    for seeds in (n - 1, n):
        # The standard deviation of a difference between single runs is 1.
        ours, theirs = rng.normal(0, math.sqrt(0.5), (2, simulations, seeds))
        ours += effect
        tests = (
            paired_difference(a, b)
            if paired
            else welch_difference(summarise_values(a), summarise_values(b))
            for a, b in zip(ours, theirs, strict=True)
        )
        found[seeds] = sum(test.p < 0.05 for test in tests) / simulations
    error = 3.5 * math.sqrt(0.8 * 0.2 / simulations)
    assert found[n - 1] - error < 0.8 < found[n] + error
    assert found[n] - found[n - 1] < 0.25


@pytest.mark.integration
@pytest.mark.parametrize("n", [3, 8])
def test_false_positives_and_intervals_of_paired_tests_are_nominal(n):
    """No difference between two variants, but between seeds, and in how much they scatter."""
    simulations, rng = 4000, np.random.default_rng(n)
    luck = rng.normal(80, 1, (simulations, n))  # of the seed, the same in both
    ours, theirs = luck + rng.normal(0, 0.3, luck.shape), luck + rng.normal(0, 0.1, luck.shape)
    found = [paired_difference(a, b) for a, b in zip(ours, theirs, strict=True)]
    positive = sum(d.p < 0.05 for d in found) / simulations
    assert within_sampling_error(positive, 0.05, simulations)
    covered = sum(d.low < 0 < d.high for d in found) / simulations
    assert within_sampling_error(covered, 0.95, simulations)


@pytest.mark.parametrize("n", [3, 8])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(n):
    simulations = 10_000
    runs = np.random.default_rng(n).normal(80, 0.2, (simulations, n))
    found = [summarise_values(values) for values in runs]
    covered = sum(s.low < 80 < s.high for s in found) / simulations
    assert within_sampling_error(covered, 0.95, simulations)


@pytest.mark.parametrize("stds", [(0.1, 0.1), (0.02, 0.18)])
def test_welchs_false_positives_at_three_seeds_are_at_most_a_little_above_nominal(stds):
    """An approximation: conservative for equal standard deviations, nearly exact for others."""
    simulations, rng = 5000, np.random.default_rng(4)
    ours, theirs = (rng.normal(80, s, (simulations, 3)) for s in stds)
    found = [
        welch_difference(summarise_values(a), summarise_values(b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    positive = sum(d.p < 0.05 for d in found) / simulations
    assert 0.02 < positive < 0.06
    assert sum(d.low < 0 < d.high for d in found) / simulations == pytest.approx(1 - positive)


def test_after_holm_a_whole_table_without_differences_errs_at_the_nominal_rate():
    """Fifteen independent tests: then the rate of any error is 1 - (1 - 0.05 / 15)^15."""
    simulations = 10_000
    tables = np.random.default_rng(5).uniform(size=(simulations, 15))
    wrong = sum(min(holm(row)) < 0.05 for row in tables) / simulations
    assert within_sampling_error(wrong, 1 - (1 - 0.05 / 15) ** 15, simulations)


def test_bootstrap_agrees_with_all_resamples_there_are():
    """Eight values have 6435 different resamples, each as likely as its multinomial says."""
    values = np.array([0.31, -0.12, 0.45, 0.22, 1.4, 0.05, 0.28, -0.33])
    n, places = len(values), list(itertools.combinations_with_replacement(range(8), 8))
    means = np.array([values[list(place)].mean() for place in places])
    ways = [
        math.factorial(n) / math.prod(math.factorial(place.count(i)) for i in set(place))
        for place in places
    ]
    chance = np.array(ways) / n**n
    assert chance.sum() == pytest.approx(1)
    order = np.argsort(means)
    means, chance = means[order], chance[order]

    below = chance[means < values.mean() - 1e-12].sum()
    below += chance[np.abs(means - values.mean()) < 1e-12].sum() / 2

    def z_of(share):
        return float(mpmath.sqrt(2) * mpmath.erfinv(2 * share - 1))

    leave_one_out = np.array([np.delete(values, i).mean() for i in range(n)])
    away = leave_one_out.mean() - leave_one_out
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    ends = []
    for share in (0.025, 0.975):
        z = z_of(below) + z_of(share)
        adjusted = float(mpmath.ncdf(z_of(below) + z / (1 - acceleration * z)))
        ends.append(means[np.searchsorted(np.cumsum(chance), adjusted)])
    found, again = bootstrap_intervals([values, values])
    assert found == pytest.approx(ends, abs=0.03 * (ends[1] - ends[0]))
    assert again == found == bootstrap_intervals([values])[0]


@pytest.mark.integration
@pytest.mark.parametrize(("n", "low", "high"), [(BOOTSTRAP_FROM, 0.85, 0.94), (20, 0.90, 0.97)])
def test_bootstrap_intervals_hold_the_truth_about_as_often_as_documented(n, low, high):
    runs = np.random.default_rng(6).normal(0, 0.2, (400, n))
    found = bootstrap_intervals(runs)
    assert low < sum(a < 0 < b for a, b in found) / 400 < high


@pytest.mark.parametrize("n", [8, 20, 300])
def test_bootstrap_intervals_are_those_of_scipy(n):
    samples = np.random.default_rng(9).gamma(1, 1, (3, n))
    for sample, found in zip(samples, bootstrap_intervals(samples), strict=True):
        expected = stats.bootstrap((sample,), np.mean, rng=np.random.default_rng(1))
        low, high = expected.confidence_interval
        assert found == pytest.approx((low, high), abs=0.05 * (high - low))


def test_where_there_is_nothing_to_be_had_there_is_none():
    one = summarise_values([80.0])
    assert (one.n, one.mean, one.std, one.low, one.high) == (1, 80.0, None, None, None)
    same = summarise_values([80.1, 80.1, 80.1])
    assert (same.std, same.low, same.high) == (0.0, None, None)
    pair = paired_difference([80.5], [80.0])
    assert (pair.n, pair.mean, pair.std, pair.p, pair.effect) == (1, 0.5, None, None, None)
    assert bootstrap_intervals([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [1.0] * 20]) == [None, None]
    single = welch_difference(summary_from(1, 76.13, None), summary_from(3, 78.82, 0.07))
    assert (single.n, single.p, single.low) == (1, None, None)
    flat = welch_difference(summary_from(3, 80.0, 0.0), summary_from(3, 81.0, 0.0))
    assert (flat.mean, flat.p, flat.effect) == (-1.0, None, None)


def test_rounding_is_no_spread():
    """0.1 apart in each pair: in floating point, the differences differ in their last digits."""
    values, baseline = [80.1, 70.7, 60.3], [80.0, 70.6, 60.2]
    assert len({a - b for a, b in zip(values, baseline, strict=True)}) > 1
    found = paired_difference(values, baseline)
    assert (found.std, found.p, found.low) == (0.0, None, None)
    one_image = paired_difference([80.1, 70.7, 60.302], baseline)
    assert one_image.p is not None


@pytest.mark.parametrize(
    ("values", "baseline"),
    [([], []), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 2.0]), ([1.0, 2.0], [math.inf, 1.0])],
)
def test_what_is_no_pair_of_samples_is_refused(values, baseline):
    with pytest.raises(UsageError):
        paired_difference(values, baseline)
