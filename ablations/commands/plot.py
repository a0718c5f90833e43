"""The command that draws the roadmap chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ablations import terminal
from ablations.commands.chart_options import chart_options, outputs_option
from ablations.commands.options import STUDY_HELP, find_study, results_option, short_path
from ablations.commands.parameters import StrictCommand, list_option
from modernize.errors import UsageError

if TYPE_CHECKING:
    from ablations.charts.settings import ChartSettings


@click.command(cls=StrictCommand, epilog=STUDY_HELP)
@click.argument("source", required=False, metavar="[STUDY|paper]")
@click.option("--from", "option", metavar="STUDY|paper", help="The same as the argument.")
@click.option("--regime", metavar="NAME", help="With paper: only resnet50 or resnet200.")
@list_option("--steps", metavar="STEP,...", help="Draw only these steps.")
@click.option("--second", metavar="STUDY", help="Another study, drawn as grey bars.")
@outputs_option(
    "A .png, .svg, .pdf or .eps file; may be repeated.  [default: roadmap.png and .svg in the "
    "study's folder. For paper: roadmap-paper.*, and for two studies: roadmap-STUDY-STUDY.*, "
    "in the current folder]",
)
@chart_options()
@results_option
def plot(
    source: str | None,
    option: str | None,
    regime: str | None,
    steps: list[str],
    second: str | None,
    outputs: tuple[Path, ...],
    settings: ChartSettings,
    results: Path | None,
) -> None:
    """Draw the roadmap chart of a study, or of the paper's tables."""
    from ablations.charts import chart, figures

    if source is not None and option is not None:
        raise UsageError("name the study once, as STUDY or with --from.")
    source = source or option
    only = steps or None
    if source == "paper":
        if second is not None:
            raise UsageError("--second needs a study: the paper's chart has both regimes.")
        figure = figures.paper_figure(regime, only, settings)
        default = Path("-".join(filter(None, ("roadmap-paper", regime))))
    elif regime is not None:
        raise UsageError(
            f"--regime {regime} goes with paper: a study has the regime of its launch."
        )
    else:
        study = find_study(source, results)
        other = find_study(second, results) if second else None
        figure = figures.study_figure(study, other, steps=only, settings=settings)
        default = study.folder / "roadmap"
        if other:
            default = Path(f"roadmap-{study.name}-{other.name}")
    for path in outputs or [default.with_name(f"{default.name}.{kind}") for kind in ("png", "svg")]:
        terminal.echo(f"Wrote {short_path(chart.save_figure(figure, path, settings))}")
    if note := chart.boxes_note(figure, settings):
        terminal.echo(note, err=True)
