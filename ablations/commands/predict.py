"""The command that prints the likeliest classes of images, or draws their objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ablations import limits, terminal
from ablations.commands.options import (
    FORMATS,
    ema_option,
    given_parameters,
    image_size_option,
    layers_option,
    regime_option,
    weights_option,
)
from ablations.commands.parameters import (
    PIXELS,
    FilePath,
    FloatType,
    IntegerType,
    StrictCommand,
)
from ablations.metrics import SHOWN_SCORE
from modernize.custom_layers import load_custom_layers
from modernize.errors import UsageError


@click.command(cls=StrictCommand, short_help="Classify images, or draw their objects.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=FilePath())
@weights_option(
    "A checkpoint of torchvision, timm, the official ConvNeXt or this program, or the folder "
    "of a run; or torchvision: its published weights.",
    required=True,
)
@click.option("--step", metavar="STEP", help="The step.  [default: found from the weights]")
@regime_option("Its regime.")
@ema_option
@click.option(
    "--data",
    type=FilePath(),
    metavar="FOLDER",
    help="Images in folders, whose names are those of the classes.  [default: those of the "
    "run's images or of ImageNet's 1000, else indices]",
)
@image_size_option
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
    help="Classes of each image, of a classifier.",
)
@click.option(
    "--score",
    type=FloatType(0, 1),
    metavar="SCORE",
    default=SHOWN_SCORE,
    show_default=True,
    help="The lowest score of objects that are drawn, of a detector.",
)
@click.option(
    "--output",
    type=FilePath(file_okay=False),
    metavar="FOLDER",
    help="Where pictures are written, of a detector or segmenter.  [default: next to each image]",
)
@layers_option
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@click.pass_context
def predict(
    ctx: click.Context,
    /,
    images: tuple[Path, ...],
    weights: str,
    layers: Path | None,
    style: str,
    **options: Any,
) -> None:
    """Print the likeliest classes of images and their probabilities.

    With the weights of a run of detection or segmentation, draw pictures instead: boxes, masks,
    classes and scores of objects, or the class of each pixel. The picture of
    IMAGE.jpg is IMAGE.predicted.png.

    With the weights of a run, images are prepared as those that it was trained on; with all others,
    as `evaluate` prepares those of ImageNet.
    """
    from ablations.processes import wait_passively

    wait_passively()
    from ablations.weights import drawn, prediction

    if layers is not None:
        load_custom_layers(layers)
    task = drawn.task_of(weights)
    others = _OF_CLASSIFIERS if task else _OF_PICTURES
    if given := [name for name in given_parameters(ctx) if name in others]:
        kind = "a classifier" if task else "a run of detection or segmentation"
        raise UsageError(
            f"{', '.join(given)} is for the weights of {kind}, which {weights} is not."
        )
    for name in others:
        del options[name.removeprefix("--")]
    if task:
        report = drawn.predict(images, weights, task, **options)
    else:
        report = prediction.predict(images, weights, **options)
    report.show(terminal.console(), style)


_OF_CLASSIFIERS = ("--data", "--top")
_OF_PICTURES = ("--output", "--score")
