"""The command that draws the roadmap chart."""

from __future__ import annotations

from pathlib import Path

import click

from ablations import terminal
from ablations.commands.options import find_study, from_here, results_option
from ablations.commands.typed import FilePath, Once
from modernize.errors import UsageError


@click.command(cls=Once)
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
    type=FilePath(dir_okay=False),
    help="A .png, .svg or .pdf file; may be repeated.  [default: roadmap.png and .svg in the "
    "study's folder; in the current one roadmap-paper, or of two studies roadmap-STUDY-STUDY]",
)
@results_option
def plot(source: str, second: str | None, outputs: tuple[Path, ...], results: Path | None) -> None:
    """Draw the roadmap chart."""
    from ablations.charts import chart, figures

    if source == "paper":
        if second is not None:
            raise UsageError("--second goes with a study; the paper's chart has both regimes.")
        figure, default = figures.paper_figure(), Path("roadmap-paper")
    else:
        study = find_study(source, results)
        other = find_study(second, results) if second else None
        figure, default = figures.study_figure(study, other), study.folder / "roadmap"
        if other:
            default = Path(f"roadmap-{study.name}-{other.name}")
    for path in outputs or [default.with_name(f"{default.name}.{kind}") for kind in ("png", "svg")]:
        terminal.echo(f"Wrote {from_here(chart.save(figure, path))}")
    if note := chart.boxes_note(figure):
        terminal.echo(note, err=True)
