"""A comparison for people and for programs: its cells as text or values, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations import tables
from ablations.analysis.baselines import PARENT
from ablations.analysis.comparison import PAIRED, hanging_on_print
from ablations.analysis.samples import BEST, PUBLISHED, Samples
from ablations.analysis.statistics import LEVEL
from ablations.units import number, p_value, signed
from modernize.text import markdown

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = tables.Columns(
    numbers=("n", "top-1", "deviation", "95 % interval", "interval of change", "bootstrap", "p",
             "p corrected", "seeds needed"),
    least=("95 % interval", "p", "bootstrap", "deviation", "p corrected", "left out",
           "seeds needed", "interval of change", "n", "against"),
    wrapped={"verdict": 30, "left out": 16},
)  # fmt: skip
"""How :func:`as_texts` is shown."""


def as_values(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows for programs: all digits, and None where there is nothing."""
    return [{k: _value(v) for k, v in row.items()} for row in _rows(table)]


def as_texts(table: pd.DataFrame, *, every_column: bool = False) -> list[dict[str, str]]:
    """Returns the rows for people; a column without any text is left out, unless all are wanted."""
    rows = [_texts({k: _value(v) for k, v in row.items()}) for row in _rows(table)]
    filled = [
        name for name in next(iter(rows), {}) if every_column or any(row[name] for row in rows)
    ]
    return [{name: row[name] for name in filled} for row in rows]


def as_markdown(found: Samples, table: pd.DataFrame, against: str = PARENT) -> str:
    """Returns a comparison as a Markdown table, beneath a title, above its :func:`notes`.

    Args:
        found: what was compared.
        table: what came of it.
        against: what with.
    """
    lines = [f"- {markdown(line)}" for line in notes(found, table, against)]
    rows = tables.as_markdown(as_texts(table), COLUMNS)
    return "\n".join([markdown(title(found)), "", rows, "", *lines])


def title(found: Samples) -> str:
    """Returns what a comparison's accuracies are of."""
    return f"{found.name}: top-1 in percent, {found.accuracy}"


def notes(found: Samples, table: pd.DataFrame, against: str) -> list[str]:
    """Returns what came of a comparison, and how to read it: see the two functions below."""
    return [*findings(found, table, against), *how_to_read(table)]


def findings(found: Samples, table: pd.DataFrame, against: str) -> list[str]:
    """Returns what came of a comparison, a sentence or two each.

    Args:
        found: what was compared.
        table: what came of it.
        against: what with.
    """
    tested, untested = table[table["p"].notna()], table[table["p"].isna()]
    lines = []
    if found.accuracy == BEST:
        lines.append(
            "OPTIMISTIC: the best of all epochs is the highest of many draws, selected on the very "
            "images it is measured on. Without --best-epoch, the last epoch counts."
        )
    if (table["left_out"] != "").any():
        lines.append(
            "Seeds that did not finish, collapsed and diverged ones among them, are in no mean and "
            "no test: what is said holds for the runs that went well."
        )
    if not len(tested):
        if (table["n"] > 0).sum() > 1 and not table["against"].isin(table["step"]).any():
            return [
                *lines,
                "No step here builds on another one here; --baseline compares with one.",
            ]
        return [
            *lines,
            "No change can be tested: that takes two seeds or more of both "
            "variants, and accuracies that differ.",
        ]
    stands_out = tested["p_holm"] < LEVEL
    lines.append(f"Distinguishable from zero: {_with_changes(tested[stands_out])}.")
    lines.append(f"Not distinguishable from zero: {_names(tested[~stands_out])}.")
    if untested["change"].notna().any():
        lines.append(f"No test possible: {_names(untested[untested['change'].notna()])}.")
    if found.accuracy == PUBLISHED:
        lines += [
            f"If {words}, these would stand out no longer: {', '.join(keys)}."
            for words, keys in hanging_on_print(found, against).items()
            if keys
        ]
    return lines


def how_to_read(table: pd.DataFrame) -> list[str]:
    """Returns how the tests of a comparison are to be read; nothing where there are none."""
    tested = table[table["p"].notna()]
    if not len(tested):
        return []
    paired = (tested["test"] == PAIRED).all()
    how = (
        "paired over the seeds that finished in both steps"
        if paired
        else "Welch's, from means and deviations, for single runs are not known"
    )
    return [
        "Not distinguishable means that these runs do not tell the change from none. It does not "
        "mean that there is none: the runs go with any size inside its interval, and a little "
        "beyond, as each 95 % interval is for its own change alone.",
        f"p is of a t-test, {how}; {_corrected(len(tested))}.",
        "Seeds needed: of each step, to find a change of this size in 80 of 100 studies at p < "
        "0.05 (in brackets: with correction), were change and deviation what they are here; with "
        "few seeds a rough guide.",
    ]


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "step": row["step"],
        "n": str(row["n"]),
        "top-1": number(row["top1"], ".2f"),
        "deviation": number(row["top1_std"], ".2f"),
        "95 % interval": _span(number(row["top1_low"], ".2f"), number(row["top1_high"], ".2f")),
        "left out": row["left_out"],
        "against": row["against"],
        "interval of change": _span(_signed(row["change_low"]), _signed(row["change_high"])),
        "bootstrap": _span(_signed(row["boot_low"]), _signed(row["boot_high"])),
        "p": _p(row["p"]),
        "p corrected": _p(row["p_holm"]),
        "seeds needed": _needed(row["seeds_needed"], row["seeds_needed_corrected"]),
        "verdict": row["verdict"],
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]


def _names(rows: pd.DataFrame) -> str:
    return ", ".join(rows["step"]) or "none"


def _with_changes(rows: pd.DataFrame) -> str:
    """Returns the steps, each with what it changes."""
    pairs = zip(rows["step"], rows["change"], strict=True)
    return ", ".join(f"{step} {signed(change)}" for step, change in pairs) or "none"


def _value(value: Any) -> Any:
    """Returns a cell; None for what pandas has in place of nothing."""
    return value if isinstance(value, str | int) or value == value else None


def _signed(value: float | None) -> str:
    return "" if value is None else signed(value)


def _span(low: str, high: str) -> str:
    return f"{low} to {high}" if low else ""


def _needed(alone: str, corrected: str) -> str:
    return alone if alone == corrected else f"{alone} ({corrected})"


def _corrected(tests: int) -> str:
    return (
        f"then corrected for {tests} comparisons by Holm's method"
        if tests > 1
        else ("of one comparison, so without correction")
    )


def _p(value: float | None) -> str:
    return "" if value is None else p_value(value, LEVEL).removeprefix("= ")
