"""Presets of Tables 5 and 6 for every size of ConvNeXt, and the paper's models as bases."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ablations.recipe import Recipe, load_preset
from ablations.studies.study_file import read_study
from ablations.studies.variants import resolve_study
from modernize.errors import UsageError
from modernize.models import MODELS
from modernize.spec import NetSpec, Role
from modernize.steps import REGIMES, Variant

SIZES = ("T", "S", "B", "L", "XL")
FINE_TUNED = {
    "learning_rate": 5e-5, "batch_size": 512, "epochs": 30, "warmup_epochs": 0,
    "weight_decay": 1e-8, "mixup": 0, "cutmix": 0, "head_init_scale": 0.001,
}  # fmt: skip
ALWAYS = {
    "optimizer": "adamw", "betas": [0.9, 0.999], "schedule": "cosine",
    "rand_augment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.25, "label_smoothing": 0.1,
    "final_learning_rate": 1e-6,
}  # fmt: skip
# Typed from Tables 5 and 6: preset -> values of all sizes, stochastic depth and EMA of each.
TABLES: dict[str, tuple[dict[str, Any], dict[str, float], dict[str, float]]] = {
    "imagenet": (
        {"learning_rate": 4e-3, "batch_size": 4096, "epochs": 300, "warmup_epochs": 20,
         "weight_decay": 0.05, "mixup": 0.8, "cutmix": 1.0, "layer_decay": None},
        {"T": 0.1, "S": 0.4, "B": 0.5, "L": 0.5},
        {},
    ),
    "imagenet-22k": (
        {"learning_rate": 4e-3, "batch_size": 4096, "epochs": 90, "warmup_epochs": 5,
         "weight_decay": 0.05, "mixup": 0.8, "cutmix": 1.0, "layer_decay": None,
         "layer_scale": 1e-6},
        {"T": 0.0, "S": 0.0, "B": 0.1, "L": 0.1, "XL": 0.2},
        {},
    ),
    "imagenet-384": ({**FINE_TUNED, "layer_decay": 0.7}, {"B": 0.8, "L": 0.95}, {}),
    **dict.fromkeys(
        ("imagenet-22k-to-1k", "imagenet-22k-to-1k-384"),
        (
            {**FINE_TUNED, "layer_decay": 0.8},
            {"T": 0.0, "S": 0.1, "B": 0.2, "L": 0.3, "XL": 0.4},
            {"XL": 0.9999},
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_every_size_has_the_values_of_the_tables(name: str) -> None:
    preset = load_preset(name)
    study = resolve_study(read_study("convnext"), preset.regime, preset.recipes)
    values, drop_path, ema = TABLES[name]
    found: dict[str, tuple[NetSpec, Recipe]] = {
        v.key: preset.recipes.of_variant(v, preset.regime) for v in study.variants
    }
    for size in SIZES:
        spec, recipe = found[f"convnext-{size.lower()}"]
        for key, value in {**ALWAYS, **values}.items():
            assert getattr(recipe, key) == value, (size, key)
        assert recipe.drop_path == spec.drop_path == drop_path.get(size, 0.0)
        assert recipe.ema_decay == ema.get(size)
        ignoring = (Role.TRAINING, Role.INITIAL)
        assert not spec.diff(MODELS[f"ConvNeXt-{size}"], ignoring)
    assert preset.recipes.enhanced.batch_size % preset.recipes.enhanced.micro_batch_size == 0


def test_images_are_prepared_as_in_the_paper() -> None:
    found = {name: load_preset(name).data for name in TABLES}
    prepared = {name: (data.image_size, data.resize) for name, data in found.items()}
    assert prepared == {
        "imagenet": (224, 256),
        "imagenet-22k": (224, 256),
        "imagenet-384": (384, "warp"),
        "imagenet-22k-to-1k": (224, 256),
        "imagenet-22k-to-1k-384": (384, "warp"),
    }
    assert found["imagenet-22k"].validation == 0


def variants(tmp_path: Path, text: str, regime: str = "resnet50") -> dict[str, Variant]:
    path = tmp_path / "mine.yaml"
    path.write_text(f"title: t\n{text}")
    recipes = load_preset("imagenet").recipes
    return {v.key: v for v in resolve_study(read_study(str(path)), regime, recipes).variants}


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_a_base_and_a_variant_in_every_regime(
    tmp_path: Path, model: str, regime: str
) -> None:
    found = variants(
        tmp_path,
        f"base: {{model: {model}}}\n"
        "variants:\n"
        "  - {key: small, fields: {kernel_size: 5}}\n"
        "  - {key: iso, model: ConvNeXt-B (iso.), fields: {kernel_size: 3}}\n",
        regime,
    )
    ignoring = (Role.TRAINING,)
    assert not found["base"].spec.diff(MODELS[model], ignoring)
    assert found["small"].spec == dataclasses.replace(found["base"].spec, kernel_size=5)
    other = MODELS["ConvNeXt-B (iso.)"].replace(kernel_size=3)
    assert not found["iso"].spec.diff(other, ignoring)


def test_a_model_is_ablated_step_by_step_with_its_own_stochastic_depth(tmp_path: Path) -> None:
    found = variants(tmp_path, "base: {model: ConvNeXt-S}\nvariants:\n  - without: each\n")
    assert found["no-gelu"].spec.depths == (3, 3, 27, 3)
    assert found["no-gelu"].spec.activation == "relu"
    assert "no-stage-ratio" not in found  # the model has its own depths
    assert {v.recipe["drop_path"] for v in found.values() if v.key != "no-recipe"} == {0.4}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("base: {model: ConvNext-S}\nvariants: [{without: each}]", "ConvNeXt-S"),
        ("base: {model: ConvNeXt-S, until: ln}\nvariants: [{without: each}]", "line 2"),
        ("base: {until: ln}\nvariants:\n  - {key: a, model: ConvNeXt-S, with: [gelu]}", "line 4"),
    ],
)
def test_a_wrong_model_is_refused_with_its_line(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        variants(tmp_path, text)
