"""Presets: read, checked whole, set otherwise; and the learning rate."""

import math
from pathlib import Path

import pytest
import torch

from ablations.recipe import PRESETS, load_preset, preset_names
from modernize import REGIMES, spec_of
from modernize.errors import UnknownNameError, UsageError
from modernize.spec import Init
from modernize.steps import Training


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_is_valid(name: str) -> None:
    preset = load_preset(name)
    for regime in REGIMES:
        classic = preset.recipes.of(
            Training.CLASSIC, regime
        )  # fine-tuning and heads have one recipe
        same = classic.layer_decay or preset.head
        assert classic.optimizer == ("adamw" if same else "sgd")
        assert preset.recipes.of(Training.ENHANCED, regime).optimizer == "adamw"


def test_stochastic_depth_may_differ_by_regime() -> None:
    recipes = load_preset("imagenet").recipes
    rates = {regime: recipes.of(Training.ENHANCED, regime).drop_path for regime in REGIMES}
    assert rates == {"resnet50": 0.1, "resnet200": 0.5, "nano": 0.0}
    with pytest.raises(UsageError, match=r"drop_path.*resnet51.*mean 'resnet50'"):
        load_preset("imagenet", ["enhanced.drop_path={resnet51: 0.1}"])


def test_a_preset_is_found_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((PRESETS / "nano.yaml").read_text())
    assert load_preset(str(path)) == load_preset("nano")


def test_unknown_preset_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"'nanu'.*mean 'nano'.*Valid: ade20k, cifar10"):
        load_preset("nanu")


def test_all_faults_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (PRESETS / "nano.yaml").read_text()
    lines = text.splitlines()
    wrong = {"flip: 0.5": "flip: 2.5", "drop_path: 0.0": "drop_paht: 0.0", "image_size: 32": ""}
    for old, new in wrong.items():
        at = next(i for i, line in enumerate(lines) if old in line)
        lines[at] = lines[at].replace(old, new)
    path = tmp_path / "bad.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(UsageError) as caught:
        load_preset(str(path))
    message = str(caught.value)
    number = {key: 1 + next(i for i, s in enumerate(lines) if key in s) for key in ("2.5", "paht")}
    assert f"bad.yaml, line {number['2.5']}: recipes.classic.flip" in message
    assert f"bad.yaml, line {number['paht']}: recipes.classic.drop_paht" in message
    assert "mean 'drop_path'" in message
    assert "data.image_size: this key is missing" in message
    assert "recipes.classic.drop_path: this key is missing" in message
    assert "4 faults" in message


@pytest.mark.parametrize("text", ["just text", "a: [1", "- 1\n- 2"])
def test_what_is_no_preset_is_said_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"odd\.yaml"):
        load_preset(str(path))


def test_set_reaches_one_recipe_or_both() -> None:
    preset = load_preset("nano", ["epochs=3", "classic.learning_rate=5e-2", "data.image_size=64"])
    assert (preset.recipes.classic.epochs, preset.recipes.enhanced.epochs) == (3, 3)
    assert preset.recipes.classic.learning_rate == 0.05
    assert preset.recipes.enhanced.learning_rate == 4e-3
    assert preset.data.image_size == 64


def test_set_of_what_only_one_recipe_has_leaves_the_other_alone() -> None:
    preset = load_preset("nano", ["momentum=0.5"])
    assert preset.recipes.classic.momentum == 0.5
    assert preset.recipes.enhanced.momentum is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=3", r"'epoch'.*mean 'epochs'"),
        ("epochs", "key=value"),
        ("epochs=0", r"--set epochs=0: recipes\.classic\.epochs.*greater than 0"),
        ("enhanced.momentum=0.9", "optimizer adamw has no momentum"),
        ("resized_crop=[0.9, 0.1]", "resized_crop goes from small to large"),
        ("schedule=square", "'cosine', 'poly' or 'step', not 'square'"),
        ("learning_rate=.nan", "finite"),
        ("resized_crop=[0.1, 1.0]", "give one of crop_padding and resized_crop"),
        ("crop_padding=null", "give one of crop_padding and resized_crop"),
        ("compute.precision=half", "'auto', 'fp32', 'bf16' or 'fp16', not 'half'"),
    ],
)
def test_bad_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_preset("nano", [setting])


@pytest.mark.parametrize(
    "text", ["rand-m9-inc", "rand-m9.5", "augmix-m9", "rand-q3", "rand-m9-tx", "rand m9", "rand-n0"]
)
def test_a_wrong_rand_augment_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"rand-m9-mstd0.5-inc1, with any.*, not '{text}'"):
        load_preset("imagenet", [f"rand_augment={text}"])


def test_cosine_agrees_with_torch() -> None:
    recipe = load_preset("nano").recipes.enhanced
    per_epoch, optimizer = 10, torch.optim.SGD([torch.zeros(1)], lr=recipe.learning_rate)
    after_warmup = (recipe.epochs - int(recipe.warmup_epochs)) * per_epoch
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, after_warmup, eta_min=recipe.final_learning_rate
    )
    for iteration in range(per_epoch, recipe.epochs * per_epoch):
        ours = recipe.learning_rate_at(iteration, per_epoch)
        assert math.isclose(ours, theirs.get_last_lr()[0], rel_tol=1e-9)
        optimizer.step()
        theirs.step()


def test_warm_up_rises_linearly_from_zero() -> None:
    recipe = load_preset("nano").recipes.enhanced
    rates = [recipe.learning_rate_at(i, 4) for i in range(5)]
    assert rates == pytest.approx([0, 1e-3, 2e-3, 3e-3, 4e-3])


def test_steps_fall_to_a_tenth_at_each_third() -> None:
    recipe = load_preset("nano", ["classic.epochs=90"]).recipes.classic
    rates = [recipe.learning_rate_at(epoch * 7, 7) for epoch in (0, 29, 30, 59, 60, 89)]
    assert rates == pytest.approx([0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005])


def test_a_recipe_sets_the_network_and_leaves_layer_scale_to_the_step() -> None:
    recipe = load_preset("nano", ["enhanced.drop_path=0.2", "enhanced.init=trunc-normal"])
    spec = recipe.recipes.enhanced.apply_to(spec_of("downsample"))
    assert (spec.drop_path, spec.init, spec.layer_scale) == (0.2, Init.TRUNC_NORMAL, 1e-6)
    recipe = load_preset("nano", ["enhanced.layer_scale=0.0"])
    assert recipe.recipes.enhanced.apply_to(spec_of("downsample")).layer_scale == 0


def test_a_title_states_the_size_of_the_images() -> None:
    assert load_preset("imagenet").title == "ImageNet-1K, 224 x 224"
    assert load_preset("imagenet", ["data.image_size=64"]).title == "ImageNet-1K, 64 x 64"
    settings = ["data.image_size=64", "title=32 x 32 and 3 x 3"]
    assert load_preset("nano", settings).title == "32 x 32 and 3 x 3"
