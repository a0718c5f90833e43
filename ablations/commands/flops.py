"""The command that counts parameters and FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console

from ablations import tables, terminal
from ablations.commands.options import FORMATS, given_parameters
from ablations.commands.parameters import PIXELS, StrictCommand
from ablations.commands.study_request import Networks, select_networks, selection_options


@click.command(
    cls=StrictCommand, short_help="Count parameters and FLOPs; compare them with the paper's."
)
@click.option(
    "--regime",
    "regimes",
    multiple=True,
    metavar="NAME",
    help="resnet50, resnet200 or nano; may be repeated.  [default: resnet50, or the study's]",
)
@selection_options
@click.option("--step", metavar="STEP", help="Show one step by operator and by module.")
@click.option("--image-size", type=PIXELS, metavar="PIXELS", help="[default: the regime's]")
@click.option(
    "--models",
    is_flag=True,
    help="Count the paper's models instead of steps, from ResNet-50 to ConvNeXt-XL, and Swin.",
)
@click.option(
    "--task",
    type=click.Choice(["detection", "segmentation"]),
    help="Count detectors or segmenters on each step, or with --models on the paper's backbones.",
)
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@click.pass_context
def flops(
    ctx: click.Context,
    /,
    regimes: tuple[str, ...],
    step: str | None,
    image_size: int | None,
    models: bool,
    task: str | None,
    style: str,
    **chosen: Any,
) -> None:
    """Count parameters and FLOPs of steps, variants or models, beside the paper's figures."""
    from ablations.costs import step_costs

    console = terminal.console()
    given = given_parameters(ctx)
    if models:
        if given := [name for name in given if name not in ("--models", "--task", "--format")]:
            raise click.UsageError(
                f"{', '.join(given)} cannot be used with --models, which counts each model at the "
                "image sizes that the paper's tables have."
            )
        _print_models(console, task, style)
        return
    if task is not None:
        if given := [name for name in given if name in ("--step", "--image-size")]:
            raise click.UsageError(
                f"{', '.join(given)} cannot be used with --task, which counts whole models at the "
                "image size of its heads."
            )
        found = [select_networks(regime=name, **chosen) for name in regimes or (None,)]
        _print_task(console, task, found, style)
        return
    if step is not None:
        if given := [name for name in given if name in ("--until", "--from", "--only")]:
            raise click.UsageError(
                f"{', '.join(given)} cannot be used with --step, which shows one step."
            )
        chosen["only"] = [step]
    found = [select_networks(regime=name, **chosen) for name in regimes or (None,)]
    sizes = [image_size or networks.regime.image_size for networks in found]
    if step is not None:
        pairs = [(n.variants[0], n.regime, size) for n, size in zip(found, sizes, strict=True)]
        if style == "table":
            for pair in pairs:
                terminal.echo(step_costs.step_breakdown(*pair))
            return
        values = [row for pair in pairs for row in step_costs.step_parts(*pair)]
        tables.plain_report(values).show(console, style)
        return
    counted = [
        step_costs.cost_rows(networks.variants, networks.regime, size)
        for networks, size in zip(found, sizes, strict=True)
    ]
    if style in ("csv", "json"):  # one list for all regimes
        step_costs.report([row for rows in counted for row in rows]).show(console, style)
        return
    for number, (networks, rows) in enumerate(zip(found, counted, strict=True)):
        if style in ("markdown", "latex") and number:
            terminal.echo()
        step_costs.report(rows, step_costs.title(rows, networks.title)).show(console, style)


def _print_task(console: Console, task: str, found: Sequence[Networks], style: str) -> None:
    """Prints the costs of detectors or segmenters on the selected networks."""
    from ablations.costs import dense_costs

    chosen = dense_costs.TASKS[task]
    counted = [dense_costs.step_rows(chosen, n.variants, n.regime) for n in found]
    if style in ("csv", "json"):  # one list for all regimes
        rows = [row for rows in counted for row in rows]
        dense_costs.step_report(chosen, rows, "").show(console, style)
        return
    for number, (networks, rows) in enumerate(zip(found, counted, strict=True)):
        if style in ("markdown", "latex") and number:
            terminal.echo()
        title = dense_costs.step_title(rows, networks.title)
        dense_costs.step_report(chosen, rows, title).show(console, style)


def _print_models(console: Console, task: str | None, style: str) -> None:
    """Prints the costs of the paper's models."""
    if task is not None:
        from ablations.costs import dense_costs

        dense_costs.model_report(dense_costs.TASKS[task]).show(console, style)
        return
    from ablations.costs import model_costs

    rows = model_costs.model_rows()
    tables.Report(
        model_costs.as_values(rows),
        [model_costs.as_texts(row) for row in rows],
        model_costs.COLUMNS,
        notes=model_costs.footnotes(rows),
    ).show(console, style)
