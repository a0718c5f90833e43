"""What may be said of a change, in words, and no more than the numbers carry."""

from __future__ import annotations

from collections import Counter

from ablations.analysis.samples import Sample
from ablations.analysis.statistics import LEVEL, Difference
from ablations.units import p_value, signed


def verdict(
    sample: Sample, base: Sample, difference: Difference, corrected: float | None, tests: int
) -> str:
    """Returns what may be said of a measured change.

    Args:
        sample: the variant.
        base: what it is compared with.
        difference: its accuracy less the base's.
        corrected: its p-value after correction; None where no test is possible.
        tests: for how many it is corrected.
    """
    change = signed(difference.mean)
    after = " after correction" if tests > 1 else ""
    if difference.p is None or corrected is None:
        words = f"{change}; {_why_untested(sample, base, difference)}: no test"
    elif corrected < LEVEL:
        words = f"{change} ± {half_width(difference)} (95 %), p {p_value(corrected, LEVEL)}{after}"
    else:
        words = f"{change}, not distinguishable from zero at n = {_n(sample, base, difference)}"
        if difference.p < LEVEL:
            words += after
    return words + _left_out(sample, base)


def no_comparison(sample: Sample, base: Sample | None, against: str | None) -> str:
    """Returns why a variant is compared with nothing.

    Args:
        sample: the variant.
        base: what it should be compared with; None where that is not in the table.
        against: the key of it; None for a variant that builds on no other.
    """
    if against is None:
        return "builds on no other step"
    if against == sample.key:
        return "what the others are compared with"
    if base is None:
        return f"no comparison: {against} is not in the table"
    for other, whose in ((sample, ""), (base, f" of {base.key}")):
        if other.summary is None:
            why = f" ({other.note})" if other.note else ""
            return f"no comparison: no finished run{whose}{why}"
    return f"no comparison: no seed finished both here and in {base.key}"


def instead_of_parent(parent: str, *, present: bool) -> str:
    """Returns why a variant is not compared with the step that it builds on.

    Args:
        parent: the key of that step.
        present: whether it is in the table.
    """
    return f"no finished run of {parent}" if present else f"{parent} is not in the table"


def half_width(difference: Difference) -> str:
    """Returns half of an interval; never 0, which would say that nothing is uncertain."""
    if difference.low is None or difference.high is None:
        return ""
    half = (difference.high - difference.low) / 2
    return f"{half:.2f}" if half >= 0.005 else "<0.01"


def _n(sample: Sample, base: Sample, difference: Difference) -> str:
    ours, theirs = _runs(sample), _runs(base)
    if sample.top1 is None and ours != theirs:
        return f"{ours} and {theirs}"
    return str(difference.n)


def _why_untested(sample: Sample, base: Sample, difference: Difference) -> str:
    ours, theirs = _runs(sample), _runs(base)
    if ours == theirs == 1:
        return "one run each"
    if difference.n == 1:
        if 1 in (ours, theirs):
            return f"{(sample if ours == 1 else base).key} is one run"
        return "one seed in common"
    if sample.top1 is None or base.top1 is None:
        return "neither has any spread"
    return f"the same in each of {difference.n} seeds"


def _left_out(sample: Sample, base: Sample) -> str:
    """Returns the seeds that did not finish in both, counted by reason."""
    reasons = Counter(sample.left_out.values())
    for seed, state in base.left_out.items():
        if seed not in sample.left_out:
            reasons[f"{state} in {base.key}"] += 1
    if not reasons:
        return ""
    return f" (left out: {', '.join(f'{count} {reason}' for reason, count in reasons.items())})"


def _runs(sample: Sample) -> int:
    return sample.summary.n if sample.summary else 0
