"""The resolved recipes of detection and segmentation as text, to be read against the sources.

Refreshed by ``pytest tests/test_dense_recipes.py --refresh-golden``.
"""

from collections.abc import Callable

import pytest

from ablations.recipe import load_preset
from modernize.layer_decay import layer_groups, layer_scales, stage_groups
from modernize.models import MODELS
from modernize.steps import Training

EPOCH = {"detection": 7330, "segmentation": 1263}  # updates of 16 images
GROUPS = {"detection": layer_groups, "segmentation": stage_groups}
SIZES = [f"ConvNeXt-{size}" for size in ("T", "S", "B", "L", "XL")]
PRESETS = ("coco-mask-rcnn", "coco-cascade", "ade20k")


def text_of(name: str) -> str:
    preset = load_preset(name)
    updates = EPOCH[preset.task]
    lines = [f"{name}: task {preset.task}, head {preset.head}, {preset.compute.precision}"]
    for size in SIZES:
        recipe = preset.recipes.of(Training.ENHANCED, size)
        assert recipe == preset.recipes.of(Training.CLASSIC, size)
        values = recipe.model_dump(exclude_defaults=True)
        lines += ["", size, *(f"  {key}: {value}" for key, value in sorted(values.items()))]
        epochs = sorted({0, 1, 2, 26, 27, 32, 33, recipe.epochs - 1})
        rates = (f"{e} {recipe.learning_rate_at(e * updates, updates):.4g}" for e in epochs)
        lines.append(f"  learning rate at the start of an epoch: {', '.join(rates)}")
        scales = layer_scales(MODELS[size], recipe.layer_decay or 1.0, GROUPS[preset.task])
        factors = dict.fromkeys(f"{scale:.4f}" for scale in scales.values())
        lines.append(f"  factors of layer groups: {', '.join(factors)}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_is_as_written_down(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"dense-recipes/{name}", text_of(name))


def test_the_schedules_end_as_in_the_sources() -> None:
    coco = load_preset("coco-mask-rcnn").recipes.enhanced
    assert [coco.learning_rate_at(e * 100, 100) for e in (26, 27, 33)] == pytest.approx(
        [1e-4, 1e-5, 1e-6]
    )
    ade = load_preset("ade20k").recipes.enhanced
    last = ade.epochs * 1263 - 1
    assert ade.learning_rate_at(last, 1263) == pytest.approx(0, abs=1e-9)
    assert abs(ade.epochs * 1263 - 160_000) < 1263
