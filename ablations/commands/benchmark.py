"""The command that measures images per second and memory of every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations import limits, terminal
from ablations.commands.chart_options import NAMES, chart_options
from ablations.commands.options import (
    FORMATS,
    given_parameters,
    results_folder,
    results_option,
    short_path,
)
from ablations.commands.parameters import (
    BATCH,
    PIXELS,
    FilePath,
    FloatType,
    IntegerType,
    StrictCommand,
    list_option,
)
from ablations.commands.study_request import select_networks, selection_options
from modernize.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from modernize.steps import Regime

if TYPE_CHECKING:
    from ablations.charts.settings import ChartSettings

WITH_REDRAW = ("--redraw", "--accuracy", "--output", "--format", "--results", *NAMES)


@click.command(cls=StrictCommand, short_help="Measure images per second and memory of every step.")
@click.option(
    "--regime",
    metavar="NAME",
    help="resnet50, resnet200 or nano.  [default: resnet50, or the study's]",
)
@selection_options
@click.option(
    "--models",
    is_flag=True,
    help="Networks of the paper's Table 12 instead of steps: ConvNeXt and Swin, T, S and B; --only "
    "names models then.",
)
@click.option(
    "--task",
    type=click.Choice(["detection", "segmentation"]),
    help="Detectors or segmenters on each network. Torchvision's Mask R-CNN on ResNet-50 is "
    "measured as well; it has no cascade and no UperNet.",
)
@click.option(
    "--head",
    metavar="NAME",
    help="With --task: mask-rcnn, cascade-mask-rcnn or upernet.  [default: the first of the task]",
)
@click.option("--no-references", is_flag=True, help="Leave out torchvision's and timm's networks.")
@list_option(
    "--mode",
    default=["inference", "training"],
    show_default=True,
    metavar="MODE,...",
    help="What to measure. May be repeated.",
)
@click.option(
    "--device", type=click.Choice(["cuda", "cpu"]), help="[default: the GPU, if there is one]"
)
@click.option(
    "--batch-size",
    type=BATCH,
    metavar="IMAGES",
    help="[default: 128 on a GPU, 8 on a CPU, more for small images; with --task 2, or 8 for small "
    "images]",
)
@click.option(
    "--image-size",
    type=PIXELS,
    metavar="PIXELS",
    help="Height and width.  [default: the regime's; with --task those of the head]",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "tf32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="As in a preset; tf32 is the paper's Table 12.",
)
@click.option(
    "--memory-format",
    type=click.Choice(["channels-last", "contiguous"]),
    default="channels-last",
    show_default=True,
)
@click.option("--compile", is_flag=True, help="Use torch.compile.")
@click.option(
    "--rounds",
    type=IntegerType(1, limits.ROUNDS),
    default=5,
    show_default=True,
    metavar="N",
    help="Measurements of each network in each mode.",
)
@click.option(
    "--seconds",
    type=FloatType(0, 3600, min_open=True),
    default=0.5,
    show_default=True,
    metavar="N",
    help="Duration of each round; at least 3 iterations.",
)
@click.option(
    "--accuracy",
    metavar="STUDY|paper",
    help="Accuracies for the chart.  [default: the paper's of its own networks]",
)
@click.option(
    "--redraw",
    "source",
    type=FilePath(file_okay=False),
    metavar="FOLDER",
    help="Measure nothing; show and draw the benchmark in this folder.",
)
@click.option(
    "--output",
    type=FilePath(file_okay=False),
    metavar="FOLDER",
    help="Where the files go.  [default: results/benchmark-REGIME-DEVICE; with --study, "
    "results/benchmark-STUDY-REGIME-DEVICE]",
)
@chart_options()
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
@results_option
@click.pass_context
def benchmark(
    ctx: click.Context,
    /,
    *,
    accuracy: str | None,
    source: Path | None,
    output: Path | None,
    form: str,
    settings: ChartSettings,
    results: Path | None,
    **asked: Any,
) -> None:
    """Measure images per second and memory of every step, or of a study's variants.

    The same networks of torchvision and timm are measured as well.
    """
    from ablations.processes import wait_passively

    wait_passively()
    from ablations.benchmark import request as benchmark_request
    from ablations.benchmark.networks import networks_of_models, networks_of_steps
    from ablations.benchmark.results import Benchmark
    from ablations.benchmark.throughput_figure import PAPER, accuracies
    from ablations.tasks.registry import make_task

    _refuse(ctx, asked["models"], source)
    results = results_folder(results)
    console = terminal.console()
    if source is not None:
        measured = Benchmark.read(source)
        size = measured.settings["image_width"]
        known = accuracies(
            accuracy, measured.study, measured.regime, size, results, measured.metric
        )
    else:
        chosen = None if asked["models"] else select_networks(**{k: asked[k] for k in _CHOOSING})
        regime = chosen.regime if chosen else None
        choice = _choice(asked["task"], asked["head"], regime)
        task = make_task(choice)
        side = asked["image_size"] or (regime.image_size if regime else 224)
        size = (side, side) if asked["image_size"] else task.noise.size or (side, side)
        models = asked["only"] or _default_models(choice)
        references = not asked["no_references"]
        request = benchmark_request.Request(
            size=size,
            choice=choice,
            modes=benchmark_request.parse_modes(asked["mode"]),
            **{name: asked[name] for name in _REQUESTED},
        )
        title, study = (chosen.title, chosen.study) if chosen else ("models of the paper", "")
        title += f", {choice['head']}" if choice else ""
        regime_name = regime.name if regime else None
        known = accuracies(accuracy, study, regime_name, size[0], results, task.metrics.headline)
        measured = benchmark_request.run(
            networks_of_steps(chosen.variants, chosen.regime, size, choice, references)
            if chosen
            else networks_of_models(models, size, choice, references),
            request,
            request.setup(),
            title=title,
            study=study,
            regime=regime_name,
            console=terminal.console(err=True),
        )
    folder = output or source or benchmark_request.default_folder(measured, results)
    written = benchmark_request.write(measured, folder, known, accuracy or PAPER, settings)
    benchmark_request.show(measured, form, console)
    if form not in ("csv", "json"):
        if not known:
            label = measured.metric.label
            terminal.echo(f"No chart: {label} unknown; add --accuracy STUDY.")
        terminal.echo(f"Wrote {', '.join(map(short_path, written))}")


_REQUESTED = ("device", "batch_size", "precision", "memory_format", "compile", "rounds", "seconds")
_CHOOSING = ("study", "regime", "first", "last", "only")


def _choice(task: str | None, head: str | None, regime: Regime | None) -> dict[str, str]:
    """Returns the choice of the task: its first head, unless another is asked for."""
    from ablations.costs.dense_costs import TASKS

    if task is None:
        if head is not None:
            raise UsageError("--head goes with --task detection or segmentation.")
        return {}
    names = TASKS[task].names(regime)
    if head is not None and head not in names:
        raise UnknownNameError(f"head of {task}", head, names)
    return {"name": task, "head": names[head or next(iter(names))]}


def _default_models(choice: Mapping[str, str]) -> Sequence[str]:
    """Returns the models of Table 12; with a head, those that are networks of this project."""
    from ablations.benchmark.networks import TABLE_12
    from modernize.models import MODELS

    return [name for name in TABLE_12 if not choice or name in MODELS]


def _refuse(ctx: click.Context, models: bool, source: Path | None) -> None:
    """Refuses options that would do nothing."""
    given = given_parameters(ctx)
    if models and (
        useless := [n for n in given if n in ("--study", "--regime", "--from", "--until")]
    ):
        raise UsageError(f"{', '.join(useless)} cannot be used with --models; --only names models.")
    if source and (useless := [name for name in given if name not in WITH_REDRAW]):
        raise UsageError(
            f"{', '.join(useless)} cannot be used with --redraw, which measures nothing."
        )
