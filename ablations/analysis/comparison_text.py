"""A comparison for people and for programs: its cells as text or values, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations import tables
from ablations.analysis.accuracies import BEST, PUBLISHED, Accuracies
from ablations.analysis.baselines import PARENT
from ablations.analysis.comparison import PAIRED, sensitivity
from ablations.analysis.statistics import LEVEL
from ablations.analysis.summary import EMA_LABELS, LABELS, ema_cell
from ablations.metrics import Metric, metrics_in
from ablations.units import fixed, mean_and_std, p_value, signed

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = tables.Columns(
    numbers=("n", *LABELS, "std", "95 % interval", "change", "interval of change", "bootstrap",
             "p", "p corrected", "seeds needed"),
    optional=("95 % interval", *EMA_LABELS, "p", "bootstrap", "std", "p corrected", "excluded",
           "seeds needed", "interval of change", "n", "baseline"),
    wrapped={"conclusion": 30, "excluded": 16},
)  # fmt: skip
"""How :func:`as_texts` is shown."""


def as_values(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows for programs: all digits, and None for a value that does not exist."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def as_texts(table: pd.DataFrame, *, every_column: bool = False) -> list[dict[str, str]]:
    """Returns the rows for people, without columns that are empty, unless all are wanted."""
    metric = metrics_in(table.columns).headline
    rows = [_texts(row, metric) for row in as_values(table)]
    return rows if every_column else tables.without_empty(rows)


def as_report(accuracies: Accuracies, table: pd.DataFrame, baseline: str = PARENT) -> tables.Report:
    """Returns a comparison with its title and its :func:`notes`.

    Args:
        accuracies: the accuracies that were compared.
        table: the comparison of them.
        baseline: that they were compared with.
    """
    lines, rows = notes(accuracies, table, baseline), as_texts(table)
    return tables.Report(
        as_values(table), rows, COLUMNS, title(accuracies), lines, for_paper(table, rows)
    )


def for_paper(table: pd.DataFrame, rows: tables.Rows) -> tables.Rows:
    """Returns the rows of a table for a paper: means ± standard deviations, without sentences.

    Args:
        table: the comparison.
        rows: its rows for people.
    """
    left_out = ("std", "95 % interval", "excluded", "bootstrap", "p", "seeds needed", "conclusion")
    last = ("interval of change", "p corrected")
    metric = metrics_in(table.columns).headline
    means, deviations = table[metric.key], table[f"{metric.key}_std"]
    cells = zip(rows, means, deviations, table["change"], strict=True)
    return [
        {
            **{name: cell for name, cell in row.items() if name not in (*left_out, *last)},
            metric.label: mean_and_std(mean, std),
            "change": signed(change),
            **{name: row[name] for name in last if name in row},
        }
        for row, mean, std, change in cells
    ]


def title(accuracies: Accuracies) -> str:
    """Returns the title of a comparison."""
    metric = accuracies.metric
    return f"{accuracies.name}: {metric.in_unit}, {accuracies.epoch}; {metric.direction}"


def notes(accuracies: Accuracies, table: pd.DataFrame, baseline: str) -> list[str]:
    """Returns the findings of a comparison, and how to read them: see the two functions below."""
    return [*findings(accuracies, table, baseline), *how_to_read(table)]


def findings(accuracies: Accuracies, table: pd.DataFrame, baseline: str) -> list[str]:
    """Returns the findings of a comparison, in one or two sentences each.

    Args:
        accuracies: the accuracies that were compared.
        table: the comparison of them.
        baseline: that they were compared with.
    """
    tested, untested = table[table["p"].notna()], table[table["p"].isna()]
    lines = []
    if accuracies.epoch == BEST:
        lines.append(
            "OPTIMISTIC: the best epoch is selected on the same images that measure its accuracy. "
            "Without --best-epoch, the last epoch counts."
        )
    if (table["excluded"] != "").any():
        lines.append(
            "Runs that did not finish, or that collapsed or diverged, are excluded from all means "
            "and tests: the findings hold only for runs that went well."
        )
    if not len(tested):
        alone = baseline == PARENT and not table["baseline"].isin(table["step"]).any()
        if alone and (table["n"] > 0).sum() > 1:
            why = "No step here builds on another step here; --baseline STEP compares with one."
        else:
            why = (
                "No change can be tested: a test needs two or more seeds of both variants, and "
                "accuracies that differ."
            )
        return [*lines, why]
    significant = tested["p_holm"] < LEVEL
    lines.append(f"Distinguishable from zero: {_with_changes(tested[significant])}.")
    lines.append(f"Not distinguishable from zero: {_names(tested[~significant])}.")
    if untested["change"].notna().any():
        lines.append(f"No test possible: {_names(untested[untested['change'].notna()])}.")
    if accuracies.epoch == PUBLISHED:
        lines += [
            f"If {reading}, these are not distinguishable from zero either: {', '.join(keys)}."
            for reading, keys in sensitivity(accuracies, baseline).items()
            if keys
        ]
    return lines


def how_to_read(table: pd.DataFrame) -> list[str]:
    """Returns how to read the tests of a comparison; nothing if it has no tests."""
    tested = table[table["p"].notna()]
    if not len(tested):
        return []
    how = "Welch's t-test on means and standard deviations"
    paired = tested["test"] == PAIRED
    if paired.any():
        pairs = "a t-test that is paired over the seeds that finished in both steps"
        how = pairs if paired.all() else f"{pairs}, or from {how} if fewer than two did"
    correction = "It is the only comparison, so it needs no correction"
    if len(tested) > 1:
        correction = f"Holm's method corrects it for {len(tested)} comparisons"
    return [
        "Not distinguishable from zero means that these runs do not show a change. It does not "
        "mean that there is no change: the runs agree with any change inside the 95 % interval. "
        "Each interval is for its own change alone, without correction.",
        f"p is from {how}. {correction}.",
        "Seeds needed: the seeds of each step that find a change of this size in 80 of 100 studies "
        "at p < 0.05 (in brackets: with correction), if change and standard deviation are as "
        "measured here; with few seeds a rough guide.",
    ]


def _texts(row: Mapping[str, Any], metric: Metric) -> dict[str, str]:
    alone, corrected = row["seeds_needed"], row["seeds_needed_corrected"]
    return {
        "step": row["step"],
        "n": str(row["n"]),
        metric.label: fixed(row[metric.key]),
        "std": fixed(row[f"{metric.key}_std"]),
        "95 % interval": _span(*(fixed(row[f"{metric.key}_{end}"]) for end in ("low", "high"))),
        **ema_cell(row, metric),
        "excluded": row["excluded"],
        "baseline": row["baseline"],
        "interval of change": _span(signed(row["change_low"]), signed(row["change_high"])),
        "bootstrap": _span(signed(row["boot_low"]), signed(row["boot_high"])),
        "p": _p(row["p"]),
        "p corrected": _p(row["p_holm"]),
        "seeds needed": alone if alone == corrected else f"{alone} ({corrected})",
        "conclusion": row["conclusion"],
    }


def _names(rows: pd.DataFrame) -> str:
    return ", ".join(rows["step"]) or "none"


def _with_changes(rows: pd.DataFrame) -> str:
    """Returns the steps, each with its change."""
    pairs = zip(rows["step"], rows["change"], strict=True)
    return ", ".join(f"{step} {signed(change)}" for step, change in pairs) or "none"


def _span(low: str, high: str) -> str:
    return f"{low} to {high}" if low else ""


def _p(value: float | None) -> str:
    return "" if value is None else p_value(value, LEVEL).removeprefix("= ")
