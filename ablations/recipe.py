"""Presets and recipes: the data set of a study, and how its networks are trained.

A preset is a YAML file: a regime, a data set and two recipes, ``classic`` for the roadmap's first
row and ``enhanced`` for all others. All its faults are reported at once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, ValidationError, model_validator

from ablations import limits, set_option, yaml_file
from ablations.choices import Compute, DataChoice, Start
from ablations.heads import HEADS
from ablations.value_types import (
    DEFAULT,
    BatchSize,
    Epochs,
    Fraction,
    Iterations,
    NonNegative,
    Positive,
    Probability,
    RandAugment,
    Rate,
    RegimeName,
    SizeName,
    TaskName,
)
from ablations.yaml_core import Key
from ablations.yaml_file import SET, Conflict, ConflictError, Table, Text
from modernize.errors import SpecError, UsageError
from modernize.spec import NetSpec, Role, fields_with
from modernize.steps import Training, Variant

SMOKE_UPDATES = 2  # of a smoke test's epoch
PRESETS = Path(__file__).parent / "presets"
SOURCE: Key = ("data", "source")
SIZE: Key = ("data", "image_size")
INTERPOLATION: Key = ("data", "interpolation")


class RecipeError(SpecError):
    """A recipe whose changed values are not valid.

    Attributes:
        faults: the key and the message of each fault.
        conflict: whether each value is valid, but not together with the others.
    """

    def __init__(self, faults: Sequence[tuple[Key, str]], *, conflict: bool) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, key))}: {text}" for key, text in faults))
        self.faults, self.conflict = faults, conflict


class Recipe(Table):
    """How one network is trained.

    Attributes:
        optimizer: ``sgd`` (with ``momentum``) or ``adamw`` (with ``betas``).
        learning_rate: the peak, for updates of ``batch_size`` images. It may have values as
            ``drop_path``, if one of them is for ``default``.
        momentum, betas, epsilon: of the optimizer; required if it has them, else not allowed.
        layer_decay: factor of the learning rate from each group of layers to the one before it, as
            :mod:`modernize.layer_decay` has them; the head's is 1. null: 1 for all. It may have
            values as ``drop_path``.
        weight_decay: on weights of two or more dimensions; biases, norms and Layer Scale have none.
        batch_size: images per update, over all devices.
        micro_batch_size: images that pass through the network at once, and of BatchNorm's
            statistics. The rest of ``batch_size`` is accumulated, or divided among devices.
        epochs: passes over the training images.
        iterations: updates after which the run ends, inside an epoch if need be; null: those of
            all epochs.
        evaluate_every: epochs from one evaluation to the next; the last epoch is always evaluated.
            null: 1.
        warmup_epochs: linear rise of the learning rate.
        warmup_iterations: the same as a number of updates; then ``warmup_epochs`` is 0.
        warmup_ratio: factor of the learning rate at the start of the rise; null: 0.
        schedule: after the warm-up, ``cosine`` to ``final_learning_rate``; or ``step``: a tenth
            after each of the ``milestones``; or ``poly``: the part of the run that is left, to the
            ``power``, from the first update on, down to ``final_learning_rate``.
        power: of ``poly``; required if it is the schedule, else not allowed.
        milestones: epochs; null: each third of the epochs (as 30, 60 of 90).
        final_learning_rate: the end of the schedule; 0 for ``step``, which does not use it.
        label_smoothing: fraction of each label that is spread over all classes.
        crop_padding: pixels of padding around an image before a random crop of the image's size;
            null with ``resized_crop``.
        resized_crop: smallest and largest fraction of an image's area in a random crop, before it
            is resized; null with ``crop_padding``.
        flip: probability of a horizontal flip.
        rand_augment: timm's notation, such as ``rand-m9-mstd0.5-inc1``; null: none.
        mixup, cutmix: parameter of the Beta distribution; 0: none. With both, each micro-batch has
            one of them, with equal probability.
        random_erasing: probability that a region of an image becomes noise.
        drop_path: stochastic depth of the last block; or a value for each regime, and each of the
            paper's models, that has any; and for ``default``: all others.
        ema_decay: of a moving average of the weights, which is evaluated as well; null: none. It
            may have values as ``drop_path``.
        sync_batch_norm: whether BatchNorm computes its statistics over all devices.
        head_init_scale: factor of the head's fresh weights in a run that starts from weights of
            other classes; null: 1.
        layer_scale: initial Layer Scale of all steps with this recipe; null: that of the step.
        init: initial weights of convolutions.
    """

    optimizer: Literal["sgd", "adamw"]
    learning_rate: Positive | dict[SizeName, Positive]
    momentum: Rate | None = None
    betas: Annotated[list[Rate], Field(min_length=2, max_length=2)] | None = None
    epsilon: Positive | None = None
    layer_decay: Fraction | dict[SizeName, Fraction] | None = None
    weight_decay: NonNegative
    batch_size: BatchSize
    micro_batch_size: BatchSize
    epochs: Epochs
    iterations: Iterations | None = None
    evaluate_every: Epochs | None = None
    warmup_epochs: Annotated[float, Field(ge=0, le=limits.EPOCHS)]
    warmup_iterations: Iterations | None = None
    warmup_ratio: Rate | None = None
    schedule: Literal["cosine", "poly", "step"]
    power: Positive | None = None
    milestones: Annotated[list[Epochs], Field(min_length=1)] | None = None
    final_learning_rate: NonNegative = 0.0
    label_smoothing: Rate
    crop_padding: Annotated[int, Field(ge=0, le=limits.PIXELS)] | None = None
    resized_crop: Annotated[list[Fraction], Field(min_length=2, max_length=2)] | None = None
    flip: Probability
    rand_augment: RandAugment | None
    mixup: NonNegative
    cutmix: NonNegative
    random_erasing: Probability
    drop_path: Rate | dict[SizeName, Rate]
    ema_decay: Rate | dict[SizeName, Rate] | None
    sync_batch_norm: bool
    head_init_scale: NonNegative | None = None
    layer_scale: NonNegative | None = None
    init: Literal["pytorch", "kaiming", "trunc-normal"]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if conflicts := [*self._of_optimizer(), *self._of_batches(), *self._of_schedule()]:
            raise ConflictError(conflicts)
        return self

    def _of_optimizer(self) -> Iterator[Conflict]:
        has = {"sgd": ("momentum",), "adamw": ("betas", "epsilon")}[self.optimizer]
        for key in ("momentum", "betas", "epsilon"):
            if (getattr(self, key) is not None) != (key in has):
                verb = "needs" if key in has else "has no"
                yield Conflict(("optimizer", key), f"optimizer {self.optimizer} {verb} {key}")
        if isinstance(self.learning_rate, dict) and DEFAULT not in self.learning_rate:
            yield Conflict(("learning_rate",), f"learning_rate has no value for {DEFAULT}")

    def _of_schedule(self) -> Iterator[Conflict]:
        wrong = {
            "final_learning_rate": self.schedule == "step" and self.final_learning_rate,
            "milestones": self.schedule != "step" and self.milestones,
            "power": self.schedule != "poly" and self.power,
        }
        for key in (key for key, value in wrong.items() if value):
            yield Conflict((key, "schedule"), f"schedule {self.schedule} has no {key}")
        if self.schedule == "poly" and self.power is None:
            yield Conflict(("power", "schedule"), "schedule poly needs power")
        if self.warmup_epochs and self.warmup_iterations:
            yield Conflict(
                ("warmup_epochs", "warmup_iterations"),
                "give one of warmup_epochs and warmup_iterations",
                {"warmup_epochs": ("warmup_iterations", None)},
            )
        if self.warmup_iterations and self.warmup_iterations >= (self.iterations or math.inf):
            yield Conflict(
                ("warmup_iterations", "iterations"),
                f"warmup_iterations {self.warmup_iterations} must be below iterations "
                f"{self.iterations}",
            )
        if self.warmup_epochs >= self.epochs:
            yield Conflict(
                ("warmup_epochs", "epochs"),
                f"warmup_epochs {self.warmup_epochs:g} must be below epochs {self.epochs}",
                {
                    "epochs": ("warmup_epochs", 0),
                    "warmup_epochs": ("epochs", math.floor(self.warmup_epochs) + 1),
                },
            )

    def _of_batches(self) -> Iterator[Conflict]:
        even = bool(self.mixup or self.cutmix)
        if self.batch_size % self.micro_batch_size:
            yield Conflict(
                ("batch_size", "micro_batch_size"),
                f"batch_size {self.batch_size} must be a multiple of micro_batch_size "
                f"{self.micro_batch_size}",
                {
                    "batch_size": ("micro_batch_size", self._part_of_batch(even)),
                    "micro_batch_size": (
                        "batch_size",
                        self.micro_batch_size * math.ceil(self.batch_size / self.micro_batch_size),
                    ),
                },
            )
        elif even and self.micro_batch_size % 2:
            yield Conflict(
                ("micro_batch_size", "mixup", "cutmix"),
                f"mixup and cutmix need an even micro_batch_size, not {self.micro_batch_size}",
            )
        if (self.crop_padding is None) == (self.resized_crop is None):
            yield Conflict(
                ("crop_padding", "resized_crop"), "give one of crop_padding and resized_crop"
            )
        if self.resized_crop and self.resized_crop[0] > self.resized_crop[1]:
            yield Conflict(
                ("resized_crop",), f"resized_crop goes from small to large, not {self.resized_crop}"
            )

    def _part_of_batch(self, even: bool) -> int:
        """Returns the largest micro-batch of at most today's size that divides the batch."""
        sizes = range(min(self.micro_batch_size, self.batch_size), 0, -1)
        fits = [n for n in sizes if self.batch_size % n == 0]
        return next((n for n in fits if not even or n % 2 == 0), fits[0])

    def of_size(self, name: str) -> dict[str, Any]:
        """Returns the keys with values for regimes and models, with those of this one."""
        none: dict[str, Any] = {"learning_rate": None, "layer_decay": None, "drop_path": 0.0,
                                "ema_decay": None}  # fmt: skip
        given = {key: getattr(self, key) for key in none}
        return {
            key: values.get(name, values.get(DEFAULT, none[key]))
            for key, values in given.items()
            if isinstance(values, dict)
        }

    def apply_to(self, spec: NetSpec) -> NetSpec:
        """Returns the spec with this recipe's values of the fields that only training uses."""
        spec = spec.replace(**{name: getattr(self, name) for name in fields_with(Role.TRAINING)})
        return spec if self.layer_scale is None else spec.replace(layer_scale=self.layer_scale)

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Returns the recipe with other values of some keys.

        Raises:
            RecipeError: for an unknown key, an invalid value, or values in conflict.
        """
        values = {**self.model_dump(), **changes}
        try:
            return Recipe.model_validate(values)
        except ValidationError as error:
            faults = yaml_file.faults(error, values, Recipe, {})
            raise RecipeError(faults, conflict=not any(e["loc"] for e in error.errors())) from None

    def updates(self, per_epoch: int) -> int:
        """Returns the number of updates of a run with this number in an epoch."""
        of_epochs = self.epochs * per_epoch
        return of_epochs if self.iterations is None else min(of_epochs, self.iterations)

    def epochs_begun(self, per_epoch: int) -> int:
        """Returns the number of epochs of such a run; the last one may be incomplete."""
        return math.ceil(self.updates(per_epoch) / per_epoch)

    def evaluates(self, epoch: int, epochs: int) -> bool:
        """Returns whether a run of this many epochs is evaluated after one of them, from 1 on."""
        return epoch == epochs or epoch % (self.evaluate_every or 1) == 0

    def images_seen(self, images: int) -> int:
        """Returns how many images pass through the network in a run with this number of them."""
        limit = math.inf if self.iterations is None else self.iterations * self.batch_size
        return int(min(self.epochs * images, limit))

    def learning_rate_at(self, iteration: int, iterations_per_epoch: int) -> float:
        """Returns the learning rate of one update, counted from 0 over the whole run."""
        warmup = self.warmup_iterations or self.warmup_epochs * iterations_per_epoch
        rate = self._scheduled(iteration, warmup, iterations_per_epoch)
        if iteration < warmup:
            # From the ratio at the first update to 1 after the last one of the warm-up.
            ratio = self.warmup_ratio or 0.0
            return rate * (ratio * (warmup - iteration) + iteration) / warmup
        return rate

    def _scheduled(self, iteration: int, warmup: float, per_epoch: int) -> float:
        """Returns the learning rate of one update without the factor of the warm-up."""
        peak, low = cast("float", self.learning_rate), self.final_learning_rate
        total = self.updates(per_epoch)
        if self.schedule == "poly":
            return low + (peak - low) * math.pow(1 - iteration / total, self.power or 1.0)
        if iteration < warmup:
            return peak
        if self.schedule == "step":
            passed = 3 * iteration // total
            if self.milestones:
                passed = sum(iteration >= m * per_epoch for m in self.milestones)
            return float(peak * 0.1**passed)
        progress = (iteration - warmup) / (total - warmup)
        return low + (peak - low) * 0.5 * (1 + math.cos(math.pi * progress))


class Recipes(Table):
    """The two recipes of a preset; each step names its recipe."""

    classic: Recipe
    enhanced: Recipe

    def named(self, training: Training) -> Recipe:
        """Returns the recipe of this name, as it is written."""
        return self.classic if training is Training.CLASSIC else self.enhanced

    def of(
        self, training: Training, regime: str, changes: Mapping[str, Any] | None = None
    ) -> Recipe:
        """Returns the recipe of this name for a regime, with other values of some keys.

        Raises:
            RecipeError: if the changed recipe is not valid.
        """
        recipe = self.named(training)
        if changes:
            recipe = recipe.changed(changes)
        return recipe.model_copy(update=recipe.of_size(regime))

    def of_variant(self, variant: Variant, regime: str) -> tuple[NetSpec, Recipe]:
        """Returns the network of a variant as its recipe trains it, and this recipe.

        Raises:
            RecipeError: if the variant's recipe is not valid.
        """
        recipe = self.of(variant.training, regime, variant.recipe)
        return recipe.apply_to(variant.spec), recipe

    def nearest(self, recipe: Recipe, regime: str) -> tuple[Training, dict[str, Any]]:
        """Returns the recipe with the fewest other values than this one, and these values."""
        values = recipe.model_dump()
        differ = {}
        for training in Training:
            there = self.of(training, regime).model_dump()
            differ[training] = {k: v for k, v in values.items() if v != there[k]}
        nearest = min(differ, key=lambda training: len(differ[training]))
        return nearest, differ[nearest]


class Preset(Table):
    """A complete experiment, except for the steps and the number of seeds.

    Attributes:
        title: one line, for tables and charts.
        task: one of :data:`ablations.metrics.TASKS`.
        regime: the default regime.
        data: the images.
        recipes: how networks are trained.
        compute: how they are computed; not part of a run's identity.
        start: the weights that runs start from, unless the study says otherwise; null: fresh ones.
        cluster: whether its runs are meant for a cluster rather than for one machine.
        head: of the task, one of :data:`ablations.heads.HEADS`; null for classification.
    """

    title: Text
    task: TaskName = "classification"
    regime: RegimeName
    data: DataChoice
    recipes: Recipes
    compute: Compute
    cluster: bool
    start: Start | None = None
    head: Text | None = None

    @model_validator(mode="after")
    def _has_head(self) -> Self:
        heads = HEADS.get(self.task, {})
        if heads and self.head not in heads:
            raise ConflictError(
                [
                    Conflict(
                        ("head", "task"),
                        f"task {self.task} needs a head: {', '.join(heads)}; not {self.head!r}",
                    )
                ]
            )
        if not heads and self.head is not None:
            raise ConflictError([Conflict(("head", "task"), f"task {self.task} has no head")])
        return self

    @property
    def task_choice(self) -> dict[str, Any]:
        """The task in the identity of a run; empty for classification.

        It has all values of the head, so that a run is never continued with other ones.
        """
        if self.head is None:
            return {}
        values = dataclasses.asdict(HEADS[self.task][self.head])
        return {"name": self.task, "head": self.head, "values": json.loads(json.dumps(values))}

    def smoke(
        self, processes: int, variants: Sequence[Variant] = ()
    ) -> tuple[Preset, tuple[Variant, ...]]:
        """Returns the shortest version of a study, to test only that runs reach their end.

        It has one epoch of a few updates, each of one micro-batch per process.
        """

        def short(recipe: Recipe) -> dict[str, Any]:
            batch = recipe.micro_batch_size * processes
            none = {"iterations": None, "warmup_iterations": None}
            return {"epochs": 1, "warmup_epochs": 0.0, "batch_size": batch, **none}

        recipes = Recipes(
            classic=self.recipes.classic.changed(short(self.recipes.classic)),
            enhanced=self.recipes.enhanced.changed(short(self.recipes.enhanced)),
        )
        batches = [recipes.classic.batch_size, recipes.enhanced.batch_size]
        shortened = []
        for variant in variants:
            whole = self.recipes.of(variant.training, self.regime, variant.recipe)
            values, there = short(whole), recipes.of(variant.training, self.regime)
            changes = {**variant.recipe, **values} if variant.recipe else {}
            changes = {key: value for key, value in changes.items() if value != getattr(there, key)}
            shortened.append(dataclasses.replace(variant, recipe=changes))
            batches.append(values["batch_size"])
        update = {
            "title": f"{self.title}, smoke test",
            "data": self.data.model_copy(update={"limit": SMOKE_UPDATES * max(batches)}),
            "recipes": recipes,
        }
        return self.model_copy(update=update), tuple(shortened)


def preset_names() -> list[str]:
    """Returns the names of the presets in this package."""
    return yaml_file.shipped_names(PRESETS)


def load_preset(name: str, settings: Sequence[str] = (), source: str | None = None) -> Preset:
    """Returns a preset with changed values of some keys.

    Args:
        name: a shipped preset's name, or the path of a YAML file.
        settings: ``key=value`` texts; a key is a path such as ``recipes.enhanced.epochs`` or
            ``data.image_size``. A recipe's key alone, such as ``epochs``, means both recipes. The
            last setting of a key counts.
        source: replaces the preset's ``data.source``.

    Raises:
        UsageError: naming all faults, with file and line if known.
    """
    path = yaml_file.find(name, PRESETS, "preset")
    values, places = yaml_file.read(path, Preset, "preset")
    size = set_option.get(values, SIZE)
    for setting in settings:
        places.update(
            dict.fromkeys(
                set_option.apply(setting, values, Preset), f"{SET}{set_option.shortened(setting)}"
            )
        )
    if source is not None and isinstance(values.get("data"), dict):
        if places.get(SOURCE, "").startswith(SET) and values["data"]["source"] != source:
            raise UsageError("--data and --set data.source name two folders; give only one.")
        values["data"]["source"] = source
        places[SOURCE] = "--data"
    preset = yaml_file.check(values, Preset, f"the preset {path.stem!r}", places, path.name)
    if preset.head is not None and (given := set_option.get(values, INTERPOLATION)) is not None:
        where = places.get(INTERPOLATION, path.name)
        raise UsageError(
            f"{where}: data.interpolation ({given}) has no effect: images for {preset.task} "
            f"are always resized bilinearly. Remove it."
        )
    if places.get(("title",), "").startswith(SET):
        return preset
    # A title with the size of the images gets the new size.
    now = preset.data.image_size
    title = re.sub(rf"\b{size} x {size}\b", f"{now} x {now}", preset.title)
    return preset.model_copy(update={"title": title})
