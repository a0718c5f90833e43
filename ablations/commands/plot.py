"""The command that draws the roadmap chart."""

from __future__ import annotations

from pathlib import Path

import click

from ablations import terminal
from ablations.commands.options import STUDY_HELP, find_study, results_option, short_path
from ablations.commands.parameters import FilePath, StrictCommand
from modernize.errors import UsageError


@click.command(cls=StrictCommand, epilog=STUDY_HELP)
@click.argument("source", required=False, metavar="[STUDY|paper]")
@click.option("--from", "option", metavar="STUDY|paper", help="The same as the argument.")
@click.option("--second", metavar="STUDY", help="Another study, drawn as grey bars.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    type=FilePath(dir_okay=False),
    help="A .png, .svg or .pdf file; may be repeated.  [default: roadmap.png and .svg in the "
    "study's folder. For paper: roadmap-paper.*, and for two studies: roadmap-STUDY-STUDY.*, "
    "in the current folder]",
)
@results_option
def plot(
    source: str | None,
    option: str | None,
    second: str | None,
    outputs: tuple[Path, ...],
    results: Path | None,
) -> None:
    """Draw the roadmap chart of a study, or of the paper's tables."""
    from ablations.charts import chart, figures

    if source is not None and option is not None:
        raise UsageError("name the study once, as STUDY or with --from.")
    source = source or option
    if source == "paper":
        if second is not None:
            raise UsageError("--second needs a study: the paper's chart has both regimes.")
        figure, default = figures.paper_figure(), Path("roadmap-paper")
    else:
        study = find_study(source, results)
        other = find_study(second, results) if second else None
        figure, default = figures.study_figure(study, other), study.folder / "roadmap"
        if other:
            default = Path(f"roadmap-{study.name}-{other.name}")
    for path in outputs or [default.with_name(f"{default.name}.{kind}") for kind in ("png", "svg")]:
        terminal.echo(f"Wrote {short_path(chart.save(figure, path))}")
    if note := chart.boxes_note(figure):
        terminal.echo(note, err=True)
