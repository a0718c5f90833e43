"""A change as one sentence, which claims no more than its runs show."""

from __future__ import annotations

from collections import Counter

from ablations.analysis.accuracies import VariantAccuracy
from ablations.analysis.statistics import LEVEL, Difference
from ablations.units import fixed, p_value, signed


def conclusion(
    variant: VariantAccuracy,
    baseline: VariantAccuracy,
    difference: Difference,
    corrected: float | None,
    tests: int,
) -> str:
    """Returns the conclusion about a measured change.

    Args:
        variant: whose accuracy changed.
        baseline: compared with it.
        difference: the variant's accuracy less the baseline's.
        corrected: the p-value after correction; None if no test is possible.
        tests: the number of tests that it is corrected for.
    """
    change = signed(difference.mean)
    after = " after correction" if tests > 1 else ""
    if difference.p is None or corrected is None:
        text = f"{change}; {_why_untested(variant, baseline, difference)}: no test"
    elif corrected < LEVEL:
        text = f"{change} ± {half_width(difference)} (95 %), p {p_value(corrected, LEVEL)}{after}"
    else:
        n = _sample_size(variant, baseline, difference)
        text = f"{change}, not distinguishable from zero at n = {n}"
        if difference.p < LEVEL:
            text += after
    return text + _excluded(variant, baseline)


def no_comparison(
    variant: VariantAccuracy, baseline: VariantAccuracy | None, key: str | None
) -> str:
    """Returns why a variant has no change.

    Args:
        variant: which one.
        baseline: of the variant; None if it is not in the table.
        key: of the baseline; None for a variant that builds on no other.
    """
    if key is None:
        return "builds on no other step"
    if key == variant.key:
        return "the baseline of the others"
    if baseline is None:
        return f"no comparison: {key} is not in the table"
    for each, of in ((variant, ""), (baseline, f" of {baseline.key}")):
        if each.summary is None:
            why = f" ({each.note})" if each.note else ""
            return f"no comparison: no finished run{of}{why}"
    return f"no comparison: no seed finished both here and in {baseline.key}"


def half_width(difference: Difference) -> str:
    """Returns half of an interval; never 0, which would say that nothing is uncertain."""
    if difference.low is None or difference.high is None:
        return ""
    half = (difference.high - difference.low) / 2
    return fixed(half) if half >= 0.005 else "<0.01"


def _sample_size(
    variant: VariantAccuracy, baseline: VariantAccuracy, difference: Difference
) -> str:
    if not difference.paired and variant.n != baseline.n:
        return f"{variant.n} and {baseline.n}"
    return str(difference.n)


def _why_untested(
    variant: VariantAccuracy, baseline: VariantAccuracy, difference: Difference
) -> str:
    if variant.n == baseline.n == 1:
        return "one run each"
    if difference.n == 1:
        if 1 in (variant.n, baseline.n):
            return f"{(variant if variant.n == 1 else baseline).key} has one run"
        return "one seed in common"
    if not difference.paired:
        return "both standard deviations are 0"
    return f"equal in each of {difference.n} seeds"


def _excluded(variant: VariantAccuracy, baseline: VariantAccuracy) -> str:
    """Returns the number of seeds that did not finish in both, by reason."""
    reasons = Counter(variant.excluded.values())
    for seed, reason in baseline.excluded.items():
        if seed not in variant.excluded:
            reasons[f"{reason} in {baseline.key}"] += 1
    if not reasons:
        return ""
    return f" (excluded: {', '.join(f'{count} {reason}' for reason, count in reasons.items())})"
