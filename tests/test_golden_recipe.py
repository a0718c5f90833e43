"""The resolved recipe of every step as text, to be read against Table 5.

Refreshed by ``pytest tests/test_golden_recipe.py --refresh-golden``.
"""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ablations.recipe import load_preset
from modernize.network import Network
from modernize.steps import Variant, until

UPDATES = 312  # of an epoch: 1,281,167 images in updates of 4,096
# Epochs at whose first update we look.
SAMPLED = (0, 1, 10, 19, 20, 21, 29, 30, 59, 60, 100, 160, 250)


def decays(network: nn.Module, decay: bool) -> str:
    """Counts the parameters that do or do not decay, by the module and name they have."""
    counts: Counter[str] = Counter()
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if (parameter.ndim >= 2) == decay:
                counts[f"{type(module).__name__}.{name}"] += 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def described(variant: Variant, regime: str) -> str:
    recipe = load_preset("imagenet").recipes.of(variant.training, regime)
    spec = recipe.apply_to(variant.spec)
    with torch.device("meta"):
        network = Network(spec)
    return "\n".join(
        [
            f"{variant.key}: {variant.training} recipe",
            f"  decay:     {decays(network, True)}",
            f"  no decay:  {decays(network, False)}",
            f"  drop path: {' '.join(f'{rate:.4f}' for rate in spec.drop_path_rates)}",
            f"  layer scale {spec.layer_scale:g}, init {spec.init}",
        ]
    )


def text(regime: str) -> str:
    preset = load_preset("imagenet")
    lines = [f"The recipes of the preset imagenet in the regime {regime}.", ""]
    variants = until("downsample", regime)
    for training in dict.fromkeys(v.training for v in variants):
        recipe = preset.recipes.of(training, regime)
        lines += [f"{training}:", *(f"  {k}: {v}" for k, v in recipe.model_dump().items())]
        lines += ["  learning rate at the first update of an epoch:"]
        epochs = [epoch for epoch in SAMPLED if epoch < recipe.epochs]
        lines += [
            f"    {epoch:3d}: {recipe.learning_rate_at(epoch * UPDATES, UPDATES):.6g}"
            for epoch in [*epochs, recipe.epochs - 1]
        ]
        last = recipe.epochs * UPDATES - 1
        lines += [f"    last update: {recipe.learning_rate_at(last, UPDATES):.6g}", ""]
    return "\n".join([*lines, *(described(v, regime) + "\n" for v in variants)])


@pytest.mark.integration
@pytest.mark.parametrize("regime", ["resnet50", "resnet200"])
def test_the_recipe_of_every_step_is_as_written_down(
    regime: str, golden: Callable[[str, str], None]
) -> None:
    golden(f"recipes/{regime}", text(regime))


# Table 5 of the paper, for the column ConvNeXt-T/S/B/L, ImageNet-1K, 300 epochs.
TABLE_5 = {
    "optimizer": "adamw",
    "learning_rate": 4e-3,
    "weight_decay": 0.05,
    "betas": [0.9, 0.999],
    "batch_size": 4096,
    "epochs": 300,
    "schedule": "cosine",
    "warmup_epochs": 20,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "mixup": 0.8,
    "cutmix": 1.0,
    "random_erasing": 0.25,
    "label_smoothing": 0.1,
}


def test_the_enhanced_recipe_is_table_5() -> None:
    recipe = load_preset("imagenet").recipes.enhanced
    assert {key: getattr(recipe, key) for key in TABLE_5} == TABLE_5
    assert recipe.ema_decay is None
    assert isinstance(recipe.drop_path, dict)
    assert (recipe.drop_path["resnet50"], recipe.drop_path["resnet200"]) == (0.1, 0.5)
