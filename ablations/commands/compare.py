"""The command that tests which changes exceed the noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations import terminal
from ablations.analysis.baselines import PARENT
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
    from ablations.tables import Report

PAPER = "paper"
DEFAULT_REGIME = "resnet50"


@click.command(
    cls=StrictCommand, epilog=STUDY_HELP, short_help="Test which changes exceed the noise."
)
@click.argument("source", required=False, metavar="[STUDY|paper]")
@click.argument("other", required=False, metavar="[STUDY|paper]")
@click.option("--regime", metavar="NAME", help="With paper: which table.  [default: resnet50]")
@comparing_options
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@results_option
def compare(
    source: str | None,
    other: str | None,
    regime: str | None,
    baseline: str,
    best_epoch: bool,
    style: str,
    results: Path | None,
) -> None:
    """Test which changes of accuracy exceed the noise, in a study or in the paper's tables.

    With two studies, test for each step whether the second one differs from the first. With a study
    and paper, show how far the changes of the study agree with the published ones.
    """
    if regime is not None and PAPER not in (source, other):
        raise UsageError(
            "--regime applies only to the paper: a study has the regime of its launch."
        )
    if other is None:
        report = _changes(source, regime, baseline, results, best_epoch=best_epoch)
    elif baseline != PARENT:
        raise UsageError(
            f"--baseline {baseline} applies to one study. Leave it out to compare {source} and "
            f"{other}."
        )
    elif PAPER not in (source, other):
        before, after = find_study(source, results), find_study(other, results)
        from ablations.analysis import two_studies

        report = two_studies.as_report(before, after, best_epoch=best_epoch)
    else:
        report = _agreement(source, other, regime, results, best_epoch=best_epoch)
    report.show(terminal.console(), style)


def _changes(
    source: str | None, regime: str | None, baseline: str, results: Path | None, *, best_epoch: bool
) -> Report:
    """Returns the changes of the paper or of a study, by default the one launched last.

    Raises:
        UsageError: for options that exclude each other, an unknown study or baseline.
    """
    from ablations.analysis import accuracies, comparison, comparison_text

    if source != PAPER:
        found = accuracies.of_study(find_study(source, results), best_epoch=best_epoch)
    elif best_epoch:
        raise UsageError(
            "--best-epoch applies only to a study: the paper prints one accuracy for each step."
        )
    else:
        found = accuracies.of_paper(regime or DEFAULT_REGIME)
    table = comparison.compare(found, baseline)
    return comparison_text.as_report(found, table, baseline)


def _agreement(
    source: str | None, other: str, regime: str | None, results: Path | None, *, best_epoch: bool
) -> Report:
    """Returns how far a study's changes agree with the paper's; by default of its own regime.

    Raises:
        UsageError: unless one of both is the paper and the other one a study.
    """
    from ablations.analysis import accuracies, agreement, agreement_text
    from ablations.paper import TABLES

    if source == PAPER:
        raise UsageError(f"compare {source} {other}: give a study first, then {PAPER}.")
    study = find_study(source, results)
    its_own = study.manifest["regime"]
    regime = regime or (its_own if its_own in TABLES else DEFAULT_REGIME)
    found = accuracies.of_study(study, best_epoch=best_epoch)
    agreed = agreement.agreement_of(found, accuracies.of_paper(regime))
    return agreement_text.as_report(agreed, regime, found.epoch, found.metric)
