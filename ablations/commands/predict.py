"""The command that prints the likeliest classes of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ablations import limits, terminal
from ablations.commands.options import FORMATS
from ablations.commands.parameters import PIXELS, FilePath, IntegerType, StrictCommand


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
@click.option("--ema", is_flag=True, help="Use the file's moving average of the weights (EMA).")
@click.option(
    "--data",
    type=FilePath(),
    metavar="FOLDER",
    help="Images in folders, whose names are those of the classes.  [default: ImageNet's names for "
    "1000 classes, else indices]",
)
@click.option("--image-size", type=PIXELS, metavar="PIXELS", default=224, show_default=True)
@click.option("--resize", type=PIXELS, metavar="PIXELS", help="As for evaluate.")
@click.option(
    "--top",
    type=IntegerType(1, limits.BATCH),
    metavar="N",
    default=5,
    show_default=True,
    help="Classes of each image.",
)
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
def predict(images: tuple[Path, ...], weights: str, style: str, **options: Any) -> None:
    """Print the likeliest classes of images and their probabilities.

    Images are prepared as `evaluate` prepares those of ImageNet.
    """
    from ablations.processes import wait_passively

    wait_passively()
    from ablations.weights import prediction

    prediction.predict(images, weights, **options).show(terminal.console(), style)
