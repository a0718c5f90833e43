"""The command that describes a checkpoint and writes it in another layout."""

from __future__ import annotations

from pathlib import Path

import click

from ablations import terminal
from ablations.commands.options import ema_option, layers_option
from ablations.commands.parameters import FilePath, StrictCommand
from modernize.custom_layers import load_custom_layers
from modernize.errors import UsageError


@click.command(cls=StrictCommand, short_help="Describe a checkpoint, or convert it.")
@click.argument("source", metavar="FILE", type=FilePath())
@click.option(
    "--to",
    "layout",
    metavar="LAYOUT",
    help="Convert it: torchvision, timm, timm-conv-mlp, official or ours.",
)
@click.option(
    "--output",
    type=FilePath(),
    metavar="FILE",
    help="The file to write: .safetensors, or .pth or .pt for torch's format.",
)
@ema_option
@layers_option
def convert(
    source: Path, layout: str | None, output: Path | None, ema: bool, layers: Path | None
) -> None:
    """Describe a checkpoint, and with --to convert it to the layout of another implementation.

    FILE is a checkpoint of torchvision, timm, the official ConvNeXt or this program, or the folder
    of a run.
    """
    from ablations.weights import conversion

    if (layout is None) != (output is None):
        raise UsageError(
            "--to LAYOUT and --output FILE go together; without both, FILE is only described."
        )
    if layout is not None and output is not None:
        conversion.check_output(source, layout, output)
    if layers is not None:
        load_custom_layers(layers)
    weights = conversion.read(source, ema=ema)
    terminal.echo("\n".join(conversion.describe(source, weights)))
    if layout is not None and output is not None:
        terminal.echo(conversion.write(weights, layout, output))
