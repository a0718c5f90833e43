"""The resolved recipes of detection and segmentation as text, to be read against the sources.

Refreshed by ``pytest tests/test_dense_recipes.py --refresh-golden``.
"""

from collections.abc import Callable
from typing import Any

import pytest

from ablations.data.sampling import Sampling
from ablations.recipe import load_preset
from ablations.studies.study_file import read_study
from ablations.studies.variants import resolve_study
from modernize.errors import UsageError
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


def _warm_up_of_mmcv(rate: float, at: int, iterations: int, ratio: float) -> float:
    """The linear warm-up of mmcv/runner/hooks/lr_updater.py (1.3 to 1.7), in its own terms."""
    missing = (1 - at / iterations) * (1 - ratio) if at < iterations else 0.0
    return rate * (1 - missing)


AROUND = (0, 1, 250, 499, 500, 501, 1499, 1500, 1501, 80_000, 159_999)


@pytest.mark.parametrize("size", SIZES)
def test_segmentation_has_the_rates_of_mmcv(size: str) -> None:
    """Poly with power 1 and minimum 0 over 160,000 iterations, warm-up of 1500 from 1e-6."""
    recipe = load_preset("ade20k").recipes.of(Training.ENHANCED, size)
    peak = 8e-5 if size == "ConvNeXt-XL" else 1e-4
    for at in AROUND:
        regular = (peak - 0.0) * (1 - at / 160_000) ** 1.0 + 0.0
        wanted = _warm_up_of_mmcv(regular, at, 1500, 1e-6)
        assert recipe.learning_rate_at(at, 1263) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("name", "peak"), [("coco-mask-rcnn", 1e-4), ("coco-cascade", 2e-4)])
def test_detection_has_the_rates_of_mmcv(name: str, peak: float) -> None:
    """Steps at epochs 27 and 33, warm-up of 500 iterations from 0.001."""
    recipe = load_preset(name).recipes.of(Training.ENHANCED, "ConvNeXt-T")
    for at in (*AROUND, 27 * 7329 - 1, 27 * 7329, 33 * 7329 - 1, 33 * 7329, 36 * 7329 - 1):
        passed = sum(at // 7329 >= step for step in (27, 33))
        wanted = _warm_up_of_mmcv(peak * 0.1**passed, at, 500, 0.001)
        assert recipe.learning_rate_at(at, 7329) == pytest.approx(wanted, rel=1e-12)


def test_a_run_of_iterations_ends_inside_an_epoch() -> None:
    recipe = load_preset("ade20k").recipes.enhanced
    assert recipe.updates(1263) == 160_000
    assert 126 * 1263 < 160_000 < recipe.epochs * 1263
    assert recipe.updates(100) == 12_700  # fewer images: all epochs
    assert recipe.images_seen(20_210) == 2_560_000
    sampling = Sampling(20_210, 16, 2, 0, iterations=recipe.iterations)
    assert [sampling.updates_in(epoch) for epoch in (0, 125, 126)] == [1263, 1263, 862]
    assert [batch.update for batch in sampling.epoch(126, 861)] == [861] * 8


def _published() -> list[Any]:
    """The rows of ConvNeXt that its authors' configurations have, with those of the presets.

    From 1K weights: T, S, B; from 22K weights: L, XL. The values are those of the configurations
    in facebookresearch/ConvNeXt, commit 048efce: object_detection/configs and
    semantic_segmentation/configs.
    """
    columns = ("preset", "size", "learning_rate", "layer_decay", "drop_path", "last_group")
    rows = [
        ("coco-mask-rcnn", "T", 1e-4, 0.95, 0.4, 7),
        ("coco-cascade", "T", 2e-4, 0.7, 0.4, 7),
        ("coco-cascade", "S", 2e-4, 0.7, 0.6, 13),
        ("coco-cascade", "B", 2e-4, 0.8, 0.7, 13),
        ("coco-cascade", "L", 1e-4, 0.7, 0.7, 13),
        ("coco-cascade", "XL", 1e-4, 0.7, 0.8, 13),
        ("ade20k", "T", 1e-4, 0.9, 0.4, 7),
        ("ade20k", "S", 1e-4, 0.9, 0.3, 13),
        ("ade20k", "B", 1e-4, 0.9, 0.4, 13),
        ("ade20k", "L", 1e-4, 0.9, 0.4, 13),
        ("ade20k", "XL", 8e-5, 0.9, 0.4, 13),
    ]
    return [
        pytest.param(dict(zip(columns, row, strict=True)), id="-".join(row[:2])) for row in rows
    ]


@pytest.mark.parametrize("row", _published())
def test_every_size_has_its_published_values(row: dict[str, Any]) -> None:
    preset, size = load_preset(row["preset"]), f"ConvNeXt-{row['size']}"
    recipe = preset.recipes.of(Training.ENHANCED, size)
    keys = ("learning_rate", "layer_decay", "drop_path")
    assert [getattr(recipe, key) for key in keys] == [row[key] for key in keys]
    assert GROUPS[preset.task](MODELS[size])["head"] == row["last_group"]


def test_the_sizes_of_a_study_have_their_values() -> None:
    """Through the study, as a launch resolves it."""
    preset = load_preset("coco-cascade")
    study = resolve_study(read_study("convnext"), "resnet50", preset.recipes)
    found = {}
    for variant in study.variants:
        _, recipe = preset.recipes.of_variant(variant, "resnet50")
        found[variant.key] = recipe.learning_rate, recipe.layer_decay, recipe.drop_path
    assert found == {
        "convnext-t": (2e-4, 0.7, 0.4),
        "convnext-s": (2e-4, 0.7, 0.6),
        "convnext-b": (2e-4, 0.8, 0.7),
        "convnext-l": (1e-4, 0.7, 0.7),
        "convnext-xl": (1e-4, 0.7, 0.8),
    }


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["power=null"], "needs power"),
        (["schedule=cosine"], "has no power"),
        (["warmup_epochs=1"], "give one of warmup_epochs and warmup_iterations"),
        (["iterations=1500"], "warmup_iterations 1500"),
        (["learning_rate={ConvNeXt-T: 1e-3}"], "default"),
        (["layer_decay={ConvNext-T: 0.5}"], "ConvNeXt-T"),
        (["data.interpolation=bicubic"], r"data.interpolation \(bicubic\).*segmentation"),
    ],
)
def test_values_in_conflict_are_named(settings: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        load_preset("ade20k", settings)


def test_ade20k_is_evaluated_about_every_16000_iterations() -> None:
    recipe = load_preset("ade20k").recipes.enhanced
    epochs = recipe.epochs_begun(1263)
    found = [epoch for epoch in range(1, epochs + 1) if recipe.evaluates(epoch, epochs)]
    assert found == [13, 26, 39, 52, 65, 78, 91, 104, 117, 127]
