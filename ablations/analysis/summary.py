"""The summary of a study: a row for each variant, with n, mean and standard deviation. No torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import tables
from ablations.analysis.baselines import baseline_of
from ablations.analysis.outcomes import Outcomes, describe_seeds, read_outcomes
from ablations.metrics import METRICS, TASKS, Metric, TaskMetrics, metrics_in
from ablations.records import ResultsError, Status, Study, write_text
from ablations.units import choose_unit, integer, mean_and_std, signed
from modernize.errors import UsageError
from modernize.steps import Variant
from modernize.text import csv_cell, from_csv

if TYPE_CHECKING:
    import pandas as pd

INTEGERS = ("n", "params", "flops")  # in every row
PARTIAL = "partial"
"""The status of a variant of which some runs finished, and others did not."""

_MOST_IMPORTANT_FIRST = (
    *(Status.DIVERGED, Status.COLLAPSED, Status.FAILED, Status.UNREADABLE, Status.LOST),
    *(Status.RUNNING, Status.QUEUED, Status.STOPPED, Status.UNKNOWN),
)
TEXTS = ("step", "label", "status", "detail", "section", "parent")


def columns(measured: TaskMetrics) -> list[str]:
    """Returns the columns of a summary, in their order."""
    return [
        *("step", "label", "n", *_measured_columns(measured)),
        *("params", "flops", "seconds", "status", "detail", "section", "adopted", "parent"),
    ]


def ema_columns(measured: TaskMetrics) -> tuple[str, str]:
    """Returns the columns of the moving average of the weights."""
    return measured.headline.ema, f"{measured.headline.ema}_std"


def _measured_columns(measured: TaskMetrics) -> list[str]:
    means = [name for m in measured.metrics for name in (m.key, f"{m.key}_std")]
    return [*means, measured.headline.best]


def summarise(study: Study, outcomes: Mapping[str, Outcomes] | None = None) -> pd.DataFrame:
    """Returns a study's summary, one row per variant.

    Columns: ``step``, ``label``; ``n``, the number of finished runs; over them the means of each
    metric of the study's task after the last epoch, such as ``top1`` and ``top5``, and of the best
    headline of all epochs (``top1_best``: optimistic), the sample standard deviations ``top1_std``
    and ``top5_std`` (n of 2 or more), all in percent, and ``seconds`` per run;
    ``params`` and ``flops`` of the network; ``status`` and ``detail``, which name missing runs;
    ``section``, ``adopted`` and ``parent`` of the variant. If no run finished, the means are over
    the collapsed runs. If runs kept a moving average of their weights, ``ema_top1`` and
    ``ema_top1_std`` are its mean accuracy after the last epoch and the sample standard deviation.
    The last column, ``baseline``, is the step that a change is measured from.

    Args:
        study: which one.
        outcomes: of its runs, if they have just been read.
    """
    import pandas as pd

    outcomes = read_outcomes(study) if outcomes is None else outcomes
    measured, average = study.metrics, ema_columns(study.metrics)
    rows = [_row(v, outcomes[v.key], study.cost_of(v), measured) for v in study.variants]
    names = columns(measured)
    if any(row[average[0]] is not None for row in rows):
        place = names.index(measured.headline.best) + 1
        names[place:place] = average
    numbers = {*_measured_columns(measured), *average, "seconds"}.intersection(names)
    table = pd.DataFrame(rows, columns=names).astype(dict.fromkeys(numbers, "float64"))
    return _with_baselines(table, study)


def _with_baselines(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    headline = table[study.metrics.headline.key]
    measured = set(table["step"][(table["n"] > 0) & headline.notna()])
    parents = study.parents
    return table.assign(baseline=[baseline_of(step, parents, measured) for step in table["step"]])


def write_summary(study: Study) -> pd.DataFrame:
    """Writes ``summary.csv`` from the records as they are now, and returns the table.

    Raises:
        UsageError: if only the summary of the study is left.
        ResultsError: if the file cannot be written.
    """
    if only_summary(study):
        raise UsageError(
            f"study {study.name!r} has no runs to collect: only its summary.csv is here."
        )
    table = summarise(study)
    write_text(summary_path(study), as_csv(table))
    return table


def as_csv(table: pd.DataFrame) -> str:
    """Returns a summary as in ``summary.csv``, in which no text is a spreadsheet's formula.

    It has the column ``baseline`` only if a baseline differs from the parent.
    """
    if (table["baseline"] == table["parent"]).all():
        table = table.drop(columns="baseline")
    texts = [name for name in (*TEXTS, "baseline") if name in table]
    safe: str = table.assign(**{name: table[name].map(csv_cell) for name in texts}).to_csv(
        index=False, float_format="%.4f", lineterminator="\n"
    )
    return safe


def only_summary(study: Study) -> bool:
    """Tells whether a study has no runs any more, but a summary of them."""
    return not study.has_runs and summary_path(study).is_file()


def read_summary(study: Study) -> pd.DataFrame:
    """Returns a study's summary: from its records, or from ``summary.csv`` if they are gone.

    Raises:
        UsageError: if it has neither.
        ResultsError: if the file cannot be read, or is damaged.
    """
    import pandas as pd

    if study.has_runs:
        return summarise(study)
    path = summary_path(study)
    if not path.is_file():
        raise UsageError(f"study {study.name!r} has no runs yet; launch it first.")
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, "str"))  # also if all are empty
    except (OSError, ValueError) as error:
        raise ResultsError(f"cannot read {path}: {error}.") from error
    if missing := [name for name in columns(study.metrics) if name not in table]:
        raise ResultsError(f"{path} has no column {', '.join(missing)}; run `collect` again.")
    numbers = (*INTEGERS, *_measured_columns(study.metrics), "seconds")
    if damaged := [name for name in numbers if not _numeric(table[name], name in INTEGERS)]:
        raise ResultsError(
            f"{path} is damaged: {', '.join(damaged)} must have only numbers. Restore the file "
            "from its source."
        )
    texts = {name: table[name].fillna("").map(from_csv) for name in TEXTS}
    return _with_baselines(table.assign(**texts), study)


def _numeric(column: pd.Series[Any], in_every_row: bool) -> bool:
    """Tells whether a column has only finite numbers and, unless forbidden, empty cells."""
    if column.dtype.kind == "O" and column.isna().all():
        return not in_every_row
    return (
        column.dtype.kind in "if"
        and not column.isin([math.inf, -math.inf]).any()
        and not (in_every_row and column.isna().any())
    )


def _row(
    variant: Variant, outcomes: Outcomes, costs: tuple[int, int], metrics: TaskMetrics
) -> dict[str, Any]:
    finished = list(outcomes.finished.values())
    collapsed = [r for r in outcomes.records.values() if r.status is Status.COLLAPSED]
    measured = finished or collapsed
    params, flops = costs
    values: dict[str, float | None] = {}
    for key in (*(m.key for m in metrics.metrics), metrics.headline.best):
        values[key], values[f"{key}_std"] = _mean_and_std([r.metrics.get(key) for r in measured])
    average, spread = ema_columns(metrics)
    values[average], values[spread] = _mean_and_std(list(outcomes.ema.values()))
    return {
        "step": variant.key,
        "label": variant.title,
        "n": len(finished),
        **values,
        "params": params,
        "flops": flops,
        "seconds": _mean_and_std([r.seconds for r in measured])[0],
        "status": str(_status(outcomes.statuses.values())),
        "detail": describe_seeds(outcomes.unfinished),
        "section": variant.section,
        "adopted": variant.adopted,
        "parent": variant.parent or "",
    }


def _status(statuses: Collection[Status]) -> str:
    """Returns the status of a variant: of the runs, if all finished or none did."""
    if Status.FINISHED in statuses:
        return Status.FINISHED if set(statuses) == {Status.FINISHED} else PARTIAL
    return next((status for status in _MOST_IMPORTANT_FIRST if status in statuses), Status.MISSING)


def _mean_and_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    finite = [v for v in values if v is not None and math.isfinite(v)]
    return (
        statistics.fmean(finite) if finite else None,
        statistics.stdev(finite) if len(finite) > 1 else None,
    )


def summary_path(study: Study) -> Path:
    """Returns the path of a study's summary."""
    return study.folder / "summary.csv"


EMA_LABELS = tuple(f"EMA {task.headline.label}" for task in TASKS.values())
LABELS = (*(metric.label for metric in METRICS.values()), *EMA_LABELS)
"""The columns of all metrics in tables for people."""

SUMMARY_COLUMNS = tables.Columns(
    numbers=(*("n", *LABELS, "change"), *("MFLOPs", "GFLOPs", "seconds")),
    optional=(
        "MFLOPs",
        "GFLOPs",
        "seconds",
        *(m.label for task in TASKS.values() for m in reversed(task.metrics[1:])),
        "label",
        "n",
        *EMA_LABELS,
        "change",
        "baseline",
    ),
    wrapped={"label": 16, "status": 20},
)
"""How :func:`as_texts` is shown."""


def as_texts(table: pd.DataFrame) -> list[dict[str, str]]:
    """Returns a summary's rows for people: means ± standard deviations, changes with their sign."""
    finished, (headline, *others) = table[table["n"] > 0], metrics_in(table.columns).metrics
    values = dict(zip(finished["step"], finished[headline.key], strict=True))
    rows, unit = [], choose_unit(table["flops"])
    for row in table.to_dict("records"):
        change = values.get(row["step"], math.nan) - values.get(row["baseline"], math.nan)
        rows.append(
            {
                "step": str(row["step"]),
                "label": str(row["label"]),
                "n": str(row["n"]),
                headline.label: mean_and_std(row[headline.key], row[f"{headline.key}_std"]),
                **ema_cell(row, headline),
                "change": signed(change),
                "baseline": str(row["baseline"]) if change == change else "",
                **{m.label: mean_and_std(row[m.key], row[f"{m.key}_std"]) for m in others},
                unit.name: unit.show(row["flops"]),
                "seconds": integer(row["seconds"]),
                "status": status_text(row),
            }
        )
    return rows


def ema_cell(row: Mapping[Any, Any], metric: Metric) -> dict[str, str]:
    """Returns the cell with a metric of the moving average; none if the table has none."""
    if metric.ema not in row:
        return {}
    return {f"EMA {metric.label}": mean_and_std(row[metric.ema], row[f"{metric.ema}_std"])}


def status_text(row: Mapping[Any, Any]) -> str:
    """Returns the status of a summary's row, with the seeds that did not finish."""
    return str(row["status"]) + (f" ({row['detail']})" if row["detail"] else "")
