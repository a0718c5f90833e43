"""Records -> one table, a row per variant, with n, mean and deviation. No torch here."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import tables
from ablations.analysis.baselines import baseline
from ablations.analysis.outcomes import Outcomes, describe_seeds, read_outcomes
from ablations.records import ResultsError, Status, Study, write_text
from ablations.units import choose_unit, number
from modernize.errors import UsageError
from modernize.steps import Variant
from modernize.text import csv_cell, from_csv

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "step", "label", "n", "top1", "top1_std", "top5", "top5_std", "top1_best", "params", "flops",
    "seconds", "status", "detail", "section", "adopted", "parent",
)  # fmt: skip
EMA_COLUMNS = ("ema_top1", "ema_top1_std")
WHOLE = ("n", "params", "flops")  # columns of numbers without a gap
NUMBERS = (*WHOLE, "top1", "top1_std", "top5", "top5_std", "top1_best", "seconds")
TEXTS = ["step", "label", "status", "detail", "section", "parent"]


def summarise(study: Study, ends: Mapping[str, Outcomes] | None = None) -> pd.DataFrame:
    """Returns a study's table, one row per variant; ``ends``, where they have just been read.

    Columns: ``step``, ``label``; ``n``, the runs that finished, and over them the means ``top1``,
    ``top5`` (last epoch) and ``top1_best`` (best epoch: optimistic), the sample deviations
    ``top1_std`` and ``top5_std`` (n of 2 or more), all in percent, and ``seconds`` per run;
    ``params`` and ``flops`` of the network; ``status`` and ``detail``, which say what is missing;
    ``section``, ``adopted`` and ``parent`` of the variant. Where no run finished, the means are
    over those that collapsed. Only where runs kept a moving average of their weights, there are its
    mean accuracy after the last epoch and the sample deviation, ``ema_top1`` and ``ema_top1_std``.
    The last column, ``against``, is the step that a change is measured from.
    """
    import pandas as pd

    ends = read_outcomes(study) if ends is None else ends
    rows = [_row(variant, ends[variant.key], study.cost_of(variant)) for variant in study.variants]
    names = list(COLUMNS)
    if any(row["ema_top1"] is not None for row in rows):
        place = names.index("top1_best") + 1
        names[place:place] = EMA_COLUMNS
    return _with_baselines(pd.DataFrame(rows, columns=names), study)


def _with_baselines(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Returns a study's table with the column ``against``: what each change is measured from."""
    measured = set(table["step"][(table["n"] > 0) & table["top1"].notna()])
    parents = study.parents
    return table.assign(against=[baseline(step, parents, measured) for step in table["step"]])


def write_summary(study: Study) -> pd.DataFrame:
    """Writes ``summary.csv`` from the records as they are now, and returns the table.

    Raises:
        UsageError: where there is nothing left but the summary itself.
        ResultsError: where it cannot be written.
    """
    if only_summary(study):
        raise UsageError(
            f"of the study {study.name!r} only summary.csv is kept; there are no runs to collect."
        )
    table = summarise(study)
    write_text(summary_path(study), as_csv(table))
    return table


def as_csv(table: pd.DataFrame) -> str:
    """Returns a summary as ``summary.csv`` has it; no text in it is a spreadsheet's formula.

    ``against`` is in it only where it is not always the parent.
    """
    if (table["against"] == table["parent"]).all():
        table = table.drop(columns="against")
    texts = [name for name in (*TEXTS, "against") if name in table]
    safe: str = table.assign(**{name: table[name].map(csv_cell) for name in texts}).to_csv(
        index=False, float_format="%.4f", lineterminator="\n"
    )
    return safe


def only_summary(study: Study) -> bool:
    """Tells whether a study has no runs any more, but the summary that was made of them."""
    return not study.has_runs and (study.folder / "summary.csv").is_file()


def read_summary(study: Study) -> pd.DataFrame:
    """Returns a study's table: from its records, or from ``summary.csv`` where only that was kept.

    Raises:
        UsageError: where it has neither.
    """
    import pandas as pd

    if study.has_runs:
        return summarise(study)
    path = study.folder / "summary.csv"
    if not path.is_file():
        raise UsageError(f"the study {study.name!r} has no runs yet; launch it first.")
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, "str"))  # even where all are empty
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read ({error}).") from error
    if lacking := [name for name in COLUMNS if name not in table]:
        raise ResultsError(f"{path} lacks the columns {', '.join(lacking)}; collect it anew.")
    if damaged := [name for name in NUMBERS if not _numeric(table[name], whole=name in WHOLE)]:
        raise ResultsError(
            f"{path} is damaged: not all is a number in {', '.join(damaged)}. Take the file from "
            "where it came from."
        )
    texts = {name: table[name].fillna("").map(from_csv) for name in TEXTS}
    return _with_baselines(table.assign(**texts), study)


def _numeric(column: pd.Series[Any], *, whole: bool) -> bool:
    """Tells whether a column holds finite numbers and, except in a whole one, gaps."""
    if column.dtype.kind == "O" and column.isna().all():
        return not whole
    gaps = column.isna().any()
    return (
        column.dtype.kind in "if"
        and not column.isin([math.inf, -math.inf]).any()
        and not (whole and gaps)
    )


def _row(variant: Variant, ends: Outcomes, costs: tuple[int, int]) -> dict[str, Any]:
    finished = list(ends.finished.values())
    measured = finished or [r for r in ends.records.values() if r.status is Status.COLLAPSED]
    params, flops = costs
    return {
        "step": variant.key,
        "label": variant.title,
        "n": len(finished),
        "top1": _mean([r.top1 for r in measured]),
        "top1_std": _deviation([r.top1 for r in measured]),
        "top5": _mean([r.top5 for r in measured]),
        "top5_std": _deviation([r.top5 for r in measured]),
        "top1_best": _mean([r.top1_best for r in measured]),
        "ema_top1": _mean(list(ends.ema.values())),
        "ema_top1_std": _deviation(list(ends.ema.values())),
        "params": params,
        "flops": flops,
        "seconds": _mean([r.seconds for r in measured]),
        "status": _status(Counter(ends.states.values())),
        "detail": describe_seeds(ends.unfinished),
        "section": variant.section,
        "adopted": variant.adopted,
        "parent": variant.parent or "",
    }


def _status(counts: Counter[str]) -> str:
    if counts[Status.FINISHED]:
        return "finished" if len(counts) == 1 else "partial"
    worst_first = ("diverged", "collapsed", "failed", "running")
    return next((status for status in worst_first if counts[status]), "missing")


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = _finite(values)
    return statistics.fmean(numbers) if numbers else None


def _deviation(values: Sequence[float | None]) -> float | None:
    numbers = _finite(values)
    return statistics.stdev(numbers) if len(numbers) > 1 else None


def _finite(values: Sequence[float | None]) -> list[float]:
    return [v for v in values if v is not None and math.isfinite(v)]


def summary_path(study: Study) -> Path:
    """Returns where the table of a study lies."""
    return study.folder / "summary.csv"


SUMMARY_COLUMNS = tables.Columns(
    numbers=("n", "top-1", "EMA top-1", "change", "top-5", "MFLOPs", "GFLOPs", "seconds"),
    least=("MFLOPs", "GFLOPs", "seconds", "top-5", "label", "n", "EMA top-1", "change", "against"),
    wrapped={"label": 16, "status": 20},
)
"""How :func:`format_summary` is shown."""


def format_summary(table: pd.DataFrame) -> list[dict[str, str]]:
    """Returns a summary's rows for people: accuracies with their deviation, changes signed."""
    finished = table[table["n"] > 0]
    top1 = dict(zip(finished["step"], finished["top1"], strict=True))
    rows, unit = [], choose_unit(table["flops"])
    for row in table.to_dict("records"):
        change = top1.get(row["step"], math.nan) - top1.get(row["against"], math.nan)
        rows.append(
            {
                "step": str(row["step"]),
                "label": str(row["label"]),
                "n": str(row["n"]),
                "top-1": _percent(row["top1"], row["top1_std"]),
                **({"EMA top-1": ema_text(row)} if "ema_top1" in row else {}),
                "change": number(change, "+.2f"),
                "against": str(row["against"]) if change == change else "",
                "top-5": _percent(row["top5"], row["top5_std"]),
                unit.name: unit.show(row["flops"]),
                "seconds": number(row["seconds"], ".0f"),
                "status": str(row["status"]) + (f" ({row['detail']})" if row["detail"] else ""),
            }
        )
    return rows


def ema_text(row: Mapping[Any, Any]) -> str:
    """Returns the moving average's accuracy of a summary's row, with its deviation."""
    return _percent(row["ema_top1"], row["ema_top1_std"])


def _percent(mean: float | None, deviation: float | None) -> str:
    spread = number(deviation, ".2f")
    return number(mean, ".2f") + (f" ± {spread}" if spread else "")
