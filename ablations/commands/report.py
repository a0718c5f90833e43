"""The command that writes a study down as a page."""

from __future__ import annotations

from pathlib import Path

import click

from ablations import terminal
from ablations.commands.options import (
    comparing_options,
    find_study,
    from_here,
    name_once,
    study_option,
)
from ablations.commands.typed import Once


@click.command(cls=Once, short_help="Write a study as one page.")
@click.argument("source", required=False, metavar="[STUDY]")
@comparing_options
@study_option
def report(
    source: str | None, against: str, best_epoch: bool, name: str | None, results: Path | None
) -> None:
    """Write a study as one HTML page, and as Markdown: chart, tables, curves, what failed."""
    from ablations.report.files import write

    study = find_study(name_once(source, name), results)
    page, text = write(study, best_epoch=best_epoch, against=against)
    terminal.echo(f"Wrote {from_here(page)}, {from_here(text)}")
