"""The command that measures robustness: on the sets in folders, or under corruptions made here."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations import limits, terminal
from ablations.commands import shell
from ablations.commands.chart_options import chart_options, outputs_option
from ablations.commands.launch import RunsFailedError
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
    workers_option,
)
from ablations.commands.parameters import (
    BATCH,
    PIXELS,
    FilePath,
    IntegerType,
    StrictCommand,
    list_option,
)
from ablations.units import duration
from modernize.custom_layers import load_custom_layers
from modernize.errors import UsageError
from modernize.text import few, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ablations.charts.settings import ChartSettings
    from ablations.launching.executors import Executor
    from ablations.records import Study
    from ablations.robustness.scores import Network
    from ablations.robustness.study import Plan
    from ablations.tables import Report

STORE = "robustness"
"""The folder, in that of the study or the results, with the counts on the sets in folders."""

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
    help="A checkpoint, as for evaluate. Without it: the finished runs of a study.",
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
@workers_option
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
        raise UsageError(f"{', '.join(useless)} has no effect on the evaluation of {what}.")
    if outputs and folders and not {"imagenet-c", "imagenet-c-bar"} & {*folders}:
        raise UsageError("--output draws accuracy by severity: it needs --imagenet-c or -c-bar.")
    if layers is not None:
        load_custom_layers(layers)
    launch = _Launch(jobs, executor, slurm_config)
    result: tuple[Report, Figure | None] | None
    if not folders:
        found = find_study(study, results)
        result = _made_here(found, step, relative_to, view, settings, launch)
    else:
        if weights is None:
            found = find_study(study, results)
            measured = _study_on_folders(found, step, folders, options, launch)
        elif len(step) > 1:
            raise UsageError("--step names one step with --weights.")
        else:
            options["step"] = step[0] if step else None
            store = results_folder(results) / STORE
            measured = _weights_on_folders(weights, folders, options, store)
        result = _show_networks(*measured, view, settings) if measured[0] else None
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


def _tell(line: str) -> None:
    terminal.echo(line, err=True)


@dataclasses.dataclass(frozen=True)
class _Launch:
    """The options that say where the runs of a study are evaluated."""

    jobs: int | None
    executor: str
    slurm_config: Path | None

    def choose(self, study: Study) -> tuple[Executor, str]:
        """Returns the executor, and its name with the reason for it."""
        from ablations.launching.executors import choose_executor
        from ablations.launching.slurm_config import load_slurm_config
        from ablations.launching.torchrun import find_torchrun

        if find_torchrun() is not None:
            raise UsageError(
                "start robustness without torchrun: each run is evaluated by one process."
            )
        config = load_slurm_config(self.slurm_config)
        return choose_executor(self.executor, study.preset, self.jobs, config)


def _weights_on_folders(
    weights: str, folders: Mapping[str, Path], options: Mapping[str, Any], store: Path
) -> tuple[list[Network], list[str]]:
    """Returns weights with their counts on the sets in folders, and notes."""
    from ablations.robustness import folders as on_folders

    faults: dict[Path, str] = {}
    asked = on_folders.Options(**options)
    network, notes = on_folders.measure(weights, folders, asked, store, _tell, faults)
    return [network], [*notes, *faults.values()]


def _study_on_folders(
    study: Study,
    steps: Sequence[str],
    folders: Mapping[str, Path],
    options: Mapping[str, Any],
    launch: _Launch,
) -> tuple[list[Network], list[str]]:
    """Evaluates the finished runs of a study that were not yet; returns those that are, and notes.

    Raises:
        RunsFailedError: if a run could not be evaluated.
    """
    from ablations.robustness.folder_study import StudyOnFolders
    from ablations.robustness.folders import Options

    chosen = launch.choose(study)
    if not chosen[0].waits and options["precision"] == "auto":
        raise UsageError(
            "--precision auto depends on the device, which is not known before a SLURM job runs; "
            "name the precision: fp32, bf16 or fp16."
        )
    work = StudyOnFolders.of(study, steps, folders, Options(**options), study.folder / STORE)
    planned = work.plan()
    if planned.jobs:
        planned = _evaluate(study, planned, work.plan, chosen)
    _tell_submitted(planned)
    return work.networks(), work.notes()


def _show_networks(
    networks: Sequence[Network], notes: Sequence[str], view: str, settings: ChartSettings | None
) -> tuple[Report, Figure | None]:
    """Returns the table of networks on the sets in folders, and the chart if there are settings."""
    from ablations.robustness import folder_reports

    if view == "summary":
        report = folder_reports.summary(networks, notes)
    else:
        report = folder_reports.TABLES[view](networks)
    if settings is None:
        return report, None
    from ablations.robustness.chart import folders_figure

    return report, folders_figure(networks, settings)


def _tell_submitted(planned: Plan) -> None:
    if planned.submitted:
        _tell(f"{plural(len(planned.submitted), 'run')} with SLURM: {few(planned.submitted)}.")


def _made_here(
    study: Study,
    steps: Sequence[str],
    relative_to: str | None,
    view: str,
    settings: ChartSettings | None,
    launch: _Launch,
) -> tuple[Report, Figure | None] | None:
    """Evaluates the finished runs of a study that were not yet, and returns its table and chart.

    Returns:
        None if no run was evaluated yet, because all are with SLURM.

    Raises:
        UsageError: if the study has no results, and no run that can be evaluated.
        RunsFailedError: if a run could not be evaluated.
    """
    from ablations.analysis import robustness as analysis
    from ablations.robustness.study import plan, remove_images

    planned = plan(study, steps)
    if relative_to is not None:
        study.key_of(relative_to)
    if planned.jobs:
        replan = functools.partial(plan, study, steps)
        planned = _evaluate(study, planned, replan, launch.choose(study))
    if not planned.jobs:
        remove_images(study)
    _tell_submitted(planned)
    if planned.gone:
        _tell(f"Without weights here, and not evaluated before: {few(planned.gone)}.")
    found = analysis.read(study, steps, relative_to, planned.finished)
    if found is None and planned.gone:
        raise UsageError(
            f"the weights of the study {study.name} are not here, and none of its runs was "
            "evaluated before. To have them, train the study under another --name."
        )
    if found is None:
        return None
    figure = None
    if settings is not None:
        from ablations.charts import severity_chart

        figure = severity_chart.study_figure(found, settings)
    return analysis.VIEWS[view](found), figure


def _evaluate(
    study: Study, planned: Plan, replan: Callable[[], Plan], chosen: tuple[Executor, str]
) -> Plan:
    """Evaluates runs, or submits them, and returns the plan of the rest."""
    from ablations.launching.progress import follow
    from ablations.robustness import study as work

    executor, reason = chosen
    console, count, start = terminal.console(err=True), len(planned.jobs), time.monotonic()
    console.print(f"Executor: {reason}", soft_wrap=True)
    try:
        work.evaluate(
            study,
            planned,
            executor,
            lambda events: follow(events, count, console, bars=executor.background),
        )
    except KeyboardInterrupt as stop:
        console.print(
            f"{shell.describe(stop)}. The counts are kept; the same command continues.",
            style="bold",
            soft_wrap=True,
        )
        raise SystemExit(shell.exit_status(stop)) from None
    left = replan()
    if not executor.waits:
        return left
    if left.jobs:
        raise RunsFailedError(
            f"{len(left.jobs)} of {plural(count, 'run')} were not evaluated to the end; see the "
            f"logs, such as {left.jobs[0].folder / 'log.txt'}. The same command continues."
        )
    seconds = duration(time.monotonic() - start)
    _tell(f"Evaluated {plural(count, 'run')}: {seconds}")
    return left


def _draw(figure: Figure, outputs: Sequence[Path], settings: ChartSettings) -> None:
    from ablations.charts import chart

    for path in outputs:
        _tell(f"Wrote {short_path(chart.save_figure(figure, path, settings))}")
    if note := chart.boxes_note(figure, settings):
        _tell(note)
