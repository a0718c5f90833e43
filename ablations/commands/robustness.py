"""The command that measures robustness: on the sets in folders, or under corruptions made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations import limits, terminal
from ablations.commands.chart_options import chart_options, outputs_option
from ablations.commands.options import (
    FORMATS,
    STUDY_HELP,
    ema_option,
    find_study,
    given_parameters,
    layers_option,
    results_folder,
    short_path,
    study_argument,
)
from ablations.commands.parameters import (
    BATCH,
    PIXELS,
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
    from ablations.records import Study

STORE = "robustness"
"""The folder in ``results`` that keeps what was counted on the sets in folders."""

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
@click.option(
    "--weights",
    type=FilePath(path_type=str, is_path=lambda value: value != "torchvision"),
    metavar="FILE|torchvision",
    help="A checkpoint, as for evaluate.  Without it: the finished runs of a study.",
)
@list_option(
    "--step",
    metavar="STEP,...",
    help="Only these steps of the study. With --weights: the step of the weights; the default is "
    "found from them.",
)
@click.option(
    "--regime",
    default="resnet50",
    show_default=True,
    metavar="NAME",
    help="With --weights and --step: the step's regime.",
)
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
@click.option("--image-size", type=PIXELS, metavar="PIXELS", help="[default: the run's, or 224]")
@click.option("--batch-size", type=BATCH, metavar="IMAGES", default=64, show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="auto: the fastest of the device.",
)
@click.option(
    "--workers",
    type=IntegerType(0, limits.PROCESSES),
    metavar="N",
    help="Processes that decode images.",
)
@layers_option
@click.option(
    "--skip-bad-images", is_flag=True, help="Skip images that cannot be read, and count them."
)
@click.option(
    "--table",
    "view",
    type=click.Choice(["summary", "corruptions", "severities"]),
    default="summary",
    show_default=True,
    help="A row for each network, for each corruption, or accuracy by severity.",
)
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
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
    **options: Any,
) -> None:
    """Measure robustness as the paper's Table 8: --weights or a study, on the sets in folders.

    What is counted is kept in results/robustness: the same command continues after an interruption.
    """
    from ablations.processes import wait_passively

    wait_passively()
    if layers is not None:
        load_custom_layers(layers)
    chosen = {key: options.pop(key.replace("-", "_")) for key in _OPTIONS}
    folders = {_OPTIONS[key]: folder for key, folder in chosen.items() if folder is not None}
    given = given_parameters(ctx)
    useless = {"STUDY"} if weights is not None else {"--regime"}
    if named := [name for name in given if name in useless]:
        what = "--weights" if weights is not None else "a study"
        raise UsageError(f"{', '.join(named)} has no effect on the evaluation of {what}.")
    if not folders:
        raise UsageError(
            "nothing to evaluate on: name one or more folders, such as --imagenet-c FOLDER."
        )
    if outputs and not {"imagenet-c", "imagenet-c-bar"} & {*folders}:
        raise UsageError("--output draws accuracy by severity: it needs --imagenet-c or -c-bar.")
    from ablations.robustness import folder_reports
    from ablations.robustness import folders as on_folders

    faults: dict[Path, str] = {}
    networks: dict[str, list[str]]
    if weights is not None:
        if len(step) > 1:
            raise UsageError("--step names one step with --weights.")
        options["step"], networks = step[0] if step else None, {"": [weights]}
    else:
        networks = _runs_of(find_study(study, results), step)
    measured, notes = on_folders.measure(
        networks,
        folders,
        on_folders.Options(**options),
        results_folder(results) / STORE,
        lambda line: terminal.echo(line, err=True),
        faults,
    )
    report = (
        folder_reports.summary(measured, [*notes, *faults.values()])
        if view == "summary"
        else folder_reports.TABLES[view](measured)
    )
    report.show(terminal.console(), form)
    if settings is not None:
        from ablations.robustness.chart import folders_figure

        _draw(folders_figure(measured, settings), outputs, settings)


_OPTIONS = {"data": "clean", **{key: key for key in ("imagenet-c", "imagenet-c-bar", "imagenet-a",
                                                     "imagenet-r", "sketch")}}  # fmt: skip
"""Option -> kind of set."""


def _runs_of(study: Study, steps: Sequence[str]) -> dict[str, list[str]]:
    """Returns step -> the folders of its finished runs, which must be there."""
    from ablations.robustness.study import finished_runs

    networks: dict[str, list[str]] = {}
    for variant, _, folder in finished_runs(study, steps):
        folder.check_present()
        networks.setdefault(variant.key, []).append(str(folder.path))
    return networks


def _draw(figure: Figure, outputs: Sequence[Path], settings: ChartSettings) -> None:
    from ablations.charts import chart

    for path in outputs:
        saved = chart.save_figure(figure, path, settings)
        terminal.echo(f"Wrote {short_path(saved)}", err=True)
    if note := chart.boxes_note(figure, settings):
        terminal.echo(note, err=True)
