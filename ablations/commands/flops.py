"""The command that counts parameters and FLOPs."""

from __future__ import annotations

import click
from rich.console import Console

from ablations import tables, terminal
from ablations.commands.options import FORMATS, given_parameters
from ablations.commands.parameters import PIXELS, StrictCommand
from modernize.text import markdown


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
        if style == "markdown":
            texts = [{name: str(value) for name, value in row.items()} for row in values]
            terminal.echo(tables.as_markdown(texts))
        else:
            terminal.echo(tables.for_programs(values, style))
        return
    counted = [
        step_costs.cost_rows(roadmap(r.name, last=last), r, image_size or r.image_size)
        for r in chosen
    ]
    if style in ("csv", "json"):
        values = [step_costs.as_values(row) for rows in counted for row in rows]
        terminal.echo(tables.for_programs(values, style))
        return
    for regime, rows in zip(chosen, counted, strict=True):
        title = step_costs.title(rows, regime)
        if style == "markdown":
            terminal.echo(f"{markdown(title)}\n\n{step_costs.as_markdown(rows)}\n")
            continue
        tables.print_table(console, step_costs.as_texts(rows), step_costs.COLUMNS, title)
        for note in step_costs.footnotes(rows):
            console.print(note, soft_wrap=True)


def _print_models(console: Console, style: str) -> None:
    """Prints the costs of the paper's models."""
    from ablations.costs import model_costs

    rows = model_costs.model_rows()
    if style in ("csv", "json"):
        terminal.echo(tables.for_programs(model_costs.as_values(rows), style))
        return
    texts = [model_costs.as_texts(row) for row in rows]
    if style == "markdown":
        terminal.echo(f"{tables.as_markdown(texts, model_costs.COLUMNS)}\n")
    else:
        tables.print_table(console, texts, model_costs.COLUMNS)
    for note in model_costs.footnotes(rows):
        terminal.echo(note if style == "table" else f"- {markdown(note)}")
