"""The parts of a recipe as data: keys that change together on the way to the enhanced recipe.

A part is a step of a road: it sets its keys to the values of the recipe that the road goes to.
"""

from __future__ import annotations

import dataclasses

from ablations.recipe import Recipes
from modernize.steps import Step, Training

SECTION = "Training techniques"


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a recipe.

    Attributes:
        key, title: its names, as those of a step.
        keys: of the recipe. Some are valid only together, such as an optimizer and its momentum.
    """

    key: str
    title: str
    keys: tuple[str, ...]


# fmt: off
PARTS: tuple[Part, ...] = (
    Part("optimizer",        "another optimizer and schedule", (
        "optimizer", "learning_rate", "momentum", "betas", "epsilon", "weight_decay", "batch_size",
        "micro_batch_size", "schedule", "power", "milestones", "warmup_epochs",
        "warmup_iterations", "warmup_ratio", "final_learning_rate")),
    Part("epochs",           "another number of epochs", (
        "epochs", "iterations", "evaluate_every")),
    Part("init",             "other initial weights",   ("init", "layer_scale", "head_init_scale")),
    Part("crop",             "other crops",             ("resized_crop", "crop_padding")),
    Part("flip",             "other flips",             ("flip",)),
    Part("rand-augment",     "RandAugment",             ("rand_augment",)),
    Part("mixup",            "Mixup",                   ("mixup",)),
    Part("cutmix",           "CutMix",                  ("cutmix",)),
    Part("random-erasing",   "Random Erasing",          ("random_erasing",)),
    Part("label-smoothing",  "label smoothing",         ("label_smoothing",)),
    Part("stochastic-depth", "stochastic depth",        ("drop_path",)),
    Part("layer-decay",      "layer-wise decay",        ("layer_decay",)),
    Part("sync-batch-norm",  "BatchNorm over devices",  ("sync_batch_norm",)),
    Part("ema",              "EMA of the weights",      ("ema_decay",)),
)
# fmt: on


def parts_between(
    recipes: Recipes, regime: str, first: Training, last: Training
) -> tuple[list[Step], list[Part]]:
    """Returns the steps from one recipe to another, and the parts that are equal in both."""
    there, here = (recipes.of(name, regime).model_dump() for name in (first, last))
    steps, equal = [], []
    for part in PARTS:
        changes = {key: here[key] for key in part.keys}
        if changes == {key: there[key] for key in part.keys}:
            equal.append(part)
        else:
            steps.append(Step(part.key, part.title, SECTION, {}, recipe=changes))
    return steps, equal
