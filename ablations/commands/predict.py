"""The command that prints the likeliest classes of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ablations import limits, terminal
from ablations.commands.options import FORMATS, ema_option, layers_option
from ablations.commands.parameters import PIXELS, FilePath, IntegerType, StrictCommand
from modernize.custom_layers import load_custom_layers


@click.command(cls=StrictCommand, short_help="Print the likeliest classes of images.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=FilePath())
@click.option(
    "--weights",
    required=True,
    type=FilePath(path_type=str, is_path=lambda value: value != "torchvision"),
    metavar="FILE|torchvision",
    help="A checkpoint of torchvision, timm, the official ConvNeXt or this program, or the folder "
    "of a run; or torchvision: its published weights.",
)
@click.option("--step", metavar="STEP", help="The step.  [default: found from the weights]")
@click.option("--regime", default="resnet50", show_default=True, metavar="NAME", help="Its regime.")
@ema_option
@click.option(
    "--data",
    type=FilePath(),
    metavar="FOLDER",
    help="Images in folders, whose names are those of the classes.  [default: those of the "
    "run's images or of ImageNet's 1000, else indices]",
)
@click.option("--image-size", type=PIXELS, metavar="PIXELS", help="[default: the run's, or 224]")
@click.option(
    "--resize",
    type=PIXELS,
    metavar="PIXELS",
    help="The shorter side before the centre crop.  [default: the run's, or as for evaluate]",
)
@click.option(
    "--top",
    type=IntegerType(1, limits.BATCH),
    metavar="N",
    default=5,
    show_default=True,
    help="Classes of each image.",
)
@layers_option
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
def predict(
    images: tuple[Path, ...], weights: str, layers: Path | None, style: str, **options: Any
) -> None:
    """Print the likeliest classes of images and their probabilities.

    With the weights of a run, images are prepared as those that it was trained on; with all others,
    as those of ImageNet.
    """
    from ablations.processes import wait_passively

    wait_passively()
    from ablations.weights import prediction

    if layers is not None:
        load_custom_layers(layers)
    prediction.predict(images, weights, **options).show(terminal.console(), style)
