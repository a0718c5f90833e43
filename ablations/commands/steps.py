"""The command that lists the steps."""

from __future__ import annotations

import click

from ablations import tables, terminal
from ablations.commands.parameters import StrictCommand

_COLUMNS = tables.Columns(
    numbers=("index",), optional=("title", "section"), wrapped={"title": 14, "changes": 24}
)


@click.command(cls=StrictCommand, short_help="List the steps, or show the network of one.")
@click.argument("step", required=False)
@click.option(
    "--regime",
    default="resnet50",
    show_default=True,
    metavar="NAME",
    help="resnet50, resnet200 or nano.",
)
def steps(step: str | None, regime: str) -> None:
    """List the steps and their changes, or show the network of one STEP: its key or index."""
    from ablations.studies.selection import describe_step, step_rows

    console = terminal.console()
    if step is None:
        tables.print_table(console, step_rows(regime), _COLUMNS)
    else:
        console.print(describe_step(step, regime), soft_wrap=True)
