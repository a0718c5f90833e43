"""The roadmap as data: its rows, how they fold, and what is refused."""

import itertools

import pytest

from modernize.errors import SpecError, UnknownNameError
from modernize.spec import Norm, Stem
from modernize.steps import REGIMES, STEPS, Step, Training, apply_steps, find_step, spec_of, until

KEYS = [step.key for step in STEPS]
ADOPTED = [step for step in STEPS if step.adopted]


def test_the_steps_stand_in_the_papers_order():
    assert ", ".join(KEYS) == (
        "resnet, recipe, stage-ratio, patchify, depthwise, width, inverted, move-up, kernel-5, "
        "kernel-7, kernel-9, kernel-11, gelu, fewer-acts, fewer-norms, ln, downsample"
    )
    assert {step.key for step in STEPS if not step.adopted} == {"kernel-9", "kernel-11"}


@pytest.mark.parametrize(
    ("regime", "before", "after", "widths"),
    [
        ("resnet50", (3, 4, 6, 3), (3, 3, 9, 3), (64, 64, 96)),
        ("resnet200", (3, 24, 36, 3), (3, 3, 27, 3), (64, 84, 128)),
    ],
)
def test_the_regimes_are_the_papers(regime, before, after, widths):
    keys = ("resnet", "stage-ratio", "width")
    assert tuple(spec_of(key, regime).width for key in keys) == widths
    assert [spec_of(key, regime).depths for key in keys] == [before, after, after]


@pytest.mark.parametrize("regime", REGIMES)
def test_every_step_keeps_what_was_adopted_and_changes_what_it_says(regime):
    variants = {v.key: v for v in until("downsample", regime)}
    assert list(variants) == KEYS
    for step in STEPS[1:]:
        variant = variants[step.key]
        parent = variants[variant.parent]
        assert parent.adopted
        assert set(parent.spec.diff(variant.spec)) <= set(step.changes)
        assert parent.spec.diff(variant.spec) or parent.training is not variant.training


def test_side_branches_do_not_carry_over():
    parents = {v.key: v.parent for v in until("downsample")}
    assert parents["resnet"] is None
    assert parents["kernel-9"] == parents["kernel-11"] == parents["gelu"] == "kernel-7"
    assert spec_of("kernel-11").kernel_size == 11
    assert spec_of("gelu").kernel_size == spec_of("downsample").kernel_size == 7


def test_only_the_first_row_is_trained_the_classic_way():
    variants = until("downsample")
    assert variants[0].spec == variants[1].spec
    assert [v.training for v in variants] == [Training.CLASSIC] + [Training.ENHANCED] * 16


def test_titles_carry_the_regimes_names():
    titles = [v.title for v in until("downsample", "resnet200")]
    assert "ResNet-200" in titles[0]
    assert "ConvNeXt-B" in titles[-1]
    assert not any("{" in title for title in titles)


@pytest.mark.parametrize("regime", REGIMES)
def test_adopted_steps_with_different_fields_commute(regime):
    last = apply_steps(ADOPTED, REGIMES[regime])[-1].spec
    for i, j in itertools.combinations(range(1, len(ADOPTED)), 2):
        touched = [set(step.changes) for step in ADOPTED[i : j + 1]]
        moved, others = (touched[0], touched[-1]), touched[1:-1]
        if moved[0] & moved[1] or any(m & o for m in moved for o in others):
            continue
        order = list(ADOPTED)
        order[i], order[j] = order[j], order[i]
        assert apply_steps(order, REGIMES[regime])[-1].spec == last


def test_a_step_can_be_left_out():
    rows = [step for step in STEPS if step.key != "ln"]
    left = apply_steps(rows, REGIMES["resnet50"])[-1].spec
    assert left == spec_of("downsample", norm="batch")


def test_until_stops_at_the_step_given_by_key_or_index():
    assert [v.key for v in until("patchify")] == KEYS[:4]
    assert until(3) == until("3") == until("patchify")
    assert find_step("ln") == find_step(15) == 15


@pytest.mark.parametrize("step", ["layernorm", "fewer-act", 17, -1, "", 1.5, "9" * 5000])
def test_an_unknown_step_is_answered_with_all_valid_ones(step):
    with pytest.raises(UnknownNameError) as error:
        until(step)
    message = str(error.value)
    assert repr(str(step))[:100] in message
    assert all(key in message for key in KEYS)
    assert "index from 0 to 16" in message
    assert ("Did you mean 'fewer-acts'?" in message) == (step == "fewer-act")


def test_an_unknown_regime_is_answered_with_the_closest_and_all_valid_ones():
    with pytest.raises(UnknownNameError) as error:
        until("ln", "resnet-50")
    message = str(error.value)
    assert "'resnet-50'" in message
    assert "Did you mean 'resnet50'?" in message
    assert all(name in message for name in REGIMES)


def test_an_unknown_field_is_refused_in_a_row_and_in_a_call():
    with pytest.raises(UnknownNameError, match=r"'kernal_size'.*Did you mean 'kernel_size'"):
        apply_steps([*STEPS, Step("mine", "mine", "mine", {"kernal_size": 3})], REGIMES["nano"])
    with pytest.raises(UnknownNameError, match=r"'widht'.*Did you mean 'width'"):
        spec_of("ln", widht=3)


def test_a_row_that_changes_nothing_is_refused():
    again = Step("again", "again", "mine", {"norm": Norm.LAYER, "stem": Stem.PATCHIFY})
    with pytest.raises(SpecError) as error:
        apply_steps([*STEPS, again], REGIMES["nano"])
    message = str(error.value)
    assert "'again' changes nothing" in message
    assert all(text in message for text in ("norm", "layer", "stem", "patchify"))
    with pytest.raises(SpecError, match="'idle'"):
        apply_steps([*STEPS, Step("idle", "idle", "mine", {})], REGIMES["nano"])


def test_a_step_changes_the_recipe_until_one_names_another():
    mix = Step("mix", "mix", "mine", {}, recipe={"mixup": 0.8})
    side = Step("side", "side", "mine", {}, adopted=False, recipe={"mixup": 0.2, "epochs": 3})
    cut = Step("cut", "cut", "mine", {"norm": Norm.LAYER}, recipe={"cutmix": 1.0})
    classic, _ = STEPS[:2]
    back = Step("back", "back", "mine", {}, Training.ENHANCED, recipe={"epochs": 4})
    variants = {v.key: v for v in apply_steps([classic, mix, side, cut, back], REGIMES["nano"])}
    assert {key: v.recipe for key, v in variants.items()} == {
        "resnet": {},
        "mix": {"mixup": 0.8},
        "side": {"mixup": 0.2, "epochs": 3},
        "cut": {"mixup": 0.8, "cutmix": 1.0},
        "back": {"epochs": 4},
    }
    assert variants["back"].training is Training.ENHANCED
    assert [variants[key].recipe_name for key in ("resnet", "side")] == [
        "classic", "classic, mixup 0.2, epochs 3",
    ]  # fmt: skip
    again = Step("again", "again", "mine", {}, recipe={"mixup": 0.8})
    with pytest.raises(SpecError, match=r"'again' changes nothing: mixup is already 0\.8"):
        apply_steps([classic, mix, again], REGIMES["nano"])


def test_a_key_used_twice_is_refused():
    twice = Step("ln", "once more", "mine", {"norm": Norm.BATCH})
    with pytest.raises(SpecError, match="'ln'"):
        apply_steps([*STEPS, twice], REGIMES["nano"])


def test_an_impossible_value_in_a_row_is_refused():
    with pytest.raises(SpecError, match="kernel_size is 4"):
        apply_steps([*STEPS, Step("even", "even", "mine", {"kernel_size": 4})], REGIMES["nano"])
