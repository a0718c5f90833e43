"""The command that evaluates a finished run on its images, or weights on ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ablations import tables, terminal
from ablations.commands.options import (
    STUDY_HELP,
    batch_size_option,
    ema_option,
    find_study,
    given_parameters,
    image_size_option,
    layers_option,
    regime_option,
    skip_bad_images_option,
    study_argument,
    weights_option,
    workers_option,
)
from ablations.commands.parameters import (
    PIXELS,
    SEED,
    ImageFolder,
    StrictCommand,
)
from ablations.commands.study_request import YAML_FILE
from modernize.custom_layers import load_custom_layers
from modernize.errors import UsageError


@click.command(
    cls=StrictCommand,
    epilog=STUDY_HELP,
    short_help="Evaluate a finished run, or weights from elsewhere.",
)
@study_argument
@weights_option(
    "Evaluate a checkpoint of torchvision, timm, the official ConvNeXt or this program; or "
    "torchvision: its published weights. Without it: evaluate a finished run.",
)
@click.option(
    "--step",
    metavar="STEP",
    help="The step: its key or index. With --weights, the default is found from them.",
)
@regime_option("With --weights and --step: the step's regime.")
@ema_option
@click.option(
    "--data",
    type=ImageFolder(),
    metavar="FOLDER",
    help="The validation images, in folders named by the run's classes or by ImageNet's synsets.  "
    "[default: the run's images]",
)
@click.option(
    "--preset",
    type=YAML_FILE,
    metavar="NAME|FILE",
    help="With --weights of a run: the preset whose task, head and images they are evaluated on.",
)
@click.option(
    "--test",
    metavar="NAME",
    help="Of a segmenter: whole images, slide (crops of them) or multi-scale (several sizes and "
    "flips).  [default: as after each epoch]",
)
@image_size_option
@click.option(
    "--resize",
    type=PIXELS,
    metavar="PIXELS",
    help="The shorter side before the centre crop.  [default: the run's, or 256 for 224; from 384 "
    "on, the whole image is warped to a square]",
)
@batch_size_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    help="auto: the fastest of the device.  [default: the run's; with --weights: fp32]",
)
@workers_option
@layers_option
@skip_bad_images_option
@click.option("--seed", type=SEED, metavar="N", default=0, show_default=True, help="Of the run.")
@click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    weights: str | None,
    data: str | None,
    study: str | None,
    results: Path | None,
    style: str,
    layers: Path | None,
    preset: str | None,
    **options: Any,
) -> None:
    """Evaluate a finished run on its validation images, or --weights on ImageNet's."""
    from ablations.processes import wait_passively

    wait_passively()
    from ablations.weights import validation

    of_run, on_data, on_preset = _USELESS
    _refuse_others(ctx, of_run if weights is None else on_preset if preset else on_data)
    if weights is not None and data is None and preset is None:
        raise UsageError("--weights needs --data: the folder of the validation images.")
    if weights is None and options["step"] is None:
        raise UsageError(
            "nothing to evaluate: give --weights FILE with --data FOLDER or --preset NAME, or the "
            "--step of a run."
        )
    if layers is not None:
        load_custom_layers(layers)
    asked = validation.Options(**options)
    if weights is not None and preset is not None:
        from ablations.recipe import load_preset

        evaluated = validation.of_preset(weights, load_preset(preset), data, asked)
    elif weights is not None and data is not None:
        evaluated = validation.of_weights(weights, Path(data), asked)
    else:
        evaluated = validation.of_run(find_study(study, results), data, asked)
    json = style == "json"
    terminal.echo(tables.as_json([evaluated.values()]) if json else "\n".join(evaluated.lines()))


_OF_IMAGENET = ("--regime", "--image-size", "--resize", "--batch-size", "--workers")
_USELESS = {
    "a run; it needs --weights": ("--preset", *_OF_IMAGENET),
    "--weights on --data": ("STUDY", "--results", "--seed", "--test"),
    "--weights with --preset": ("STUDY", "--results", "--seed", "--step", *_OF_IMAGENET),
}
"""What is evaluated -> the options that have no effect on it."""


def _refuse_others(ctx: click.Context, what: str) -> None:
    """Refuses options that have no effect on what is evaluated, one of :data:`_USELESS`."""
    if given := [name for name in given_parameters(ctx) if name in _USELESS[what]]:
        raise UsageError(f"{', '.join(given)} cannot be used in the evaluation of {what}.")
