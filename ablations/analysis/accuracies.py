"""The accuracy of each variant: by seed from records, or as mean and standard deviation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations import paper
from ablations.analysis.outcomes import Outcomes, describe_seeds, read_outcomes
from ablations.analysis.statistics import Summary, summarise_values, summary_from
from ablations.analysis.summary import read_summary
from ablations.metrics import CLASSIFICATION, Metric
from ablations.records import Study
from modernize.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

LAST = "last epoch"
BEST = "best epoch, which is optimistic: selected on the validation images"
PUBLISHED = "as published, without saying whether of the last or the best epoch"


@dataclasses.dataclass(frozen=True)
class VariantAccuracy:
    """The accuracy of one variant.

    Attributes:
        key, title, parent: of the variant.
        summary: over the finished runs; None if there are none.
        values: seed -> accuracy; None if single runs are not known.
        excluded: seed -> why its run does not count.
        note: the same as text.
        ema: the accuracy of the moving average of the weights, over the runs that have one.
    """

    key: str
    title: str
    parent: str | None
    summary: Summary | None
    values: Mapping[int, float] | None = None
    excluded: Mapping[int, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    ema: Summary | None = None

    @property
    def n(self) -> int:
        """The number of finished runs."""
        return self.summary.n if self.summary else 0


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """The accuracies of a study, or of a published table.

    Attributes:
        name: for people.
        epoch: which epoch's accuracy it is: :data:`LAST`, :data:`BEST` or :data:`PUBLISHED`.
        rows: the variants, in order.
        parents: step -> the step it builds on, for steps that are not among the rows as well.
        metric: that the accuracies are of.
    """

    name: str
    epoch: str
    rows: tuple[VariantAccuracy, ...]
    parents: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    metric: Metric = CLASSIFICATION.headline


def of_study(
    study: Study, *, best_epoch: bool = False, outcomes: Mapping[str, Outcomes] | None = None
) -> Accuracies:
    """Returns a study's accuracies: from its records, or from ``summary.csv`` if they are gone.

    Args:
        study: which one.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.
        outcomes: of its runs, if they have just been read.

    Raises:
        UsageError: if it has neither, or ``best_epoch`` is wanted of a summary.
    """
    metric = study.metrics.headline
    if outcomes is not None or study.has_runs:
        outcomes = read_outcomes(study) if outcomes is None else outcomes
        rows = []
        for variant in study.variants:
            values, excluded = _by_seed(outcomes[variant.key], metric, best_epoch=best_epoch)
            summary = summarise_values(list(values.values())) if values else None
            named = variant.key, variant.title, variant.parent
            average = [] if best_epoch else list(outcomes[variant.key].ema.values())
            ema = summarise_values(average) if average else None
            note = describe_seeds(excluded)
            rows.append(VariantAccuracy(*named, summary, values, excluded, note, ema))
        epoch = BEST if best_epoch else LAST
        return Accuracies(study.name, epoch, tuple(rows), study.parents, metric)
    table = read_summary(study)
    if best_epoch:
        raise UsageError(
            f"--best-epoch needs the runs of study {study.name!r}, but only its summary.csv is "
            "here, which has the last epoch's accuracies; leave out --best-epoch."
        )
    return Accuracies(study.name, LAST, _from_table(table, metric), study.parents, metric)


def of_paper(regime: str) -> Accuracies:
    """Returns the accuracies that the paper prints for a regime.

    Raises:
        UnknownNameError: for a regime that is not in the paper.
    """
    table = paper.published(regime)
    rows = _from_table(table, CLASSIFICATION.headline)
    return Accuracies(f"The paper, {regime} regime", PUBLISHED, rows)


def _by_seed(
    outcomes: Outcomes, metric: Metric, *, best_epoch: bool
) -> tuple[dict[int, float], dict[int, str]]:
    """Returns seed -> accuracy of the runs that count, and seed -> reason of the others."""
    values, excluded = {}, outcomes.unfinished
    for seed, record in outcomes.finished.items():
        value = record.metrics.get(metric.best if best_epoch else metric.key)
        if value is None or not math.isfinite(value):
            excluded[seed] = "without accuracy"
        else:
            values[seed] = value
    return values, excluded


def _from_table(table: pd.DataFrame, metric: Metric) -> tuple[VariantAccuracy, ...]:
    """Returns the rows of a summary; without a finished run its mean is over collapsed ones."""
    rows = []
    for row in table.to_dict("records"):
        summary, ema = (_summary_of(row, name) for name in (metric.key, metric.ema))
        named = str(row["step"]), str(row["label"]), str(row["parent"]) or None
        rows.append(VariantAccuracy(*named, summary, note=str(row.get("detail", "")), ema=ema))
    return tuple(rows)


def _summary_of(row: Mapping[Any, Any], name: str) -> Summary | None:
    """Returns a metric of a summary's row; None if no run has it."""
    n, mean, std = int(row["n"]), row.get(name, math.nan), row.get(f"{name}_std", math.nan)
    if not n or not math.isfinite(mean):
        return None
    return summary_from(n, float(mean), float(std) if math.isfinite(std) else None)
