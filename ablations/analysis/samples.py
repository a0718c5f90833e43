"""What is known of each variant's accuracy: seed by seed from records, or as means were printed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ablations import paper
from ablations.analysis.outcomes import Outcomes, describe_seeds, read_outcomes
from ablations.analysis.statistics import Summary, summarise_values, summary_from
from ablations.analysis.summary import read_summary
from ablations.records import Record, Study
from modernize.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    import pandas as pd

LAST = "last epoch"
BEST = "best of epochs, optimistic: selected on the validation images"
PUBLISHED = "as published, which does not say whether last or best epoch"


@dataclasses.dataclass(frozen=True)
class Sample:
    """What is known of one variant's accuracy.

    Attributes:
        key, title, parent: of the variant.
        summary: over the runs that finished; None where none did.
        top1: seed -> accuracy in percent; None where single runs are not known.
        left_out: seed -> why its run does not count.
        note: the same in words.
    """

    key: str
    title: str
    parent: str | None
    summary: Summary | None
    top1: Mapping[int, float] | None = None
    left_out: Mapping[int, str] = dataclasses.field(default_factory=dict)
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Samples:
    """The variants of a study, or of a published table.

    Attributes:
        name: for people.
        accuracy: what the accuracies are of: :data:`LAST`, :data:`BEST` or :data:`PUBLISHED`.
        rows: the variants, in order.
        parents: step -> the step it builds on, of others that there may be beside the rows.
    """

    name: str
    accuracy: str
    rows: tuple[Sample, ...]
    parents: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    @property
    def by_seed(self) -> bool:
        """Whether single runs are known, so that they can be paired."""
        return all(sample.top1 is not None for sample in self.rows)


def of_study(
    study: Study, *, best_epoch: bool = False, ends: Mapping[str, Outcomes] | None = None
) -> Samples:
    """Returns what a study measured: from its records, or ``summary.csv`` where only that was kept.

    Args:
        study: which one.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.
        ends: how its runs ended, where that has just been read.

    Raises:
        UsageError: where it has neither, or only a summary, which lacks what ``best_epoch`` needs.
    """
    if ends is not None or study.has_runs:
        ends = read_outcomes(study) if ends is None else ends
        rows = tuple(
            _measured(v.key, v.title, v.parent, ends[v.key], best_epoch) for v in study.variants
        )
        return Samples(study.name, BEST if best_epoch else LAST, rows, study.parents)
    table = read_summary(study)
    if best_epoch:
        raise UsageError(
            f"of the study {study.name!r} only summary.csv is kept, which has no deviation of the "
            "best epochs; compare it without --best-epoch."
        )
    return Samples(study.name, LAST, _from_table(table), study.parents)


def of_paper(regime: str) -> Samples:
    """Returns what the paper printed of a regime.

    Raises:
        UnknownNameError: for a regime that it does not have.
    """
    table = paper.published(regime)
    if table is None:
        raise UnknownNameError("published regime", regime, paper.TABLES)
    return Samples(f"The paper, {regime} regime", PUBLISHED, _from_table(table))


def _measured(key: str, title: str, parent: str | None, ends: Outcomes, best_epoch: bool) -> Sample:
    top1, left_out = {}, ends.unfinished
    for seed, record in ends.finished.items():
        value = _accuracy(record, best_epoch)
        if value is None:
            left_out[seed] = "without accuracy"
        else:
            top1[seed] = value
    summary = summarise_values(list(top1.values())) if top1 else None
    return Sample(key, title, parent, summary, top1, left_out, describe_seeds(left_out))


def _accuracy(record: Record, best_epoch: bool) -> float | None:
    value = record.top1_best if best_epoch else record.top1
    return value if value is not None and math.isfinite(value) else None


def _from_table(table: pd.DataFrame) -> tuple[Sample, ...]:
    """Returns the rows of a summary; where no run finished, its mean is of collapsed ones."""
    samples = []
    for row in table.to_dict("records"):
        n, deviation = int(row["n"]), float(row["top1_std"])
        known = n > 0 and math.isfinite(row["top1"])
        spread = deviation if math.isfinite(deviation) else None
        summary = summary_from(n, float(row["top1"]), spread) if known else None
        note = str(row.get("detail", ""))
        parent = str(row["parent"]) or None
        samples.append(Sample(str(row["step"]), str(row["label"]), parent, summary, note=note))
    return tuple(samples)
