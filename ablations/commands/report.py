"""The command that writes a study down as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations import terminal
from ablations.commands.chart_options import chart_options
from ablations.commands.options import (
    STUDY_HELP,
    comparing_options,
    find_study,
    short_path,
    study_argument,
)
from ablations.commands.parameters import StrictCommand

if TYPE_CHECKING:
    from ablations.charts.settings import ChartSettings


@click.command(cls=StrictCommand, epilog=STUDY_HELP, short_help="Write a study's report.")
@study_argument
@comparing_options
@chart_options("dpi")
def report(
    study: str | None,
    baseline: str,
    best_epoch: bool,
    settings: ChartSettings,
    results: Path | None,
) -> None:
    """Write a study's report, as one HTML page and as Markdown: chart, tables, curves, failures."""
    from ablations.report.writer import write

    found = find_study(study, results)
    page, text = write(found, best_epoch=best_epoch, baseline=baseline, settings=settings)
    terminal.echo(f"Wrote {short_path(page)}, {short_path(text)}")
