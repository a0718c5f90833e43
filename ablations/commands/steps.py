"""The command that lists the steps, and shows networks: blocks and whole architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ablations import tables, terminal
from ablations.commands.chart_options import chart_options, outputs_option
from ablations.commands.options import FORMATS, given_parameters, short_path
from ablations.commands.parameters import PIXELS, IntegerType, StrictCommand
from ablations.commands.study_request import select_networks, study_option
from modernize.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ablations.charts.settings import ChartSettings
    from ablations.commands.study_request import Networks
    from ablations.diagrams.blocks import BlockDiagram
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
    metavar="NUMBER",
    help="The stage whose block is drawn.  [default: the first with more than a first block]",
)
@click.option("--first-block", is_flag=True, help="Draw the first block of the stage.")
@click.option("--image-size", type=PIXELS, metavar="PIXELS", help="[default: the regime's]")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@outputs_option(
    "Draw the blocks, of all steps if none is named, as a .png, .svg or .pdf file; may be "
    "repeated.",
)
@chart_options(draws="outputs")
@click.pass_context
def steps(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    study: str | None,
    regime: str | None,
    table: bool,
    fields: bool,
    stage: int | None,
    first_block: bool,
    image_size: int | None,
    form: str,
    outputs: tuple[Path, ...],
    settings: ChartSettings | None,
) -> None:
    """List the steps and their changes, or draw the block of each STEP and mark what changed.

    STEP: a step's key or index, or a network of the paper, such as ConvNeXt-B. One STEP is compared
    with the step before, several each with the one to its left. With --table also swin, or Swin-T.
    With --study, the same for the variants of a study.
    """
    from ablations.diagrams import text
    from ablations.diagrams.blocks import block_diagrams
    from ablations.studies.selection import describe_step, step_rows

    console = terminal.console()
    networks = select_networks(study, regime)
    if not table and (swin := [name for name in names if _is_swin(name)]):
        raise UsageError(f"{swin[0]} is no step and has no block; --table shows its architecture.")
    variants, size = networks.variants, image_size or networks.regime.image_size
    if settings is not None:
        others = {"--table", "--fields", "--format"} & {*given_parameters(ctx)}
        if others:
            raise UsageError(f"{min(others)} cannot be used with --output, which draws blocks.")
        pairs = compared(names, variants)
        diagrams = block_diagrams(pairs, size, stage=stage and stage - 1, first=first_block)
        title = "" if names else f"Blocks of stage {diagrams[0].stage + 1}: {networks.title}"
        _draw(diagrams, title, outputs, settings)
    elif fields:
        if len(names) != 1 or table:
            raise UsageError("--fields shows the fields of one STEP; name one, without --table.")
        console.print(describe_step(names[0], variants, networks.regime.name), soft_wrap=True)
    elif table:
        _print_table(names, networks, size, form)
    elif names:
        pairs = compared(names, variants)
        diagrams = block_diagrams(pairs, size, stage=stage and stage - 1, first=first_block)
        if form == "table":
            text.show(console, diagrams)
            return
        rows = [row for diagram in diagrams for row in diagram.rows()]
        shown = ("step", "part", "text", "change", "before")
        texts = [{name: row[name] or "" for name in shown} for row in rows]
        tables.Report(rows, texts).show(console, form)
    else:
        rows = step_rows(variants)
        tables.Report(rows, rows, _COLUMNS).show(console, form)


def _draw(
    diagrams: Sequence[BlockDiagram],
    title: str,
    outputs: Sequence[Path],
    settings: ChartSettings,
) -> None:
    """Writes a picture of blocks to files."""
    from ablations.charts import blocks, chart

    figure = blocks.draw(diagrams, title, settings)
    for path in outputs:
        terminal.echo(f"Wrote {short_path(chart.save_figure(figure, path, settings))}")
    if note := chart.boxes_note(figure, settings):
        terminal.echo(note, err=True)


def _print_table(names: Sequence[str], networks: Networks, size: int, style: str) -> None:
    """Prints the architectures of networks side by side."""
    from ablations.diagrams import table, table_text
    from ablations.diagrams.swin import swin_column
    from ablations.studies.selection import find_network
    from modernize.models import model_of

    columns, regime = [], networks.regime
    for name in names or ("0", str(len(networks.variants) - 1)):
        if _is_swin(name):
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


def _is_swin(name: str) -> bool:
    return name.lower().startswith("swin")


def compared(
    names: Sequence[str], variants: Sequence[Variant]
) -> list[tuple[Variant, Variant | None]]:
    """Returns networks by name, or all, each with the one that it is compared with.

    One network, and all, are compared with the step before, several each with the one named before
    it.
    """
    from ablations.studies.selection import find_network, parent_of

    found = [find_network(name, variants) for name in names]
    if len(names) < 2:
        return [(variant, parent_of(variant, variants)) for variant in found or variants]
    return list(zip(found, [None, *found], strict=False))
