"""The command that writes a study's table and chart, as the main job does at its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from ablations import tables, terminal
from ablations.commands.options import FORMATS, STUDY_HELP, find_study, short_path, study_argument
from ablations.commands.parameters import StrictCommand
from modernize.errors import UsageError
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.records import Study


def collect_study(console: Console, study: Study) -> None:
    """Writes a study's table and chart from its records, and prints the table."""
    from ablations.analysis.summary import read_summary, summary_path, write_summary
    from ablations.charts import chart
    from ablations.charts.figures import study_figure
    from ablations.charts.settings import ChartSettings
    from ablations.records import ResultsError

    try:
        table = write_summary(study)
    except ResultsError:  # as with a full disk
        _print_summary(console, read_summary(study))
        raise
    _print_summary(console, table)
    written = [summary_path(study)]
    figure = study_figure(study, summary=table)
    written += [
        chart.save_figure(figure, study.folder / f"roadmap.{kind}") for kind in ("png", "svg")
    ]
    console.print("Wrote " + ", ".join(map(short_path, written)), soft_wrap=True)
    if note := chart.boxes_note(figure, ChartSettings()):
        terminal.echo(note, err=True)


def _print_summary(console: Console, table: Any) -> None:
    from ablations.analysis.summary import SUMMARY_COLUMNS, as_texts

    tables.print_table(console, as_texts(table), SUMMARY_COLUMNS)


@click.command(cls=StrictCommand, epilog=STUDY_HELP, short_help="Make a study's table and chart.")
@study_argument
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@click.option(
    "--per-run",
    is_flag=True,
    help="Show a row for each run, with the numbers of its record (but not those of single "
    "classes); with any other --format than table. Writes no files.",
)
@click.option(
    "--archive",
    is_flag=True,
    help="Also write runs.jsonl: all runs with their metrics, without weights. You may then delete "
    "the folders of the runs; the table, the statistics and the report no longer need them.",
)
def collect(
    study: str | None, style: str, per_run: bool, archive: bool, results: Path | None
) -> None:
    """Make a study's table, summary.csv and chart from the runs recorded so far."""
    from ablations.analysis import frame
    from ablations.analysis.summary import SUMMARY_COLUMNS, as_csv, as_texts, read_summary

    if per_run and style == "table":
        formats = ", ".join(name for name in tables.FORMATS if name != "table")
        raise UsageError(f"--per-run needs a --format other than table: {formats}.")
    found = find_study(study, results)
    if per_run:
        tables.plain_report(frame.rows(found)).show(terminal.console(), style)
    elif style == "table":
        collect_study(terminal.console(), found)
    elif style == "csv":
        terminal.echo(as_csv(read_summary(found)), nl=False)
    elif style == "json":
        terminal.echo(tables.as_json(read_summary(found).to_dict("records")))
    else:
        texts = as_texts(read_summary(found))
        tables.Report(texts, texts, SUMMARY_COLUMNS).show(terminal.console(), style)
    if archive:
        path, runs = found.archive()
        terminal.echo(f"Wrote {short_path(path)}: {plural(runs, 'run')}", err=style != "table")
