"""The comparison of variants as one table: each accuracy, and each change with its test.

The columns, for the headline ``top1``; another task has the key of its own headline:

* ``top1`` is the mean over ``n`` runs, ``top1_std`` their sample standard deviation, ``top1_low``
  to ``top1_high`` the 95 % interval of the mean, all in percent; ``excluded`` names the seeds that
  do not count. If runs kept a moving average of their weights, ``ema_top1`` and ``ema_top1_std``
  follow: its mean accuracy after the last epoch, and the sample standard deviation.
* ``change`` is the accuracy less that of the step ``baseline`` (or of the same step in the study
  ``baseline``), whose runs, mean and standard deviation follow, in percentage points, over
  ``pairs`` seeds that finished in both (Welch: runs of the smaller sample); ``change_std`` is the
  standard deviation of the paired differences; the 95 % interval of the change follows, by
  Student's t and by bootstrap.
* ``p`` is the p-value of the ``test`` that the change is zero, ``p_holm`` is the same corrected for
  all tests of the table.
* ``seeds_needed`` to find a change of this size at p < 0.05 is text ("12", ">1000");
  ``seeds_needed_corrected`` is the same at 0.05 divided by the number of tests, which is enough for
  Holm's method. ``epoch`` names the epoch of the accuracies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ablations.analysis.accuracies import Accuracies, VariantAccuracy
from ablations.analysis.baselines import PARENT, baseline_of
from ablations.analysis.conclusions import conclusion, no_comparison
from ablations.analysis.statistics import (
    LEVEL,
    MOST_SEEDS,
    Difference,
    Summary,
    bootstrap_intervals,
    holm,
    paired_difference,
    seeds_needed,
    summary_from,
    welch_difference,
)
from ablations.metrics import Metric
from ablations.paper import PRINTED_UNIT
from modernize.errors import UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

PAIRED, WELCH = "paired t", "Welch t"


def columns(metric: Metric) -> list[str]:
    """Returns the columns of the table; a value that does not exist is empty (NaN)."""
    key = metric.key
    return [
        *("step", "label", "n", key, f"{key}_std", f"{key}_low", f"{key}_high", "excluded"),
        *("baseline", "baseline_n", f"baseline_{key}", "baseline_std"),
        *("test", "pairs", "change", "change_std", "change_low", "change_high"),
        *("boot_low", "boot_high", "p", "p_holm", "seeds_needed", "seeds_needed_corrected"),
        *("conclusion", "epoch"),
    ]


TEXTS = (
    *("step", "label", "excluded", "baseline", "test", "seeds_needed", "seeds_needed_corrected"),
    *("conclusion", "epoch"),
)
"""The columns with text; the numbers of runs and pairs are integers, all others floats."""

Adjustment = Callable[[Summary, Summary], tuple[Summary, Summary]]


@dataclasses.dataclass(frozen=True)
class _Change:
    """A variant, its baseline, and their difference.

    Attributes:
        variant: which one.
        key: of the baseline; None if there is none.
        baseline: None if it is not in the table.
        difference: None if it cannot be computed.
        instead: why the baseline is not the step that the variant builds on; empty if it is.
    """

    variant: VariantAccuracy
    key: str | None
    baseline: VariantAccuracy | None
    difference: Difference | None
    instead: str = ""


def compare(accuracies: Accuracies, baseline: str = PARENT) -> pd.DataFrame:
    """Returns the table, with the :func:`columns` and one row per variant.

    Args:
        accuracies: measured or published.
        baseline: the key of the variant that all others are compared with; or :data:`PARENT`: the
            step that each builds on, or the nearest step before it that has a finished run.

    Raises:
        UnknownNameError: for an unknown baseline.
    """
    return _table(_changes(accuracies, baseline), accuracies)


def compare_studies(before: Accuracies, after: Accuracies, *, paired: bool) -> pd.DataFrame:
    """Returns the same table for each step that both have: ``after`` less ``before``.

    Args:
        before: the accuracies of the baseline, whose name is in the column ``baseline``.
        after: the accuracies that are compared with it.
        paired: whether a seed has the same meaning in both. Then steps with two or more common
            seeds are paired by seed; all others are compared as two samples.
    """
    theirs = {row.key: dataclasses.replace(row, key=before.name) for row in before.rows}
    changes = []
    for row in after.rows:
        if (base := theirs.get(row.key)) is not None:
            common = (row.values or {}).keys() & (base.values or {}).keys()
            difference = _difference(row, base, None, paired=paired and len(common) > 1)
            changes.append(_Change(row, before.name, base, difference))
    return _table(changes, after)


def _table(changes: Sequence[_Change], accuracies: Accuracies) -> pd.DataFrame:
    import pandas as pd

    corrected = _corrected(changes)
    intervals = _bootstrap(changes)
    needed = _seeds_needed(changes, LEVEL)
    needed_corrected = _seeds_needed(changes, LEVEL / max(len(corrected), 1))
    rows = [
        {
            **_accuracy_cells(change.variant, accuracies.metric),
            **_change_cells(change, accuracies.metric),
            **intervals.get(change.variant.key, {}),
            "p_holm": corrected.get(change.variant.key),
            "seeds_needed": needed.get(change.variant.key, ""),
            "seeds_needed_corrected": needed_corrected.get(change.variant.key, ""),
            "conclusion": _conclusion(change, corrected),
            "epoch": accuracies.epoch,
        }
        for change in changes
    ]
    names, average = columns(accuracies.metric), accuracies.metric.ema
    if any(change.variant.ema for change in changes):
        place = names.index("excluded") + 1
        names[place:place] = average, f"{average}_std"
    table = pd.DataFrame(rows, columns=names)
    numbers = [name for name in names if name not in TEXTS]
    types: dict[str, Any] = dict.fromkeys(numbers, float)
    return table.astype({**types, "n": int, "baseline_n": "Int64", "pairs": "Int64"})


def sensitivity(accuracies: Accuracies, baseline: str = PARENT) -> dict[str, list[str]]:
    """Returns which conclusions about printed figures depend on how the figures are read.

    Returns:
        Another reading of the figures, in words -> the keys of the changes that :func:`compare`
        finds distinguishable from zero, and that are not under this reading.
    """
    significant = _significant(_changes(accuracies, baseline))
    readings: dict[str, Adjustment] = {
        "the standard deviations were divided by n, not n - 1": _divided_by_n,
        "the figures were rounded in favour of a difference": _least_different,
    }
    lost = {}
    for words, adjust in readings.items():
        still = _significant(_changes(accuracies, baseline, adjust))
        lost[words] = [key for key in significant if key not in still]
    return lost


def _changes(
    accuracies: Accuracies, baseline: str, adjust: Adjustment | None = None
) -> list[_Change]:
    by_key = {variant.key: variant for variant in accuracies.rows}
    if baseline not in (PARENT, *by_key):
        raise UnknownNameError("step", baseline, [PARENT, *by_key])
    parents = {**accuracies.parents, **{v.key: v.parent for v in accuracies.rows}}
    measured = {v.key for v in accuracies.rows if v.summary is not None}
    changes = []
    for variant in accuracies.rows:
        key = baseline if baseline != PARENT else baseline_of(variant.key, parents, measured)
        base = by_key.get(key)
        difference = None
        if base is not None and base is not variant:
            difference = _difference(variant, base, adjust)
        instead, parent = "", variant.parent or ""
        if baseline == PARENT and key != parent:
            in_table = parent in by_key
            instead = (
                f"no finished run of {parent}" if in_table else f"{parent} is not in the table"
            )
        changes.append(_Change(variant, key or None, base, difference, instead))
    return changes


def _difference(
    variant: VariantAccuracy,
    base: VariantAccuracy,
    adjust: Adjustment | None,
    *,
    paired: bool = True,
) -> Difference | None:
    if variant.summary is None or base.summary is None:
        return None
    if variant.values is None or base.values is None or not paired:
        pair = variant.summary, base.summary
        return welch_difference(*(adjust(*pair) if adjust else pair))
    both = [seed for seed in variant.values if seed in base.values]
    if not both:
        return None
    return paired_difference([variant.values[s] for s in both], [base.values[s] for s in both])


def _corrected(changes: Iterable[_Change]) -> dict[str, float]:
    """Returns key -> corrected p-value, for the changes that can be tested."""
    p_values = {
        c.variant.key: c.difference.p
        for c in changes
        if c.difference is not None and c.difference.p is not None
    }
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _significant(changes: Iterable[_Change]) -> list[str]:
    return [key for key, p in _corrected(changes).items() if p < LEVEL]


def _seeds_needed(changes: Iterable[_Change], level: float) -> dict[str, str]:
    """Returns key -> seeds needed, for the changes whose standard deviation is known."""
    known = {
        c.variant.key: (c.difference.effect, c.difference.dof_per_seed)
        for c in changes
        if c.difference is not None
        and c.difference.effect is not None
        and c.difference.dof_per_seed is not None
    }
    if not known:
        return {}
    effects, dof_per_seed = zip(*known.values(), strict=True)
    counts = [int(n) for n in seeds_needed(effects, dof_per_seed, level)]
    texts = [str(n) if n <= MOST_SEEDS else f">{MOST_SEEDS}" for n in counts]
    return dict(zip(known, texts, strict=True))


def _accuracy_cells(variant: VariantAccuracy, metric: Metric) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "step": variant.key,
        "label": variant.title,
        "n": variant.n,
        "excluded": variant.note,
    }
    if variant.ema is not None:
        cells |= {metric.ema: variant.ema.mean, f"{metric.ema}_std": variant.ema.std}
    if (summary := variant.summary) is None:
        return cells
    return {
        **cells,
        metric.key: summary.mean,
        f"{metric.key}_std": summary.std,
        f"{metric.key}_low": summary.low,
        f"{metric.key}_high": summary.high,
    }


def _change_cells(change: _Change, metric: Metric) -> dict[str, Any]:
    found = change.difference
    cells: dict[str, Any] = {"baseline": change.key or "", "test": ""}
    if change.baseline and (summary := change.baseline.summary):
        cells |= {
            "baseline_n": summary.n,
            f"baseline_{metric.key}": summary.mean,
            "baseline_std": summary.std,
        }
    if found is None:
        return cells
    return {
        **cells,
        "test": "" if found.p is None else PAIRED if found.paired else WELCH,
        "pairs": found.n,
        "change": found.mean,
        "change_std": found.std,
        "change_low": found.low,
        "change_high": found.high,
        "p": found.p,
    }


def _bootstrap(changes: Iterable[_Change]) -> dict[str, dict[str, float]]:
    """Returns key -> bootstrap interval, for the paired changes with enough seeds."""
    samples = {}
    for change in changes:
        found, base = change.difference, change.baseline
        if found is not None and found.p is not None and found.paired and base is not None:
            ours, theirs = change.variant.values or {}, base.values or {}
            samples[change.variant.key] = [ours[s] - theirs[s] for s in ours if s in theirs]
    intervals = zip(samples, bootstrap_intervals(list(samples.values())), strict=True)
    return {key: {"boot_low": span[0], "boot_high": span[1]} for key, span in intervals if span}


def _conclusion(change: _Change, corrected: dict[str, float]) -> str:
    variant, base, found = change.variant, change.baseline, change.difference
    if found is None or base is None:
        return no_comparison(variant, base, change.key)
    text = conclusion(variant, base, found, corrected.get(variant.key), len(corrected))
    return f"{text} (vs {base.key}: {change.instead})" if change.instead else text


def _divided_by_n(ours: Summary, theirs: Summary) -> tuple[Summary, Summary]:
    """Returns summaries whose standard deviations were divided by n, now divided by n - 1."""

    def widen(summary: Summary) -> Summary:
        if summary.std is None:
            return summary
        std = summary.std * math.sqrt(summary.n / (summary.n - 1))
        return summary_from(summary.n, summary.mean, std)

    return widen(ours), widen(theirs)


def _least_different(ours: Summary, theirs: Summary) -> tuple[Summary, Summary]:
    """Returns the closest means and largest standard deviations that round to the same figures."""
    half = PRINTED_UNIT / 2
    shift = -min(half, abs(ours.mean - theirs.mean) / 2)
    if ours.mean < theirs.mean:
        shift = -shift
    return (
        summary_from(ours.n, ours.mean + shift, (ours.std or 0.0) + half),
        summary_from(theirs.n, theirs.mean - shift, (theirs.std or 0.0) + half),
    )
