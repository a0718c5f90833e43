"""What a study's networks cost, before anything is launched: parameters, FLOPs, device-hours.

torch is imported only for networks with custom layers, which no formula counts, and to measure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ablations import tables
from ablations.data.datasets import load_dataset
from ablations.data.image_folder import MissingImagesError
from ablations.recipe import DataChoice, Preset, Recipe
from ablations.studies.selection import fit_to_images
from ablations.units import Unit, choose_unit, duration, rate, times
from modernize.closed_form import ClosedFormCost, closed_form
from modernize.cost import cost
from modernize.spec import NetSpec
from modernize.steps import Training
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.studies.variants import ResolvedStudy
    from modernize.steps import Variant

OUT_OF_PROPORTION = 3.0  # times the reference's FLOPs, above which a variant is pointed out

# Training images, channels and classes of the sets where they are not at hand.
SETS = {
    "fashion-mnist": ("Fashion-MNIST", 60_000, 1, 10),
    "cifar10": ("CIFAR-10", 50_000, 3, 10),
    "cifar100": ("CIFAR-100", 50_000, 3, 100),
    "image-folder": ("ImageNet-1K", 1_281_167, 3, 1000),
}


def count(spec: NetSpec, image_size: int) -> ClosedFormCost:
    """Returns a network's parameters and FLOPs: by formula, or counted if it has custom layers.

    Raises:
        UsageError: for an image too small for the network.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    if not spec.custom_layers:
        return closed_form(spec, image_size)
    counted = cost(spec, image_size)
    return ClosedFormCost(counted.params, counted.flops)


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast networks train on one device.

    Attributes:
        seconds: per training image, of networks that were measured.
        reference: seconds per training image, and FLOPs, of the network that others scale from.
        how: where this comes from, in words.
    """

    seconds: Mapping[NetSpec, float]
    reference: tuple[float, int]
    how: str

    def of(self, spec: NetSpec, flops: int) -> float:
        """Returns seconds per training image."""
        seconds, base = self.reference
        return self.seconds.get(spec, seconds * flops / base)


def given_speed(images_per_second: float, name: str, flops: int) -> Speed:
    """Returns the speed that a person gives for the network ``name``."""
    how = f"{rate(images_per_second)} for {name} as given, the others by their FLOPs"
    return Speed({}, (1 / images_per_second, flops), how)


@dataclasses.dataclass(frozen=True)
class TrainingImages:
    """What the cost of a study needs to know of its images.

    Attributes:
        count, channels, classes: of the training images.
        note: says so if they were not at hand, and what of them is passed over.
    """

    count: int
    channels: int
    classes: int
    note: str = ""


def find_images(data: DataChoice, *, named: bool = False) -> TrainingImages:
    """Returns what the images are like; those not at hand are taken to be the whole published set.

    Nothing is downloaded.

    Args:
        data: which, and where they are.
        named: whether the user says where they are; they must be there then.

    Raises:
        DataError: for images that are there, but cannot be used; and for missing ones if ``named``.
    """
    try:
        if data.source != "download":
            images = load_dataset(data, skip_bad_images=True)  # which only training minds
            note = " ".join(images.notes)
            return TrainingImages(len(images.train), images.channels, images.num_classes, note)
        missing = "are downloaded when the study is launched"
    except MissingImagesError:
        if named:
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
    """What one variant costs.

    Attributes:
        key, title: of the variant.
        spec: its network, as its recipe trains it.
        cost: of the network, for one image.
        times: its FLOPs over the reference's.
        training, recipe: how it is trained.
        images: training images of an epoch.
        runs: how many seeds.
        hours: of one run on one device; None: nobody asked.
    """

    key: str
    title: str
    spec: NetSpec
    cost: ClosedFormCost
    times: float
    training: Training
    recipe: Recipe
    images: int
    runs: int
    hours: float | None = None

    @property
    def work(self) -> float:
        """Multiply-accumulates of its trainings; backward costs about twice forward."""
        return 3.0 * self.cost.flops * self.recipe.epochs * self.images * self.runs


def plan_rows(
    resolved: ResolvedStudy,
    variants: Sequence[Variant],
    preset: Preset,
    seeds: int,
    images: TrainingImages,
) -> tuple[list[PlanRow], PlanRow]:
    """Returns what each variant costs, with so many seeds each; and what the reference does."""
    rows: list[PlanRow] = []
    fitting = fit_to_images([resolved.reference, *variants], images.channels, images.classes)
    for v in fitting:
        recipe = preset.recipes.of(v.training, resolved.regime)
        spec = recipe.apply_to(v.spec)
        cost = count(spec, preset.data.image_size)
        times = cost.flops / rows[0].cost.flops if rows else 1.0
        rows.append(
            PlanRow(v.key, v.title, spec, cost, times, v.training, recipe, images.count, seeds)
        )
    return rows[1:], rows[0]


def timed(rows: Sequence[PlanRow], speed: Speed) -> list[PlanRow]:
    """Returns the rows with the hours of a run."""
    return [
        dataclasses.replace(
            row, hours=speed.of(row.spec, row.cost.flops) * row.recipe.epochs * row.images / 3600
        )
        for row in rows
    ]


COLUMNS = tables.Columns(
    numbers=("parameters", "MFLOPs", "GFLOPs", "FLOPs / base", "epochs x images", "runs",
             "time per run"),
    least=("recipe", "label", "runs", "parameters", "epochs x images", "MFLOPs", "GFLOPs"),
    wrapped={"label": 16, "note": 10},
)  # fmt: skip
"""How :func:`as_texts` is shown."""


def as_texts(rows: Sequence[PlanRow]) -> list[dict[str, str]]:
    """Returns the rows for people; without the last column where nothing is out of proportion."""
    unit = choose_unit(row.cost.flops for row in rows)
    texts = [_as_text(row, unit) for row in rows]
    if not any(text["note"] for text in texts):
        for text in texts:
            del text["note"]
    return texts


def _as_text(row: PlanRow, unit: Unit) -> dict[str, str]:
    texts = {
        "step": row.key,
        "label": row.title,
        "parameters": f"{row.cost.params:,}",
        unit.name: unit.show(row.cost.flops),
        "FLOPs / base": times(row.times),
        "recipe": str(row.training),
        "epochs x images": f"{row.recipe.epochs} x {row.images:,}",
        "runs": str(row.runs),
    }
    if row.hours is not None:
        texts["time per run"] = duration(3600 * row.hours)
    return {**texts, "note": "out of proportion" if row.times > OUT_OF_PROPORTION else ""}


def as_values(row: PlanRow) -> dict[str, Any]:
    """Returns a row for CSV and JSON."""
    return {
        "step": row.key,
        "label": row.title,
        "params": row.cost.params,
        "flops": row.cost.flops,
        "flops_over_base": round(row.times, 4),
        "recipe": str(row.training),
        "epochs": row.recipe.epochs,
        "images": row.images,
        "runs": row.runs,
        "hours_per_run": row.hours,
        "out_of_proportion": row.times > OUT_OF_PROPORTION,
    }
