"""The command that tells what a checkpoint is, and writes it in another layout."""

from __future__ import annotations

from pathlib import Path

import click

from ablations import terminal
from ablations.commands.parameters import FilePath, StrictCommand
from modernize.custom_layers import load_custom_layers
from modernize.errors import UsageError


@click.command(cls=StrictCommand, short_help="Tell what a checkpoint is, or write it for others.")
@click.argument("source", metavar="FILE", type=FilePath())
@click.option(
    "--to", "layout", metavar="LAYOUT", help="torchvision, timm, timm-conv-mlp, official or ours."
)
@click.option(
    "--output",
    type=FilePath(),
    metavar="FILE",
    help="What to write: .safetensors, or .pth or .pt for torch's format.",
)
@click.option("--ema", is_flag=True, help="Take the moving average that the file has besides.")
@click.option(
    "--layers",
    type=FilePath(dir_okay=False),
    metavar="FILE",
    help="The Python file of the network's custom layers, if it has any; it is run.",
)
def convert(
    source: Path, layout: str | None, output: Path | None, ema: bool, layers: Path | None
) -> None:
    """Tell what a checkpoint FILE is, and write it as another implementation has it.

    FILE is of torchvision, timm, the official ConvNeXt or ours; or it is the folder of a run.
    """
    from ablations.weights import conversion

    if (layout is None) != (output is None):
        raise UsageError("--to LAYOUT and --output FILE go together; without both, FILE is told.")
    if layout is not None and output is not None:
        conversion.check_output(source, layout, output)
    if layers is not None:
        load_custom_layers(layers)
    weights = conversion.read(source, ema=ema)
    terminal.echo("\n".join(conversion.describe(source, weights)))
    if layout is not None and output is not None:
        terminal.echo(conversion.write(weights, layout, output))
