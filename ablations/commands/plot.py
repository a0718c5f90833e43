"""The command that draws the roadmap chart."""

from __future__ import annotations

from pathlib import Path

import click

from ablations import terminal
from ablations.commands.options import find_study, from_here, results_folder, results_option
from modernize.errors import UsageError


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    metavar="paper|STUDY",
    help="The published tables, or a study of ours.",
)
@click.option("--second", metavar="STUDY", help="Another study, as grey bars.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .png, .svg or .pdf file; may be repeated.  "
    "[default: roadmap.png and .svg in the source's folder]",
)
@results_option
def plot(source: str, second: str | None, outputs: tuple[Path, ...], results: Path | None) -> None:
    """Draw the roadmap chart."""
    from ablations.charts import chart, figures

    folder = results_folder(results) / source
    if source == "paper":
        if second is not None:
            raise UsageError("--second goes with a study; the paper's chart has both regimes.")
        figure = figures.paper_figure()
    else:
        figure = figures.study_figure(
            find_study(source, results), find_study(second, results) if second else None
        )
    for path in outputs or [folder / "roadmap.png", folder / "roadmap.svg"]:
        terminal.echo(f"Wrote {from_here(chart.save(figure, path))}")
