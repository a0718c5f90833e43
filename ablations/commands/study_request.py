"""The study, preset and regime that a command line requests, and their costs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations import limits, yaml_file
from ablations.commands import parameters
from ablations.commands.options import add_options
from ablations.commands.parameters import list_option
from ablations.units import integer
from modernize.errors import UsageError
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.choices import Start
    from ablations.recipe import Preset
    from ablations.studies.estimates import PlanRow, Speed
    from ablations.studies.variants import ResolvedStudy
    from modernize.steps import Regime, Variant

HOURS_HINT = (
    "For hours and memory: --benchmark FOLDER. For hours: --measure, or --images-per-second N of "
    "the study's base."
)
MAX_LISTED = 10  # variants out of proportion; if there are more, only the most expensive is named

DEFAULT = "roadmap"
DEFAULT_REGIME = "resnet50"  # of networks without a study
SHIPPED = yaml_file.shipped_names(Path(__file__).parents[1] / "study_files")

YAML_FILE = parameters.FilePath(path_type=str, is_path=yaml_file.is_file_name)


def study_option(default: str | None) -> Callable[..., Any]:
    """Returns the option ``--study``."""
    return click.option(
        "--study",
        default=default,
        show_default=True,
        type=YAML_FILE,
        metavar="NAME|FILE",
        help=f"Which variants to compare: {', '.join(SHIPPED)}, or a YAML file.",
    )


_SELECTION = (
    click.option("--until", "last", metavar="STEP", help="The last step: its key or index."),
    click.option("--from", "first", metavar="STEP", help="The first step: its key or index."),
    list_option("--only", metavar="STEP,...", help="Only these steps; may be repeated."),
)
study_options = add_options(
    study_option(DEFAULT),
    *_SELECTION,
    click.option(
        "--seeds",
        type=parameters.IntegerType(1, limits.SEEDS),
        metavar="N",
        help="Runs of each step, with seeds 0, 1, ...  [default: the study's; roadmap: 1]",
    ),
    click.option(
        "--preset",
        type=YAML_FILE,
        metavar="NAME|FILE",
        help="The data and the recipe: a preset's name, or a YAML file.  [default: the study's; "
        "roadmap: nano]",
    ),
    click.option(
        "--regime",
        metavar="NAME",
        help="resnet50, resnet200 or nano.  [default: the study's, or else the preset's]",
    ),
    click.option(
        "--start",
        metavar="FILE|FOLDER|study:NAME",
        help="Start from weights: of a file, of a finished run's folder, or for each run from the "
        "run of its own step and seed in a study.  [default: the study's, or else the preset's]",
    ),
    click.option(
        "--start-ema", is_flag=True, help="Start from the moving average of the weights (EMA)."
    ),
    click.option(
        "--data",
        type=parameters.ImageFolder(),
        metavar="FOLDER",
        help="The folder or file of the images.  [default: the preset's]",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Replace a value of the preset; may be repeated. The last value of a key counts.",
    ),
)
"""Adds the options that choose a study; :func:`build_request` takes them."""

selection_options = add_options(study_option(None), *_SELECTION)
"""Adds the options that choose networks; :func:`select_networks` takes them."""

speed_options = add_options(
    click.option(
        "--benchmark",
        type=parameters.FilePath(file_okay=False),
        metavar="FOLDER",
        help="Estimate hours and memory from the benchmark in this folder.  [default: the newest "
        "one of this device in the results folder, if there is any]",
    ),
    click.option(
        "--images-per-second",
        type=parameters.FloatType(0.001, limits.SPEED),
        metavar="N",
        help="Estimate hours from this training speed of the study's base on one device.",
    ),
    click.option(
        "--measure", is_flag=True, help="Estimate hours from a few training steps on this device."
    ),
)
"""Adds the options of :class:`SpeedRequest`."""


@dataclasses.dataclass(frozen=True)
class SpeedRequest:
    """How the command line wants hours to be estimated: by one of these, or not at all.

    Attributes:
        benchmark: a folder with a benchmark.
        images_per_second: the training speed of the study's base.
        measure: whether to measure the speed here.
        results: where to look for a benchmark of this device otherwise; None: nowhere.
    """

    benchmark: Path | None = None
    images_per_second: float | None = None
    measure: bool = False
    results: Path | None = None

    @property
    def given(self) -> list[str]:
        """The options that were given."""
        options = {
            "--benchmark": self.benchmark,
            "--images-per-second": self.images_per_second,
            "--measure": self.measure,
        }
        return [name for name, value in options.items() if value]


@dataclasses.dataclass(frozen=True)
class StudyRequest:
    """The study that a command line requests.

    Attributes:
        resolved: all variants of the study, in its regime.
        preset: the data and the recipes.
        variants: the requested ones.
        seeds: runs of each variant.
        folder: the default name of the study's folder.
        data_given: whether the command line, not the preset, gives where the images are.
    """

    resolved: ResolvedStudy
    preset: Preset
    variants: Sequence[Variant]
    seeds: int
    folder: str
    data_given: bool


def build_request(
    *,
    study: str,
    first: str | None,
    last: str | None,
    only: list[str],
    seeds: int | None,
    preset: str | None,
    regime: str | None,
    start: str | None = None,
    start_ema: bool = False,
    data: str | None,
    settings: tuple[str, ...],
) -> StudyRequest:
    """Returns the request that the options of :func:`study_options` describe.

    Raises:
        UsageError: for an unknown name, an invalid value, or too many runs.
    """
    from ablations.recipe import load_preset
    from ablations.studies.selection import select_variants
    from ablations.studies.study_file import read_study
    from ablations.studies.variants import resolve_study

    file = read_study(study)
    chosen = load_preset(preset or file.preset, settings, data)
    default_regime = file.definition.regime or chosen.regime
    begin = chosen.start if file.definition.start is None else file.definition.start
    if start is not None or start_ema:
        begin = _start(start, start_ema)
    resolved = resolve_study(file, regime or default_regime, chosen.recipes, begin)
    variants = select_variants(resolved.variants, first, last, only)
    seeds = seeds or file.definition.seeds
    runs = len(variants) * seeds
    if runs > limits.RUNS:
        raise UsageError(
            f"{plural(len(variants), 'step')} with {plural(seeds, 'seed')} are "
            f"{plural(runs, 'run')}; the maximum is {integer(limits.RUNS)}. Select steps with "
            "--only, or use fewer --seeds."
        )
    # The roadmap's folder has the preset's name alone.
    parts = [] if study == DEFAULT else [file.name]
    if not parts or (preset and preset != file.definition.preset):
        parts.append(Path(preset or file.preset).stem)
    if resolved.regime != default_regime:
        parts.append(resolved.regime)
    return StudyRequest(
        resolved,
        chosen,
        variants,
        seeds,
        "-".join(parts),
        chosen.data.source != load_preset(preset or file.preset).data.source,
    )


@dataclasses.dataclass(frozen=True)
class Networks:
    """Networks that a command line chooses.

    Attributes:
        title: of the study, or the ends of the road.
        study: the name of the study; empty: the roadmap.
        regime: which they are of.
        variants: the networks.
    """

    title: str
    study: str
    regime: Regime
    variants: Sequence[Variant]


def select_networks(
    study: str | None,
    regime: str | None,
    first: str | None = None,
    last: str | None = None,
    only: Sequence[str] = (),
) -> Networks:
    """Returns the networks that the options of :func:`selection_options` choose.

    Args:
        study: its name or file; None: the roadmap.
        regime: its name; None: the study's, or else ``resnet50``.
        first: key or index of the first one wanted; None: the first of all.
        last: key or index of the last one wanted; None: the last of all.
        only: keys or indices of those wanted; empty: all.

    Raises:
        UsageError: for an unknown name, or a study that is not valid.
    """
    from ablations.studies.selection import roadmap
    from modernize.steps import find_regime

    if study is None:
        road = find_regime(regime or DEFAULT_REGIME)
        title = f"{road.start} to {road.end}"
        return Networks(title, "", road, roadmap(road.name, first, last, only))
    request = build_request(
        study=study,
        first=first,
        last=last,
        only=[*only],
        seeds=None,
        preset=None,
        regime=regime,
        data=None,
        settings=(),
    )
    found = request.resolved
    title = f"{found.title}, regime {found.regime}"
    name = "" if study == DEFAULT else found.name
    return Networks(title, name, find_regime(found.regime), request.variants)


def _start(start: str | None, ema: bool) -> Start:
    from ablations.choices import Start

    if not start:
        raise UsageError("--start-ema goes with --start FILE.")
    return Start.model_validate(start).model_copy(update={"ema": ema})


def find_speed(
    rows: Sequence[PlanRow],
    reference: PlanRow,
    preset: Preset,
    request: SpeedRequest,
) -> Speed | None:
    """Returns how fast networks train; None if it is not requested and no benchmark is known.

    Raises:
        UsageError: for several options, or a benchmark of other networks.
    """
    from ablations.studies.estimates import given_speed

    if len(request.given) > 1:
        raise UsageError(f"give one of {' and '.join(request.given)}, not both.")
    if request.images_per_second:
        return given_speed(request.images_per_second, reference.key, reference.cost.flops)
    if request.benchmark:
        from ablations.benchmark.results import Benchmark
        from ablations.studies.benchmark_speed import benchmark_speed

        benchmark = Benchmark.read(request.benchmark)
        return benchmark_speed(benchmark, request.benchmark, rows, reference, preset)
    if request.measure:
        from ablations.processes import wait_passively

        wait_passively()
        from ablations.studies.measure import measure_speed

        return measure_speed(rows, reference, preset)
    return _known_speed(rows, reference, preset, request.results) if request.results else None


def _known_speed(
    rows: Sequence[PlanRow], reference: PlanRow, preset: Preset, results: Path
) -> Speed | None:
    """Returns the speed by the newest benchmark of this device that has networks of the study."""
    from ablations.studies.benchmark_speed import benchmark_speed, find_benchmarks

    if not any(results.glob("benchmark-*/benchmark.json")):
        return None  # without importing torch, which knows the device
    from ablations.devices import find_device
    from ablations.training.device_context import make_device_context

    device = make_device_context(find_device(), preset.compute).name()
    for folder, benchmark in find_benchmarks(results, device):
        with contextlib.suppress(UsageError):  # of other networks
            return benchmark_speed(benchmark, folder, rows, reference, preset)
    return None


def cost_notes(rows: Sequence[PlanRow], reference: PlanRow, resolved: ResolvedStudy) -> list[str]:
    """Returns a line for each variant that costs far more than the reference, or is impossible."""
    from ablations.studies import estimates
    from ablations.units import flops, times

    expensive = [row for row in rows if row.times > estimates.OUT_OF_PROPORTION]
    count = ""
    if len(expensive) > MAX_LISTED:
        count = f"{plural(len(expensive), 'variant')}, at most "
        expensive = [max(expensive, key=lambda row: row.times)]
    lines = [
        f"Out of proportion: {count}{row.key} with {flops(row.cost.flops)}, {times(row.times)} "
        f"the FLOPs of {reference.key}"
        for row in expensive
    ]
    return lines + [f"Omitted: {key}: {reason}" for key, reason in resolved.omitted]


def total_time(hours: Sequence[float], speed: Speed, jobs: int) -> str:
    """Returns the line that states how long everything takes.

    Args:
        hours: of each run on one device.
        speed: where they are from.
        jobs: runs at a time.
    """
    from ablations.studies.estimates import wall_time
    from ablations.units import about, duration

    text = f"{about(3600 * sum(hours)).capitalize()} on one device in total"
    if jobs > 1 and not speed.shared:
        text += f", {duration(3600 * wall_time(hours, jobs))} with {jobs} devices at a time"
    return f"{text}, by {speed.how}"
