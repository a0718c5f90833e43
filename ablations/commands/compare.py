"""The command that tests which changes exceed the noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from ablations import terminal
from ablations.commands.options import (
    FORMATS,
    STUDY_HELP,
    comparing_options,
    find_study,
    results_option,
)
from ablations.commands.parameters import StrictCommand
from modernize.errors import UsageError

if TYPE_CHECKING:
    from ablations.analysis.accuracies import Accuracies

PAPER = "paper"
DEFAULT_REGIME = "resnet50"


@click.command(
    cls=StrictCommand, epilog=STUDY_HELP, short_help="Test which changes exceed the noise."
)
@click.argument("source", required=False, metavar="[STUDY|paper]")
@click.option("--regime", metavar="NAME", help="With paper: which table.  [default: resnet50]")
@comparing_options
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@results_option
def compare(
    source: str | None,
    regime: str | None,
    baseline: str,
    best_epoch: bool,
    style: str,
    results: Path | None,
) -> None:
    """Test which changes of accuracy exceed the noise, in a study or in the paper's tables."""
    accuracies = _find(source, regime, results, best_epoch=best_epoch)
    _show(terminal.console(), accuracies, baseline, style)


def _find(
    source: str | None, regime: str | None, results: Path | None, *, best_epoch: bool
) -> Accuracies:
    """Returns the accuracies of the paper or of a study, by default the one launched last.

    Raises:
        UsageError: for options that exclude each other, or an unknown study.
    """
    from ablations.analysis import accuracies

    if source == PAPER:
        if best_epoch:
            raise UsageError(
                "--best-epoch applies only to a study: the paper prints one accuracy for each step."
            )
        return accuracies.of_paper(regime or DEFAULT_REGIME)
    if regime is not None:
        raise UsageError(
            "--regime applies only to the paper: a study has the regime of its launch."
        )
    return accuracies.of_study(find_study(source, results), best_epoch=best_epoch)


def _show(console: Console, accuracies: Accuracies, baseline: str, style: str) -> None:
    """Prints the comparison: as a table or Markdown with notes, or as CSV or JSON.

    Raises:
        UnknownNameError: for an unknown baseline.
    """
    from ablations.analysis import comparison, comparison_text

    table = comparison.compare(accuracies, baseline)
    comparison_text.as_report(accuracies, table, baseline).show(console, style)
