"""The command that measures images per second and memory of every step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations import limits, terminal
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
from modernize.errors import UsageError

if TYPE_CHECKING:
    from ablations.benchmark.networks import BenchmarkNetwork

WITH_REDRAW = ("--redraw", "--accuracy", "--output", "--format", "--results")


@click.command(cls=StrictCommand, short_help="Measure images per second and memory of every step.")
@click.option("--regime", metavar="NAME", help="resnet50, resnet200 or nano.  [default: resnet50]")
@click.option("--until", "last", metavar="STEP", help="The last step: its key or index.")
@click.option("--from", "first", metavar="STEP", help="The first step: its key or index.")
@list_option(
    "--only",
    metavar="STEP,...",
    help="Only these steps; with --models, these models. May be repeated.",
)
@click.option(
    "--models",
    is_flag=True,
    help="Networks of the paper's Table 12 instead of steps: ConvNeXt and Swin, T, S and B.",
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
    help="[default: 128 on a GPU, 8 on a CPU, more for small images]",
)
@click.option("--image-size", type=PIXELS, metavar="PIXELS", help="[default: the regime's]")
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
    help="Accuracies for the chart.  [default: the paper's, if it has any]",
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
    help="Where the files go.  [default: results/benchmark-REGIME-DEVICE]",
)
@click.option("--format", "style", type=FORMATS, default="table", show_default=True)
@results_option
@click.pass_context
def benchmark(
    ctx: click.Context,
    /,
    *,
    accuracy: str | None,
    source: Path | None,
    output: Path | None,
    style: str,
    results: Path | None,
    **asked: Any,
) -> None:
    """Measure images per second and memory of every step on this device.

    The same networks of torchvision and timm are measured as well.
    """
    from ablations.processes import wait_passively

    wait_passively()
    from ablations.benchmark import request as benchmark_request
    from ablations.benchmark.results import Benchmark
    from ablations.benchmark.throughput_figure import PAPER, accuracies

    _refuse(ctx, asked["models"], source)
    results = results_folder(results)
    console = terminal.console()
    if source is not None:
        measured = Benchmark.read(source)
        size = measured.settings["image_size"]
        known = accuracies(accuracy, measured.regime, size, results)
    else:
        from modernize.steps import find_regime

        regime = None if asked["models"] else find_regime(asked["regime"] or "resnet50")
        image_size = asked["image_size"] or (regime.image_size if regime else 224)
        request = benchmark_request.Request(
            image_size=image_size,
            modes=benchmark_request.parse_modes(asked["mode"]),
            **{name: asked[name] for name in _REQUESTED},
        )
        known = accuracies(accuracy, regime.name if regime else None, image_size, results)
        measured = benchmark_request.run(
            _networks(image_size, **asked),
            request,
            request.setup(),
            title=f"{regime.start} to {regime.end}" if regime else "models of Table 12",
            regime=regime.name if regime else None,
            console=terminal.console(err=True),
        )
    folder = output or source or benchmark_request.default_folder(measured, results)
    written = benchmark_request.write(measured, folder, known, accuracy or PAPER)
    benchmark_request.show(measured, style, console)
    if style not in ("csv", "json"):
        if not known:
            terminal.echo("No chart: accuracies unknown; add --accuracy STUDY.")
        terminal.echo(f"Wrote {', '.join(map(short_path, written))}")


_REQUESTED = ("device", "batch_size", "precision", "memory_format", "compile", "rounds", "seconds")


def _refuse(ctx: click.Context, models: bool, source: Path | None) -> None:
    """Refuses options that would do nothing."""
    given = given_parameters(ctx)
    if models and (useless := [n for n in given if n in ("--regime", "--from", "--until")]):
        raise UsageError(f"{', '.join(useless)} does not go with --models; --only names models.")
    if source and (useless := [name for name in given if name not in WITH_REDRAW]):
        raise UsageError(f"{', '.join(useless)} does not go with --redraw, which measures nothing.")


def _networks(
    pixels: int,
    *,
    regime: str | None,
    first: str | None,
    last: str | None,
    only: list[str],
    models: bool,
    no_references: bool,
    **_request: Any,
) -> list[BenchmarkNetwork]:
    """Returns the networks to measure."""
    from ablations.benchmark.networks import TABLE_12, networks_of_models, networks_of_steps
    from ablations.studies import selection
    from modernize.steps import find_regime

    if models:
        return networks_of_models(only or TABLE_12, pixels, not no_references)
    road = find_regime(regime or "resnet50")
    variants = selection.roadmap(road.name, first, last, only)
    return networks_of_steps(variants, road, pixels, not no_references)
