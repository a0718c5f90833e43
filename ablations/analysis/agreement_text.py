"""An agreement of changes as a table and in words, which claim no more than the intervals."""

from __future__ import annotations

from collections.abc import Sequence

from ablations import tables
from ablations.analysis.accuracies import Accuracies, of_paper
from ablations.analysis.agreement import FEWEST_SEEDS, Agreement, Interval, agreement_of
from ablations.metrics import Metric
from ablations.paper import TABLES
from ablations.units import fixed, percent, signed


def as_report(found: Agreement, regime: str, epoch: str, metric: Metric) -> tables.Report:
    """Returns the agreement of a study's changes with the published ones.

    Args:
        found: the agreement.
        regime: of the published changes.
        epoch: whose accuracy the study's changes are of.
        metric: of the study.
    """
    title = (
        f"{found.ours}, {epoch}, beside the paper, {regime} regime: changes of {metric.label} in "
        "percentage points"
    )
    return _report(found, "published", title, [*notes(found), *_between_regimes(regime)])


def of_studies(first: Accuracies, second: Accuracies) -> tables.Report:
    """Returns how far the changes of one study follow those of another with another metric.

    Raises:
        UsageError: if no change is in both.
    """
    found, labels = agreement_of(second, first), (second.metric.label, first.metric.label)
    title = (
        f"{second.name}, {second.epoch}, beside {first.name}: changes of {' and '.join(labels)} "
        "in percentage points"
    )
    return _report(found, f"change in {first.name}", title, notes(found))


def _report(found: Agreement, theirs: str, title: str, lines: Sequence[str]) -> tables.Report:
    """Returns the pairs of changes with a title; ``theirs``: the header of the second change."""
    values = [
        {
            "step": pair.step,
            "baseline": pair.baseline,
            "change": pair.ours,
            theirs.replace(" ", "_"): pair.theirs,
            "same_sign": pair.same_sign,
        }
        for pair in found.pairs
    ]
    texts = [
        {
            "step": pair.step,
            "baseline": pair.baseline,
            "change": signed(pair.ours),
            theirs: signed(pair.theirs),
            "same sign": "yes" if pair.same_sign else "no",
        }
        for pair in found.pairs
    ]
    return tables.Report(values, texts, tables.Columns(numbers=("change", theirs)), title, lines)


def notes(found: Agreement) -> list[str]:
    """Returns the agreement in sentences: signs, rank correlation, and how to read them."""
    n, (low, high) = len(found.pairs), found.sign_interval
    same, interval = (percent(100 * found.same_sign / n, 0), _span((100 * low, 100 * high), 0))
    side = "more than" if low > 0.5 else "less than" if high < 0.5 else "not distinguishable from"
    lines = [
        f"Same sign: {found.same_sign} of {n} changes, {same} (95 % interval {interval} %): {side} "
        "half, the result of chance."
    ]
    if found.correlation is None or found.over_steps is None:
        lines.append("No rank correlation: it needs three or more changes that differ.")
    else:
        lines.append(
            f"Rank correlation: {fixed(found.correlation)} (Spearman; 95 % bootstrap interval over "
            f"the changes {_span(found.over_steps)}). {_conclusion(found.over_steps)}"
        )
        lines.append(
            f"Over the seeds of {found.ours}, the interval is {_span(found.over_seeds)}: other "
            "seeds of the same runs would move the correlation that far. With few seeds it is too "
            "narrow."
            if found.over_seeds
            else f"No interval over seeds: it needs {FEWEST_SEEDS} or more runs of each step."
        )
        lines.append("A change that is smaller than its noise has its sign and its rank by chance.")
    lines += [f"Only in {name}: {', '.join(keys)}." for name, keys in found.missing.items() if keys]
    return lines


def _conclusion(over_steps: Interval) -> str:
    low, high = over_steps
    if low <= 0 <= high:
        return "The interval includes zero: these changes do not show that the two orders agree."
    side, much = ("above", "more") if low > 0 else ("below", "less")
    return f"The interval is {side} zero: a step that gains more here tends to gain {much} there."


def _between_regimes(regime: str) -> list[str]:
    """Returns how far the other published regimes agree with this one, as a scale."""
    lines = []
    for other in TABLES:
        if other != regime:
            found = agreement_of(of_paper(other), of_paper(regime))
            if found.correlation is not None and found.over_steps is not None:
                lines.append(
                    f"For scale: the paper's {other} regime agrees with this one in the sign of "
                    f"{found.same_sign} of {len(found.pairs)} changes, rank correlation "
                    f"{fixed(found.correlation)} ({_span(found.over_steps)})."
                )
    return lines


def _span(interval: Interval, decimals: int = 2) -> str:
    return " to ".join(fixed(end, decimals) for end in interval)
