"""What a command line asks for: a study, a preset, a regime; and what that will cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations import limits
from ablations.commands import typed
from ablations.commands.typed import list_option
from modernize.errors import UsageError
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.recipe import Preset
    from ablations.studies.estimates import PlanRow, Speed
    from ablations.studies.variants import Comparison
    from modernize.steps import Variant

HOURS_HINT = "For device-hours: --measure here, or --images-per-second N of the study's base."
MANY = 10  # variants out of proportion, above which only the dearest is named

DEFAULT = "roadmap"
SHIPPED = sorted(path.stem for path in (Path(__file__).parents[1] / "study_files").glob("*.yaml"))


def _means_yaml(value: str) -> bool:
    return value.lower().endswith((".yaml", ".yml"))


YAML_FILE = typed.FilePath(path_type=str, means_file=_means_yaml)

_ASKING = (
    click.option(
        "--study",
        default=DEFAULT,
        show_default=True,
        type=YAML_FILE,
        metavar="NAME|FILE",
        help=f"What to compare: {', '.join(SHIPPED)}, or a file of your own.",
    ),
    click.option("--until", "last", metavar="STEP", help="Last step wanted: its key or index."),
    click.option("--from", "first", metavar="STEP", help="First step wanted."),
    list_option("--only", metavar="STEP,...", help="Only these steps; may be repeated."),
    click.option(
        "--seeds",
        type=typed.Whole(1, limits.SEEDS),
        metavar="N",
        help="Runs of each step, from seeds 0, 1, ...  [default: the study's; 1 for the roadmap]",
    ),
    click.option(
        "--preset",
        type=YAML_FILE,
        metavar="NAME|FILE",
        help="What to train on, and how.  [default: the study's; nano for the roadmap]",
    ),
    click.option(
        "--regime",
        metavar="NAME",
        help="resnet50, resnet200 or nano.  [default: the study's, or else the preset's]",
    ),
    click.option(
        "--data",
        type=typed.ImageFolder(),
        metavar="FOLDER",
        help="Where the images are.  [default: as the preset says]",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Another value for a key of the preset; may be repeated. If a key is given twice, the "
        "last value counts.",
    ),
)


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say which study is meant; :func:`resolve` takes them."""
    for option in reversed(_ASKING):
        command = option(command)
    return command


def speed_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--images-per-second`` and ``--measure``; :func:`find_speed` takes them."""
    given = click.option(
        "--images-per-second",
        type=typed.Real(0.001, limits.SPEED),
        metavar="N",
        help="Estimate hours from this speed of the study's base on one device.",
    )
    measured = click.option(
        "--measure", is_flag=True, help="Estimate hours from a few updates on this device."
    )
    return given(measured(command))


@dataclasses.dataclass(frozen=True)
class StudyRequest:
    """What a command line asks for.

    Attributes:
        comparison, preset: the study, and the conditions.
        variants: those wanted.
        seeds: runs of each.
        folder: the name of the study's folder, unless another one is given.
        names_images: whether the command line says where the images are.
    """

    comparison: Comparison
    preset: Preset
    variants: Sequence[Variant]
    seeds: int
    folder: str
    names_images: bool


def resolve(
    *,
    study: str,
    first: str | None,
    last: str | None,
    only: list[str],
    seeds: int | None,
    preset: str | None,
    regime: str | None,
    data: str | None,
    settings: tuple[str, ...],
) -> StudyRequest:
    """Returns what the options of :func:`study_options` mean.

    Raises:
        UsageError: for what does not exist, or cannot be.
    """
    from ablations.recipe import load_preset
    from ablations.studies.selection import pick
    from ablations.studies.study_file import read_study
    from ablations.studies.variants import compare

    written = read_study(study)
    chosen = load_preset(preset or written.preset, settings, data)
    usual = written.file.regime or chosen.regime
    comparison = compare(written, regime or usual)
    variants, seeds = pick(comparison.variants, first, last, only), seeds or written.file.seeds
    runs = len(variants) * seeds
    if runs > limits.RUNS:
        raise UsageError(
            f"{plural(len(variants), 'step')} with {plural(seeds, 'seed')} are {runs:,} runs; at "
            f"most {limits.RUNS:,} are planned at once. Take some with --only, or fewer --seeds."
        )
    # The roadmap on a preset is called after the preset alone.
    parts = [] if study == DEFAULT else [written.name]
    if not parts or (preset and preset != written.file.preset):
        parts.append(Path(preset or written.preset).stem)
    if comparison.regime != usual:
        parts.append(comparison.regime)
    return StudyRequest(
        comparison,
        chosen,
        variants,
        seeds,
        "-".join(parts),
        chosen.data.source != load_preset(preset or written.preset).data.source,
    )


def find_speed(
    rows: Sequence[PlanRow],
    reference: PlanRow,
    preset: Preset,
    images_per_second: float | None,
    measure: bool,
) -> Speed | None:
    """Returns how fast networks train: as given, or as measured here, or None if nobody asks.

    Raises:
        UsageError: where both are asked for.
    """
    from ablations.studies.estimates import given_speed

    if images_per_second and measure:
        raise UsageError("give one of --images-per-second and --measure, not both.")
    if images_per_second:
        return given_speed(images_per_second, reference.key, reference.cost.flops)
    if not measure:
        return None
    from ablations.processes import wait_passively

    wait_passively()
    from ablations.studies.measure import measure_speed

    size = preset.data.image_size
    return measure_speed(rows, reference, preset.compute, size)


def notes(rows: Sequence[PlanRow], reference: PlanRow, comparison: Comparison) -> list[str]:
    """Returns which variants are out of proportion, and which cannot be, a line each."""
    from ablations.studies import estimates
    from ablations.units import flops, times

    dear = [row for row in rows if row.times > estimates.OUT_OF_PROPORTION]
    if len(dear) > MANY:
        most = max(dear, key=lambda row: row.times)
        lines = [
            f"Out of proportion: {plural(len(dear), 'variant')}; {most.key} most, with "
            f"{flops(most.cost.flops)}, {times(most.times)} those of "
            f"{reference.key}"
        ]
    else:
        lines = [
            f"Out of proportion: {row.key} costs {flops(row.cost.flops)}, "
            f"{times(row.times)} those of {reference.key}"
            for row in dear
        ]
    return lines + [f"Not among them: {key}: {reason}" for key, reason in comparison.left_out]


def in_all(hours: float, speed: Speed) -> str:
    """Returns the line that says how long everything takes."""
    from ablations.units import duration

    return f"About {duration(3600 * hours)} on one device in all, by {speed.how}"
