"""The costs of a study's networks before a launch: parameters, FLOPs, device-hours.

torch is imported only for networks with custom layers, which no formula counts, and to measure.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablations import tables
from ablations.choices import DataChoice
from ablations.data.images import MissingImagesError
from ablations.recipe import Preset, Recipe
from ablations.studies.selection import fit_to_images
from ablations.tasks.registry import make_task
from ablations.units import Unit, choose_unit, duration, integer, memory, rate, times
from modernize.closed_form import ClosedFormCost
from modernize.spec import NetSpec
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.studies.variants import ResolvedStudy
    from modernize.steps import Variant

RECIPE_WIDTH = 20  # characters
OUT_OF_PROPORTION = 3.0  # times the reference's FLOPs; a variant with more is marked

# Title, training images, channels and classes of each set, used if its images are not here.
SETS = {
    "fashion-mnist": ("Fashion-MNIST", 60_000, 1, 10),
    "cifar10": ("CIFAR-10", 50_000, 3, 10),
    "cifar100": ("CIFAR-100", 50_000, 3, 100),
    "image-folder": ("ImageNet-1K", 1_281_167, 3, 1000),
}


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast networks train on one device.

    Attributes:
        seconds: per training image, of networks that were measured.
        reference: seconds per training image, and FLOPs, of the network that others scale from.
        how: the source of the numbers, in words.
        memory: peak memory of training, in MiB, of variants for which it is known: key -> memory.
        shared: whether runs at a time share the device, as on a CPU, and so gain no time.
    """

    seconds: Mapping[NetSpec, float]
    reference: tuple[float, int]
    how: str
    memory: Mapping[str, float] = dataclasses.field(default_factory=dict)
    shared: bool = False

    def of(self, spec: NetSpec, flops: int) -> float:
        """Returns seconds per training image."""
        seconds, base = self.reference
        return self.seconds.get(spec, seconds * flops / base)


def given_speed(images_per_second: float, name: str, flops: int) -> Speed:
    """Returns the speed that the user gives for the network ``name``."""
    how = f"{rate(images_per_second)} for {name} as given, the others by their FLOPs"
    return Speed({}, (1 / images_per_second, flops), how)


@dataclasses.dataclass(frozen=True)
class TrainingImages:
    """The properties of a study's training images that its costs depend on.

    Attributes:
        count, channels, classes: of the training images.
        note: on images that are missing or skipped.
    """

    count: int
    channels: int
    classes: int
    note: str = ""


def find_images(
    data: DataChoice, task: Mapping[str, Any] | None = None, *, named: bool = False
) -> TrainingImages:
    """Returns the properties of the images; missing ones are taken to be the whole published set.

    Nothing is downloaded.

    Args:
        data: the set, and the folder of the images.
        task: of the preset; None: classification.
        named: whether the user named the folder; then they must be there, as must images of a
            data set that is not published.

    Raises:
        DataError: for images that cannot be used; and for missing images if ``named``.
    """
    try:
        if data.is_path or data.source != "download" or data.name not in SETS:
            images = make_task(task or {}).load(
                data, skip_bad_images=True
            )  # only training refuses bad images
            note = " ".join(images.notes)
            return TrainingImages(len(images.train), images.channels, images.num_classes, note)
        missing = "are downloaded when the study is launched"
    except MissingImagesError:
        if named or data.name not in SETS:
            raise
        missing = f"are not in {data.source}"
    name, number, channels, classes = SETS[data.name]
    number = min(number, data.limit or number)
    return TrainingImages(
        number,
        channels,
        classes,
        f"the images {missing}; counted for {name}: {plural(number, 'image')} of "
        f"{plural(classes, 'class')}.",
    )


@dataclasses.dataclass(frozen=True)
class PlanRow:
    """The costs of one variant.

    Attributes:
        variant: which one.
        spec: its network, as its recipe trains it.
        cost: of the network, for one image.
        times: its FLOPs over the reference's.
        recipe: its recipe.
        images: training images of an epoch.
        runs: the number of seeds.
        hours: of one run on one device; None: not estimated.
        memory: of one run on one device, in MiB; None: not estimated.
    """

    variant: Variant
    spec: NetSpec
    cost: ClosedFormCost
    times: float
    recipe: Recipe
    images: int
    runs: int
    hours: float | None = None
    memory: float | None = None

    @property
    def key(self) -> str:
        """The variant's key."""
        return self.variant.key

    @property
    def work(self) -> float:
        """MACs of all its runs; a backward pass costs about two forward passes."""
        return 3.0 * self.cost.flops * self.recipe.images_seen(self.images) * self.runs


def plan_rows(
    resolved: ResolvedStudy,
    variants: Sequence[Variant],
    preset: Preset,
    seeds: int,
    images: TrainingImages,
) -> tuple[list[PlanRow], PlanRow]:
    """Returns the costs of each variant, with this many seeds each, and those of the reference."""
    rows: list[PlanRow] = []
    fitting = fit_to_images([resolved.reference, *variants], images.channels, images.classes)
    for v in fitting:
        spec, recipe = preset.recipes.of_variant(v, resolved.regime)
        cost = make_task(preset.task_choice).cost(spec, preset.data.image_size)
        times = cost.flops / rows[0].cost.flops if rows else 1.0
        rows.append(PlanRow(v, spec, cost, times, recipe, images.count, seeds))
    return rows[1:], rows[0]


def timed(rows: Sequence[PlanRow], speed: Speed) -> list[PlanRow]:
    """Returns the rows with the hours and, if it is known, the memory of a run."""
    return [
        dataclasses.replace(
            row,
            hours=speed.of(row.spec, row.cost.flops) * row.recipe.images_seen(row.images) / 3600,
            memory=speed.memory.get(row.key),
        )
        for row in rows
    ]


def wall_time(runs: Iterable[float], at_a_time: int) -> float:
    """Returns how long runs take together, if the longest ones start first.

    Args:
        runs: how long each takes.
        at_a_time: the number of devices; each trains one run at a time.
    """
    devices = [0.0] * at_a_time
    for run in sorted(runs, reverse=True):
        heapq.heapreplace(devices, devices[0] + run)
    return max(devices)


_COLUMNS = tables.Columns(
    numbers=("parameters", "MFLOPs", "GFLOPs", "FLOPs / base", "epochs x images", "runs",
             "time per run", "memory"),
    optional=("recipe", "label", "runs", "parameters", "epochs x images", "MFLOPs", "GFLOPs"),
    wrapped={"label": 16, "note": 10},
)  # fmt: skip


def columns(variants: Iterable[Variant], otherwise: tables.Columns = _COLUMNS) -> tables.Columns:
    """Returns how a table of variants is shown: with the column ``recipe`` if one changes it."""
    changed = any(variant.recipe for variant in variants)
    return otherwise.keeping("recipe", RECIPE_WIDTH) if changed else otherwise


def as_texts(rows: Sequence[PlanRow]) -> list[dict[str, str]]:
    """Returns the rows as text, without the columns for which no row has a value."""
    unit = choose_unit(row.cost.flops for row in rows)
    return tables.without_empty([_as_text(row, unit) for row in rows])


def _as_text(row: PlanRow, unit: Unit) -> dict[str, str]:
    return {
        "step": row.key,
        "label": row.variant.title,
        "parameters": integer(row.cost.params),
        unit.name: unit.show(row.cost.flops),
        "FLOPs / base": times(row.times),
        "recipe": row.variant.recipe_name,
        "epochs x images": f"{row.recipe.epochs} x {integer(row.images)}",
        "runs": str(row.runs),
        "time per run": "" if row.hours is None else duration(3600 * row.hours),
        "memory": "" if row.memory is None else memory(row.memory),
        "note": "out of proportion" if row.times > OUT_OF_PROPORTION else "",
    }


def as_values(row: PlanRow) -> dict[str, Any]:
    """Returns a row for CSV and JSON."""
    return {
        "step": row.key,
        "label": row.variant.title,
        "params": row.cost.params,
        "flops": row.cost.flops,
        "flops_over_base": round(row.times, 4),
        "recipe": str(row.variant.training),
        "recipe_changes": row.variant.recipe_changes,
        "epochs": row.recipe.epochs,
        "images": row.images,
        "runs": row.runs,
        "hours_per_run": row.hours,
        "memory_mib": row.memory,
        "out_of_proportion": row.times > OUT_OF_PROPORTION,
    }
