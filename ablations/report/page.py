"""The content of a report as text, rows and pictures, before it becomes a page.

:mod:`~ablations.report.html` and :mod:`~ablations.report.markdown` render it. No torch here.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablations import tables
from ablations.analysis import accuracies, comparison, comparison_text, robustness
from ablations.analysis.baselines import PARENT
from ablations.analysis.summary import (
    ema_cell,
    ema_columns,
    read_summary,
    status_text,
    summarise,
)
from ablations.charts.settings import ChartSettings
from ablations.metrics import Metric, metrics_in
from ablations.records import Status, Study
from ablations.report import pictures
from ablations.report.data import FAILED, FailedRun, ReportData, read_data
from ablations.report.examples import Examples, class_tables, read_examples
from ablations.report.pictures import Picture
from ablations.report.provenance import provenance_rows, utc
from ablations.report.reproduction import Reproduction, common_start, reproduction
from ablations.units import choose_unit, fixed, integer
from modernize.steps import REGIMES
from modernize.text import plural

if TYPE_CHECKING:
    import pandas as pd

FEWEST_IN_TORNADO = 2

Rows = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Page:
    """The content of a report; a part without content is empty or None.

    Attributes:
        name, about: the study's name, and what it compares.
        progress: the number of runs of each status.
        epoch: which epoch's accuracies these are.
        baseline: of each step: a step's key, or :data:`PARENT`.
        findings, how_to_read: as in ``compare``.
        chart: of all steps.
        results, changes: a row per step; the columns in :data:`NUMBERS` are right-aligned.
        recipes: a row per step that changes its recipe.
        examples: validation images; None if the task shows none, or no run has written any.
        classes: for some metrics a table of all classes and steps.
        blocks: the blocks of the steps that change them.
        tornado, tornado_baseline: changes from one common baseline, and its key.
        curves, curves_note: learning curves, a picture per step, and how they are drawn.
        costs, front: accuracy against cost, and the keys on the Pareto front of each.
        failed_runs, failed_count: some of the failed runs, and the number of all.
        unfinished: the numbers of runs that have not ended yet.
        provenance: where the records come from.
        reproduction: how to make the study again.
        only_summary: whether single runs are not known.
        metric: that steps are compared by.
        settings: how the pictures look.
        robustness: the steps under corruption; None if no run was evaluated.
        severities: the chart of the same.
    """

    name: str
    about: str
    progress: str
    epoch: str
    baseline: str
    findings: Sequence[str]
    how_to_read: Sequence[str]
    chart: Picture
    results: Rows
    changes: Rows
    recipes: Rows
    examples: Examples | None
    classes: Sequence[tuple[Metric, Rows]]
    blocks: Picture | None
    tornado: Picture | None
    tornado_baseline: str
    curves: Sequence[Picture]
    curves_note: str
    costs: Sequence[Picture]
    front: str
    failed_runs: Sequence[FailedRun]
    failed_count: int
    unfinished: str
    provenance: Rows
    reproduction: Reproduction
    only_summary: bool
    metric: Metric
    settings: ChartSettings
    robustness: tables.Report | None = None
    severities: Picture | None = None

    @property
    def pictures(self) -> list[Picture]:
        """All pictures, in order."""
        examples = self.examples.rows if self.examples else ()
        some = [self.chart, self.blocks, self.tornado, *self.curves, *self.costs, self.severities]
        some += [picture for row in examples for picture in row]
        return [picture for picture in some if picture is not None]


NUMBERS = (
    *comparison_text.COLUMNS.numbers,
    *("parameters", "MFLOPs", "GFLOPs", "seconds", "runs"),
)
"""The right-aligned columns."""

_OF_CHANGES = ("step", "baseline", "conclusion", "interval of change", "bootstrap", "p",
               "p corrected", "seeds needed")  # fmt: skip


def make(
    study: Study,
    *,
    best_epoch: bool = False,
    baseline: str = PARENT,
    settings: ChartSettings | None = None,
) -> Page:
    """Returns the report of a study as its files are now.

    Args:
        study: which one; it may have no finished run.
        best_epoch: take the highest accuracy of all epochs instead of the last one's.
        baseline: of each step, as :func:`~ablations.analysis.comparison.compare` takes it.
        settings: how the pictures look.

    Raises:
        UsageError: for ``best_epoch`` if only a summary of the study is left.
        UnknownNameError: for an unknown baseline.
        ResultsError: if a file cannot be read, or another version of this program wrote it.
    """
    settings = settings or ChartSettings()
    data = read_data(study)
    outcomes = data.outcomes if data else None
    found = accuracies.of_study(study, best_epoch=best_epoch, outcomes=outcomes)
    table = comparison.compare(found, baseline)
    summary = summarise(study, outcomes) if data else read_summary(study)
    if best_epoch:
        summary = _with_best(summary, table)
    own_baseline = table["baseline"] == table["step"]
    baselines = dict(zip(table["step"], table["baseline"].mask(own_baseline, ""), strict=True))
    summary = summary.assign(baseline=summary["step"].map(baselines))
    colors = pictures.colors(study, summary, settings)
    tornado = tornado_table(table)
    curves = pictures.curves(study, data, colors, baselines, settings) if data else []
    costs, front = pictures.costs(summary, colors, settings)
    corrupted = robustness.read(study, finished=int(summary["n"].sum())) if data else None
    return Page(
        name=study.name,
        about=_about(study),
        progress=_progress(study, data, summary),
        epoch=found.epoch,
        baseline=baseline,
        findings=comparison_text.findings(found, table, baseline),
        how_to_read=comparison_text.how_to_read(table),
        chart=pictures.chart(study, summary, found.epoch, settings, default=baseline == PARENT),
        results=_results(summary, table),
        changes=_changes(table),
        recipes=[
            {"step": v.key, "recipe": str(v.training), "with": v.recipe_changes}
            for v in study.variants
            if v.recipe
        ],
        examples=read_examples(study),
        classes=class_tables(outcomes or {}),
        blocks=pictures.blocks(study, settings),
        tornado=None if tornado is None else pictures.tornado(tornado, found.metric, settings),
        tornado_baseline="" if tornado is None else str(tornado["baseline"].iloc[0]),
        curves=curves,
        curves_note=pictures.curves_note(data, baselines, found.metric) if data and curves else "",
        costs=costs,
        front=front,
        failed_runs=data.failed_runs if data else (),
        failed_count=data.failed_count if data else 0,
        unfinished=_unfinished(data),
        provenance=provenance_rows(data.records) if data else [],
        reproduction=reproduction(study),
        only_summary=data is None,
        metric=found.metric,
        settings=settings,
        robustness=robustness.summary(corrupted) if corrupted else None,
        severities=pictures.severities(corrupted, settings) if corrupted else None,
    )


def tornado_table(table: pd.DataFrame) -> pd.DataFrame | None:
    """Returns the rows of a comparison that have a change from one baseline in it; or None.

    Only if all variants but the baseline are compared with it, as in a leave-one-out study.
    """
    others = table[(table["baseline"] != "") & (table["baseline"] != table["step"])]
    baselines = set(others["baseline"])
    in_table = baselines <= set(table["step"])
    if len(baselines) != 1 or not in_table or len(others) != len(table) - 1:
        return None
    measured = others[others["change"].notna()]
    return measured if len(measured) >= FEWEST_IN_TORNADO else None


def _about(study: Study) -> str:
    images, regime = study.manifest["images"], REGIMES[study.manifest["regime"]]
    epochs = sorted({study.run(variant, 0).recipe.epochs for variant in study.variants})
    seeds, steps = study.seeds, len(study.variants)
    return (
        f"{study.title}, {study.preset.title}: {plural(steps, 'network')} of the regime "
        f"{regime.start} to {regime.end}, each trained for {' or '.join(map(str, epochs))} "
        f"epoch{'s' * (epochs != [1])} from {plural(seeds, 'seed')} on "
        f"{plural(images['train_images'], 'image')} of {images['name']}, and evaluated on "
        f"{plural(images['val_images'], 'other image')}.{_start_text(study)}"
    )


def _start_text(study: Study) -> str:
    """Returns a sentence on the weights that all runs start from; nothing for fresh ones."""
    start = common_start(study)
    if start is None:
        return ""
    average = "the moving average of " * start.ema
    if start.study is None:
        return f" Each run starts from {average}the weights in {start.file}."
    return f" Each run starts from {average}the weights of its own step and seed in {start.study}."


def _counts(data: ReportData) -> Counter[Status]:
    """Returns status -> number of runs."""
    return Counter(s for outcomes in data.outcomes.values() for s in outcomes.statuses.values())


def _progress(study: Study, data: ReportData | None, summary: pd.DataFrame) -> str:
    total = study.seeds * len(study.variants)
    if data is None:
        return f"{int(summary['n'].sum())} of {plural(total, 'run')} finished."
    counts = _counts(data)
    finished = counts.pop(Status.FINISHED, 0)
    others = "".join(f", {integer(n)} {status}" for status, n in sorted(counts.items()))
    # The page of a complete study does not depend on the time, so that it is always the same.
    when = f" As of {utc(time.time())}." if others else ""
    return f"{integer(finished)} of {plural(total, 'run')} finished{others}.{when}"


def _with_best(summary: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Returns a summary with the best epoch's accuracies instead of the last one's."""
    best = table.set_index("step").loc[summary["step"]].reset_index()
    measured = metrics_in(summary.columns)
    headline, *others = measured.metrics
    names = headline.key, f"{headline.key}_std"
    summary = summary.drop(columns=[n for n in ema_columns(measured) if n in summary])
    unknown = dict.fromkeys((metric.key for metric in others), float("nan"))
    return summary.assign(**{name: best[name] for name in names}, **unknown)


def _results(summary: pd.DataFrame, table: pd.DataFrame) -> Rows:
    """Returns a row per step: accuracies from the comparison, cost and status from the summary."""
    texts = {row["step"]: row for row in comparison_text.as_texts(table, every_column=True)}
    complete = (summary["status"] == Status.FINISHED).all()  # as the first lines of the page say
    unit = choose_unit(summary["flops"])
    headline, *others = metrics_in(summary.columns).metrics
    return tables.without_empty(
        [
            {
                "step": row["step"],
                "label": row["label"],
                **{name: texts[row["step"]][name] for name in ("n", headline.label, "std")},
                "95 % interval": texts[row["step"]]["95 % interval"],
                **ema_cell(row, headline),
                **{metric.label: fixed(row[metric.key]) if row["n"] else "" for metric in others},
                "parameters": integer(row["params"]),
                unit.name: unit.show(row["flops"]),
                "seconds": integer(row["seconds"]),
                "status": "" if complete else status_text(row),
            }
            for row in summary.to_dict("records")
        ]
    )


def _changes(table: pd.DataFrame) -> Rows:
    rows = comparison_text.as_texts(table, every_column=True)
    return tables.without_empty(
        [{name: row[name] for name in _OF_CHANGES} for row in rows if row["baseline"]]
    )


def _unfinished(data: ReportData | None) -> str:
    counts = _counts(data) if data else Counter()
    ended = (Status.FINISHED, *FAILED)
    return ", ".join(f"{integer(counts[s])} {s}" for s in Status if s not in ended and counts[s])
