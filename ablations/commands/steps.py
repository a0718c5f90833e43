"""The command that lists the steps, and shows networks: blocks and whole architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ablations import tables, terminal
from ablations.commands.options import FORMATS
from ablations.commands.parameters import PIXELS, IntegerType, StrictCommand
from ablations.commands.study_request import select_networks, study_option
from modernize.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablations.commands.study_request import Networks
    from modernize.steps import Variant

_COLUMNS = tables.Columns(
    numbers=("index",), optional=("title", "section"), wrapped={"title": 14, "changes": 24}
)


@click.command(cls=StrictCommand, short_help="List the steps, or draw the networks of some.")
@click.argument("names", nargs=-1, metavar="[STEP]...")
@study_option(None)
@click.option(
    "--regime",
    metavar="NAME",
    help="resnet50, resnet200 or nano.  [default: resnet50, or the study's]",
)
@click.option(
    "--table",
    is_flag=True,
    help="Show whole architectures, as the paper's Table 9.  [default: of the first and the last]",
)
@click.option("--fields", is_flag=True, help="Show the fields of one STEP's network.")
@click.option(
    "--stage",
    type=IntegerType(1, 8),
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="The stage whose block is drawn.",
)
@click.option("--first-block", is_flag=True, help="Draw the first block of the stage.")
@click.option("--image-size", type=PIXELS, metavar="PIXELS", help="[default: the regime's]")
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
def steps(
    names: tuple[str, ...],
    study: str | None,
    regime: str | None,
    table: bool,
    fields: bool,
    stage: int,
    first_block: bool,
    image_size: int | None,
    style: str,
) -> None:
    """List the steps and their changes, or draw the block of each STEP and mark what changed.

    STEP: a step's key or index, or a network of the paper, such as ConvNeXt-B. One STEP is compared
    with the step before, several each with the one to its left. With --table also swin, or Swin-T.
    With --study, the same for the variants of a study.
    """
    from ablations.studies.selection import describe_step, step_rows

    console = terminal.console()
    networks = select_networks(study, regime)
    variants, size = networks.variants, image_size or networks.regime.image_size
    if fields:
        if len(names) != 1 or table:
            raise UsageError("--fields shows the fields of one STEP; name one, without --table.")
        console.print(describe_step(names[0], variants, networks.regime.name), soft_wrap=True)
    elif table:
        _print_table(names, networks, size, style)
    elif names:
        _print_blocks(names, variants, size, stage - 1, first_block, style)
    else:
        rows = step_rows(variants)
        tables.Report(rows, rows, _COLUMNS).show(console, style)


def _print_blocks(
    names: Sequence[str],
    variants: Sequence[Variant],
    size: int,
    stage: int,
    first: bool,
    style: str,
) -> None:
    """Prints the diagrams of blocks."""
    from ablations.diagrams import text
    from ablations.diagrams.blocks import block_diagrams

    console = terminal.console()
    pairs = compared(names, variants)
    diagrams = block_diagrams(pairs, size, stage=stage, first=first)
    if style != "table":
        rows = [row for diagram in diagrams for row in diagram.rows()]
        tables.plain_report(rows).show(console, style)
        return
    text.show(console, diagrams)


def _print_table(names: Sequence[str], networks: Networks, size: int, style: str) -> None:
    """Prints the architectures of networks side by side."""
    from ablations.diagrams import table, table_text
    from ablations.diagrams.swin import swin_column
    from ablations.studies.selection import find_network
    from modernize.models import model_of

    columns, regime = [], networks.regime
    for name in names or ("0", str(len(networks.variants) - 1)):
        if name.lower().startswith("swin"):
            model = regime.reference if name.lower() == "swin" else name
            if model is None:
                raise UsageError(f"the regime {regime.name} has no Swin; name one, as Swin-T.")
            columns.append(swin_column(model, size))
        else:
            variant = find_network(name, networks.variants)
            title = model_of(variant.spec) or variant.key
            columns.append(table.column(title, variant.spec, size))
    title = f"Architectures for images of {size} x {size}"
    if style == "table":
        table_text.show(terminal.console(), columns, title)
    else:
        terminal.echo(table_text.as_text(columns, title, style))


def compared(
    names: Sequence[str], variants: Sequence[Variant]
) -> list[tuple[Variant, Variant | None]]:
    """Returns networks by name, each with the one that it is compared with.

    One network is compared with the step before, several each with the one named before it.
    """
    from ablations.studies.selection import find_network, parent_of

    found = [find_network(name, variants) for name in names]
    if len(found) == 1:
        return [(found[0], parent_of(found[0], variants))]
    return list(zip(found, [None, *found], strict=False))
