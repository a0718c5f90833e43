"""Samples -> one table: each variant's accuracy, and each change with its test."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ablations.analysis.baselines import PARENT, baseline
from ablations.analysis.samples import Sample, Samples
from ablations.analysis.statistics import (
    LEVEL,
    MOST_SEEDS,
    Difference,
    Summary,
    bootstrap_interval,
    holm,
    paired_difference,
    seeds_needed,
    summary_from,
    welch_difference,
)
from ablations.analysis.verdicts import instead_of_parent, no_comparison, verdict
from ablations.paper import PRINTED_UNIT
from modernize.errors import UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

PAIRED, WELCH = "paired t", "Welch t"

COLUMNS = (
    *("step", "label", "n", "top1", "top1_std", "top1_low", "top1_high", "left_out"),
    *("against", "test", "pairs", "change", "change_std", "change_low", "change_high"),
    *("boot_low", "boot_high", "p", "p_holm", "seeds_needed", "seeds_needed_corrected"),
    *("verdict", "accuracy"),
)
"""Of the table; empty (NaN) where there is nothing to be had.

``n`` runs have the mean ``top1``, the sample deviation ``top1_std`` and the 95 % interval
``top1_low`` to ``top1_high``, in percent; ``left_out`` names the seeds that do not count.
``change`` is what is gained on the step ``against``, in percentage points, over ``pairs`` seeds
that finished in both (Welch: runs of the smaller sample); ``change_std`` is the deviation of the
paired differences; then its 95 % interval, by Student's t and by bootstrap. ``p`` is of the
``test`` that the change is zero, ``p_holm`` the same corrected for all tests of the table;
``seeds_needed`` to find a change of this size at p < 0.05 are text ("12", ">1000");
``seeds_needed_corrected`` at 0.05 divided by the number of tests, which is enough whatever Holm's
method asks. ``accuracy`` says what the accuracies are of.
"""

TEXTS = (
    *("step", "label", "left_out", "against", "test", "seeds_needed", "seeds_needed_corrected"),
    *("verdict", "accuracy"),
)
"""The columns that are text; ``n`` and ``pairs`` are whole numbers, all others floats."""

Adjustment = Callable[[Summary, Summary], tuple[Summary, Summary]]


@dataclasses.dataclass(frozen=True)
class _Change:
    """One variant beside what it is compared with, and the difference where there is one.

    ``instead`` says why that is not the step it builds on, where it is not, but one before that.
    """

    sample: Sample
    against: str | None
    base: Sample | None
    difference: Difference | None
    instead: str = ""


def compare(samples: Samples, against: str = PARENT) -> pd.DataFrame:
    """Returns the table, with the :data:`COLUMNS`, one row per variant.

    Args:
        samples: what was measured or published.
        against: the key of the variant that all others are compared with, or :data:`PARENT`: the
            step that each builds on, or where that has no finished run the nearest before it.

    Raises:
        UnknownNameError: for an unknown ``against``.
    """
    import pandas as pd

    changes = _changes(samples, against)
    corrected = _corrected(changes)
    needed = _needed(changes, LEVEL)
    needed_corrected = _needed(changes, LEVEL / max(len(corrected), 1))
    rows = [
        {
            **_spread(change.sample),
            **_difference_cells(change),
            "p_holm": corrected.get(change.sample.key),
            "seeds_needed": needed.get(change.sample.key, ""),
            "seeds_needed_corrected": needed_corrected.get(change.sample.key, ""),
            "verdict": _verdict(change, corrected),
            "accuracy": samples.accuracy,
        }
        for change in changes
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = [name for name in COLUMNS if name not in TEXTS]
    return table.astype({**dict.fromkeys(numbers, float), "n": int, "pairs": "Int64"})


def hanging_on_print(samples: Samples, against: str = PARENT) -> dict[str, list[str]]:
    """Returns which changes stand out of printed figures only as they were read here.

    Returns:
        Another reading of the same figures, in words -> the keys of the changes that
        :func:`compare` finds distinguishable from zero, and that reading does not.
    """
    found = _standing_out(_changes(samples, against))
    readings: dict[str, Adjustment] = {
        "the deviations were divided by n, not n - 1": _divided_by_n,
        "the figures were rounded in the most flattering way": _unfavourable,
    }
    lost = {}
    for words, adjust in readings.items():
        still = _standing_out(_changes(samples, against, adjust))
        lost[words] = [key for key in found if key not in still]
    return lost


def _changes(samples: Samples, against: str, adjust: Adjustment | None = None) -> list[_Change]:
    by_key = {sample.key: sample for sample in samples.rows}
    if against not in (PARENT, *by_key):
        raise UnknownNameError("step", against, [PARENT, *by_key])
    parents = {**samples.parents, **{s.key: s.parent for s in samples.rows}}
    measured = {s.key for s in samples.rows if s.summary is not None}
    changes = []
    for sample in samples.rows:
        key = against if against != PARENT else baseline(sample.key, parents, measured)
        base = by_key.get(key)
        other = None if base is sample else base
        difference = None if other is None else _difference(sample, other, adjust)
        instead, parent = "", sample.parent or ""
        if against == PARENT and key != parent:
            instead = instead_of_parent(parent, present=parent in by_key)
        changes.append(_Change(sample, key or None, base, difference, instead))
    return changes


def _difference(sample: Sample, base: Sample, adjust: Adjustment | None) -> Difference | None:
    if sample.summary is None or base.summary is None:
        return None
    if sample.top1 is None or base.top1 is None:
        ours, theirs = sample.summary, base.summary
        return welch_difference(*(adjust(ours, theirs) if adjust else (ours, theirs)))
    both = [seed for seed in sample.top1 if seed in base.top1]
    if not both:
        return None
    return paired_difference([sample.top1[s] for s in both], [base.top1[s] for s in both])


def _corrected(changes: Iterable[_Change]) -> dict[str, float]:
    """Returns key -> corrected p-value, of the changes that can be tested."""
    p_values = {
        c.sample.key: c.difference.p
        for c in changes
        if c.difference is not None and c.difference.p is not None
    }
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _standing_out(changes: Iterable[_Change]) -> list[str]:
    return [key for key, p in _corrected(changes).items() if p < LEVEL]


def _needed(changes: Iterable[_Change], level: float) -> dict[str, str]:
    """Returns key -> seeds needed, of the changes whose deviation is known."""
    known = {
        c.sample.key: (c.difference.effect, c.difference.freedom)
        for c in changes
        if c.difference is not None
        and c.difference.effect is not None
        and c.difference.freedom is not None
    }
    if not known:
        return {}
    effects, freedom = zip(*known.values(), strict=True)
    counts = [int(n) for n in seeds_needed(effects, freedom, level)]
    texts = [str(n) if n <= MOST_SEEDS else f">{MOST_SEEDS}" for n in counts]
    return dict(zip(known, texts, strict=True))


def _spread(sample: Sample) -> dict[str, Any]:
    summary = sample.summary
    return {
        "step": sample.key,
        "label": sample.title,
        "n": summary.n if summary else 0,
        "top1": summary.mean if summary else None,
        "top1_std": summary.deviation if summary else None,
        "top1_low": summary.low if summary else None,
        "top1_high": summary.high if summary else None,
        "left_out": sample.note,
    }


def _difference_cells(change: _Change) -> dict[str, Any]:
    found = change.difference
    cells: dict[str, Any] = {"against": change.against or "", "test": ""}
    if found is None:
        return cells
    boot_low, boot_high = _bootstrap(change) or (None, None)
    paired = change.sample.top1 is not None
    return {
        **cells,
        "test": "" if found.p is None else PAIRED if paired else WELCH,
        "pairs": found.n,
        "change": found.mean,
        "change_std": found.deviation,
        "change_low": found.low,
        "change_high": found.high,
        "boot_low": boot_low,
        "boot_high": boot_high,
        "p": found.p,
    }


def _bootstrap(change: _Change) -> tuple[float, float] | None:
    ours, theirs = change.sample.top1, change.base.top1 if change.base else None
    if ours is None or theirs is None or change.difference is None or change.difference.p is None:
        return None
    return bootstrap_interval([ours[seed] - theirs[seed] for seed in ours if seed in theirs])


def _verdict(change: _Change, corrected: dict[str, float]) -> str:
    sample, base, found = change.sample, change.base, change.difference
    if found is None or base is None:
        return no_comparison(sample, base, change.against)
    words = verdict(sample, base, found, corrected.get(sample.key), len(corrected))
    return f"{words} (vs {base.key}: {change.instead})" if change.instead else words


def _divided_by_n(ours: Summary, theirs: Summary) -> tuple[Summary, Summary]:
    """Takes the printed deviations for those divided by n, and returns the samples'."""

    def widen(summary: Summary) -> Summary:
        if summary.deviation is None:
            return summary
        deviation = summary.deviation * math.sqrt(summary.n / (summary.n - 1))
        return summary_from(summary.n, summary.mean, deviation)

    return widen(ours), widen(theirs)


def _unfavourable(ours: Summary, theirs: Summary) -> tuple[Summary, Summary]:
    """Returns the least different means and largest deviations that print as these do."""
    half = PRINTED_UNIT / 2
    towards = -min(half, abs(ours.mean - theirs.mean) / 2)
    if ours.mean < theirs.mean:
        towards = -towards
    return (
        summary_from(ours.n, ours.mean + towards, (ours.deviation or 0.0) + half),
        summary_from(theirs.n, theirs.mean - towards, (theirs.deviation or 0.0) + half),
    )
