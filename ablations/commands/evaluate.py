"""The command that evaluates weights on ImageNet, or a finished run on its own images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ablations import limits, tables, terminal
from ablations.commands.options import (
    STUDY_HELP,
    find_study,
    given_parameters,
    study_argument,
)
from ablations.commands.parameters import (
    BATCH,
    PIXELS,
    SEED,
    FilePath,
    ImageFolder,
    IntegerType,
    StrictCommand,
)
from modernize.custom_layers import load_custom_layers
from modernize.errors import UsageError


@click.command(
    cls=StrictCommand,
    epilog=STUDY_HELP,
    short_help="Evaluate a finished run, or weights from elsewhere.",
)
@study_argument
@click.option(
    "--weights",
    type=FilePath(path_type=str, is_path=lambda value: value != "torchvision"),
    metavar="FILE|torchvision",
    help="A checkpoint of torchvision, timm, the official ConvNeXt or ours; or have torchvision "
    "fetch its own. Without it: a finished run's.",
)
@click.option("--step", metavar="STEP", help="Which step it is; by default the weights tell.")
@click.option("--regime", default="resnet50", show_default=True, metavar="NAME")
@click.option("--ema", is_flag=True, help="Take the moving average that the file has besides.")
@click.option(
    "--data",
    type=ImageFolder(),
    metavar="FOLDER",
    help="Validation images, in folders named by ImageNet's synsets; a run's: as its preset says.",
)
@click.option("--image-size", type=PIXELS, default=224, show_default=True)
@click.option(
    "--resize",
    type=PIXELS,
    metavar="PIXELS",
    help="Shorter side before the centre crop.  [default: 256 for 224; from 384 on, as large]",
)
@click.option("--batch-size", type=BATCH, default=64, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    help="auto: the fastest that the device has.  [default: fp32; a run's: as it was trained]",
)
@click.option(
    "--workers",
    type=IntegerType(0, limits.PROCESSES),
    metavar="N",
    help="Processes that decode images.",
)
@click.option(
    "--layers",
    type=FilePath(dir_okay=False),
    metavar="FILE",
    help="The Python file of the network's custom layers, if it has any; it is run.",
)
@click.option("--skip-bad-images", is_flag=True, help="Leave out images that cannot be read.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table")
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
    **options: Any,
) -> None:
    """Evaluate weights on ImageNet's validation images, or a finished run of ours on its own."""
    from ablations.processes import wait_passively

    wait_passively()
    from ablations.weights import validation

    _refuse_others(ctx, of_weights=weights is not None)
    if weights is not None and data is None:
        raise UsageError("--weights needs --data: the folder of the validation images.")
    if weights is None and options["step"] is None:
        raise UsageError("say what to evaluate: --weights FILE --data FOLDER, or a run's --step.")
    if layers is not None:
        load_custom_layers(layers)
    asked = validation.Options(**options)
    if weights is not None and data is not None:
        evaluated = validation.of_weights(weights, Path(data), asked)
    else:
        evaluated = validation.of_run(find_study(study, results), data, asked)
    json = style == "json"
    terminal.echo(tables.as_json([evaluated.values()]) if json else "\n".join(evaluated.lines()))


def _refuse_others(ctx: click.Context, *, of_weights: bool) -> None:
    """Refuses options of `evaluate` that say nothing of what is evaluated."""
    of_the_other = {
        True: ("STUDY", "--results", "--seed"),
        False: ("--regime", "--image-size", "--resize", "--batch-size", "--workers"),
    }
    given = [name for name in given_parameters(ctx) if name in of_the_other[of_weights]]
    if given:
        what = "a run, not of --weights" if of_weights else "--weights, not of a run"
        raise UsageError(f"{', '.join(given)}: an option of {what}; leave it out.")
