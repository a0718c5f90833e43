"""The command that counts parameters and FLOPs."""

from __future__ import annotations

import click
from rich.console import Console

from ablations import tables, terminal
from ablations.commands.options import FORMATS, given_parameters
from ablations.commands.parameters import PIXELS, StrictCommand


@click.command(
    cls=StrictCommand, short_help="Count parameters and FLOPs; compare them with the paper's."
)
@click.option(
    "--regime",
    "regimes",
    multiple=True,
    metavar="NAME",
    default=["resnet50"],
    show_default=True,
    help="resnet50, resnet200 or nano; may be repeated.",
)
@click.option("--until", "last", metavar="STEP", help="The last step: its key or index.")
@click.option("--step", metavar="STEP", help="Show one step by operator and by module.")
@click.option("--image-size", type=PIXELS, metavar="PIXELS", help="[default: the regime's]")
@click.option(
    "--models",
    is_flag=True,
    help="Count the paper's models instead of steps, from ResNet-50 to ConvNeXt-XL, and Swin.",
)
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@click.pass_context
def flops(
    ctx: click.Context,
    /,
    regimes: tuple[str, ...],
    last: str | None,
    step: str | None,
    image_size: int | None,
    models: bool,
    style: str,
) -> None:
    """Count parameters and FLOPs of the steps or the models, beside the paper's figures."""
    from ablations.costs import step_costs
    from ablations.studies.selection import roadmap
    from modernize.steps import find_regime

    console = terminal.console()
    if models:
        given = [name for name in given_parameters(ctx) if name not in ("--models", "--format")]
        if given:
            raise click.UsageError(
                f"{', '.join(given)} does not go with --models, which counts each model at the "
                "image sizes that the paper's tables have."
            )
        _print_models(console, style)
        return
    chosen = [find_regime(name) for name in regimes]
    if step is not None:
        if last is not None:
            raise click.UsageError("--until does not go with --step, which shows one step.")
        sizes = [(regime, image_size or regime.image_size) for regime in chosen]
        if style == "table":
            for regime, size in sizes:
                terminal.echo(step_costs.step_breakdown(step, regime, size))
            return
        values = [
            row for regime, size in sizes for row in step_costs.step_parts(step, regime, size)
        ]
        tables.plain_report(values).show(console, style)
        return
    counted = [
        step_costs.cost_rows(roadmap(r.name, last=last), r, image_size or r.image_size)
        for r in chosen
    ]
    if style in ("csv", "json"):  # one list for all regimes
        step_costs.report([row for rows in counted for row in rows]).show(console, style)
        return
    for number, (regime, rows) in enumerate(zip(chosen, counted, strict=True)):
        if style in ("markdown", "latex") and number:
            terminal.echo()
        step_costs.report(rows, step_costs.title(rows, regime)).show(console, style)


def _print_models(console: Console, style: str) -> None:
    """Prints the costs of the paper's models."""
    from ablations.costs import model_costs

    rows = model_costs.model_rows()
    tables.Report(
        model_costs.as_values(rows),
        [model_costs.as_texts(row) for row in rows],
        model_costs.COLUMNS,
        notes=model_costs.footnotes(rows),
    ).show(console, style)
