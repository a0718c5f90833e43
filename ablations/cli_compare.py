"""The command that tests which changes stand out from the noise."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from ablations import cli_runs, samples, tables
from ablations.comparison import compare
from ablations.comparison_text import NUMBERS, as_markdown, as_texts, as_values, fit, notes, title
from ablations.samples import Samples
from modernize.errors import UsageError

PAPER = "paper"
DEFAULT_REGIME = "resnet50"


def find(
    source: str | None, regime: str | None, results: Path | None, *, best_epoch: bool
) -> Samples:
    """Returns the paper's figures or those of a study, by default of the one launched last.

    Raises:
        UsageError: for options that do not go together, or a study that is not there.
    """
    if source == PAPER:
        if best_epoch:
            raise UsageError(
                "--best-epoch goes with a study; the paper prints one accuracy for each step."
            )
        return samples.of_paper(regime or DEFAULT_REGIME)
    if regime is not None:
        raise UsageError("--regime goes with the paper; a study has the one it was launched with.")
    return samples.of_study(cli_runs.find_study(source, results), best_epoch=best_epoch)


def show(console: Console, found: Samples, against: str, style: str) -> None:
    """Prints the comparison: as a table or Markdown with notes, or as CSV or JSON.

    Raises:
        UnknownNameError: for an unknown ``against``.
    """
    table = compare(found, against)
    if style in ("csv", "json"):
        values = as_values(table)
        click.echo(tables.as_csv(values) if style == "csv" else tables.as_json(values))
        return
    if style == "markdown":
        click.echo(as_markdown(found, table, against))
        return
    texts, lines = as_texts(table), notes(found, table, against)
    if console.is_terminal:
        texts, dropped = fit(texts, console.width)
        if dropped:
            lines.append(f"No room here for: {', '.join(dropped)}. A wider terminal shows them.")
    tables.print_table(console, texts, NUMBERS, title(found))
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
