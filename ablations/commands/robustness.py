"""The command that measures robustness: on the sets in folders, or under corruptions made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations import limits, terminal
from ablations.commands import robustness_work as work
from ablations.commands.chart_options import chart_options, outputs_option
from ablations.commands.options import (
    FORMATS,
    STUDY_HELP,
    batch_size_option,
    ema_option,
    find_study,
    given_parameters,
    image_size_option,
    layers_option,
    regime_option,
    results_folder,
    short_path,
    skip_bad_images_option,
    study_argument,
    weights_option,
    workers_option,
)
from ablations.commands.parameters import (
    FilePath,
    IntegerType,
    StrictCommand,
    list_option,
)
from modernize.custom_layers import load_custom_layers
from modernize.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ablations.charts.settings import ChartSettings
    from ablations.tables import Report

_FOLDER = FilePath(file_okay=False)


def _folder(name: str, text: str) -> Callable[..., Any]:
    """Returns an option that names the folder of a set."""
    return click.option(name, type=_FOLDER, metavar="FOLDER", help=text)


@click.command(
    cls=StrictCommand,
    epilog=STUDY_HELP,
    short_help="Measure robustness: ImageNet-C, -C-bar, -A, -R, -Sketch.",
)
@study_argument
@weights_option("A checkpoint, as for evaluate. Without it: the finished runs of a study.")
@list_option(
    "--step",
    metavar="STEP,...",
    help="Only these steps of the study. With --weights: the step of the weights; the default is "
    "found from them.",
)
@regime_option("With --weights and --step: the step's regime.")
@ema_option
@_folder("--imagenet-c", "ImageNet-C: gaussian_noise/1/n01440764/..., or below noise/, blur/ ...")
@_folder("--imagenet-c-bar", "ImageNet-C-bar, in the same layout.")
@_folder("--imagenet-a", "ImageNet-A: a folder for each of its 200 classes.")
@_folder("--imagenet-r", "ImageNet-R, in the same layout.")
@_folder("--sketch", "ImageNet-Sketch: a folder for each class.")
@_folder("--data", "ImageNet's validation images, for the clean accuracy.")
@click.option(
    "--preparation",
    type=click.Choice(["auto", "as-is", "resize", "model"]),
    default="auto",
    show_default=True,
    help="Of the images of C and C-bar. as-is: not resized; resize: the whole image to the size "
    "that the network sees; model: as the network's other test images. auto: as-is for a network "
    "that sees 224 pixels, because these images already have them, and resizing to 256 would "
    "enlarge and cut them; resize for any other.",
)
@image_size_option
@batch_size_option
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="auto: the fastest of the device.",
)
@workers_option
@layers_option
@skip_bad_images_option
@click.option(
    "--table",
    "view",
    type=click.Choice(["summary", "corruptions", "severities"]),
    default="summary",
    show_default=True,
    help="A row for each network, for each corruption, or accuracy by severity.",
)
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@click.option(
    "--relative-to",
    metavar="STEP",
    help="Under corruptions made here: the step that errors are relative to.  [default: the first]",
)
@click.option(
    "--jobs",
    type=IntegerType(1, limits.PROCESSES),
    metavar="N",
    help="Runs of a study at a time.  [default: as in the main job]",
)
@click.option(
    "--executor",
    type=click.Choice(["auto", "local", "slurm", "debug"]),
    default="auto",
    show_default=True,
    help="Where the runs of a study are evaluated, one job each; as in the main job.",
)
@click.option(
    "--slurm-config",
    type=FilePath(dir_okay=False),
    metavar="FILE",
    help="Your cluster's SLURM settings (see docs/cluster.md).",
)
@outputs_option("Draw accuracy by severity: a .png, .svg, .pdf or .eps file; may be repeated.")
@chart_options(draws="outputs")
@click.pass_context
def robustness(
    ctx: click.Context,
    /,
    *,
    study: str | None,
    results: Path | None,
    weights: str | None,
    step: list[str],
    layers: Path | None,
    view: str,
    form: str,
    outputs: tuple[Path, ...],
    settings: ChartSettings | None,
    relative_to: str | None,
    jobs: int | None,
    executor: str,
    slurm_config: Path | None,
    **options: Any,
) -> None:
    """Measure robustness: of --weights or a study, on the sets in folders, as the paper's Table 8.

    Without folders: of a study on its own validation images, under 15 corruptions made here.

    The counts are kept: the same command continues after an interruption.
    """
    from ablations.processes import wait_passively

    wait_passively()
    chosen = {key: options.pop(key.replace("-", "_")) for key in _OPTIONS}
    folders = {_OPTIONS[key]: folder for key, folder in chosen.items() if folder is not None}
    what = "a study on its own images"
    if folders:
        what = "a study on folders" if weights is None else "--weights"
    elif weights is not None:
        raise UsageError("--weights needs one or more folders, such as --imagenet-c FOLDER.")
    if useless := [name for name in given_parameters(ctx) if name in _USELESS[what]]:
        raise UsageError(f"{', '.join(useless)} cannot be used in the evaluation of {what}.")
    if outputs and folders and not {"imagenet-c", "imagenet-c-bar"} & {*folders}:
        raise UsageError("--output draws accuracy by severity: it needs --imagenet-c or -c-bar.")
    if layers is not None:
        load_custom_layers(layers)
    launch = work.Launch(jobs, executor, slurm_config)
    result: tuple[Report, Figure | None] | None
    if not folders:
        found = find_study(study, results)
        result = work.made_here(found, step, relative_to, view, settings, launch)
    else:
        if weights is None:
            found = find_study(study, results)
            measured = work.study_on_folders(found, step, folders, options, launch)
        elif len(step) > 1:
            raise UsageError("--step names one step with --weights.")
        else:
            options["step"] = step[0] if step else None
            store = results_folder(results) / work.STORE
            measured = work.weights_on_folders(weights, folders, options, store)
        result = work.show_networks(*measured, view, settings) if measured[0] else None
    if result is None:  # all runs are with SLURM
        return
    report, figure = result
    report.show(terminal.console(), form)
    if settings is not None and figure is not None:
        _draw(figure, outputs, settings)


_OPTIONS = {"data": "clean", **{key: key for key in ("imagenet-c", "imagenet-c-bar", "imagenet-a",
                                                     "imagenet-r", "sketch")}}  # fmt: skip
"""Option -> kind of set."""

_OF_LAUNCH = ("--jobs", "--executor", "--slurm-config")
_OF_FOLDERS = ("--regime", "--ema", "--preparation", "--image-size", "--batch-size", "--precision",
               "--workers", "--layers", "--skip-bad-images")  # fmt: skip
_USELESS = {
    "a study on its own images": _OF_FOLDERS,
    "a study on folders": ("--regime", "--layers", "--relative-to"),
    "--weights": ("STUDY", "--relative-to", *_OF_LAUNCH),
}
"""What is evaluated -> the options that have no effect on it."""


def _draw(figure: Figure, outputs: Sequence[Path], settings: ChartSettings) -> None:
    from ablations.charts import chart

    for path in outputs:
        work.tell(f"Wrote {short_path(chart.save_figure(figure, path, settings))}")
    if note := chart.boxes_note(figure, settings):
        work.tell(note)
