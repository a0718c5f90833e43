"""The shipped studies: what they compare, and what they will cost."""

import json
import math
from pathlib import Path

import pytest
import torch

from ablations.recipe import load_preset
from ablations.studies.estimates import (
    OUT_OF_PROPORTION,
    find_images,
    given_speed,
    plan_rows,
    timed,
)
from ablations.studies.selection import select_variants
from ablations.studies.study_file import STUDIES, read_study, study_names
from ablations.studies.variants import ResolvedStudy, resolve_study
from modernize.closed_form import closed_form
from modernize.cost import cost
from modernize.errors import UnknownNameError
from modernize.network import Network
from modernize.steps import REGIMES, STEPS, Training, apply_steps, spec_of

RECIPES = load_preset("imagenet").recipes


def shipped(name: str, regime: str = "nano") -> ResolvedStudy:
    return resolve_study(read_study(name), regime, RECIPES)


def test_the_names_of_the_shipped_studies() -> None:
    assert study_names() == [
        "convnext", "kernel-size", "leave-one-out", "one-at-a-time", "order", "recipe", "roadmap",
        "stage-ratio",
    ]  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("name", study_names())
def test_every_variant_can_be_built(name: str, regime: str) -> None:
    study = shipped(name, regime)
    keys = [v.key for v in study.variants]
    assert len(set(keys)) == len(keys)
    contents = {(v.spec, v.training, json.dumps(v.recipe)) for v in study.variants}
    assert len(contents) == len(keys)
    assert all(v.parent is None or v.parent in keys for v in study.variants)
    for v in study.variants if regime != "resnet200" else ():  # deeper, but the same structures
        with torch.device("meta"):
            network = Network(v.spec)
        params = sum(p.numel() for p in network.parameters())
        assert closed_form(v.spec, 64).params == params


@pytest.mark.integration
@pytest.mark.parametrize("name", study_names())
def test_what_is_planned_by_formula_is_what_fvcore_counts(name: str) -> None:
    for v in shipped(name).variants:
        counted = cost(v.spec, 32)
        assert closed_form(v.spec, 32) == (counted.params, counted.flops), v.key


@pytest.mark.parametrize("regime", REGIMES)
def test_the_roadmap_is_the_steps_as_they_stand(regime: str) -> None:
    assert shipped("roadmap", regime).variants == apply_steps(STEPS, REGIMES[regime])


def test_leave_one_out_has_each_step_and_says_which_cannot_be() -> None:
    study = shipped("leave-one-out", "resnet50")
    adopted = [step.key for step in STEPS[1:] if step.adopted]
    assert [v.key for v in study.variants] == [
        "convnext",
        *(f"no-{key}" for key in adopted if key != "kernel-5"),
        "no-large-kernel",
    ]
    assert {v.parent for v in study.variants[1:]} == {"convnext"}
    [(key, reason)] = study.omitted
    assert key == "no-kernel-5"
    assert "the same network as the base, 'convnext'" in reason
    by_key = {v.key: v for v in study.variants}
    assert by_key["no-depthwise"].spec == spec_of("downsample", spatial_conv="dense")
    assert by_key["no-kernel-7"].spec.kernel_size == 5
    assert by_key["no-large-kernel"].spec.kernel_size == 3
    assert by_key["no-recipe"].training is Training.CLASSIC
    assert [v.key for v in study.variants if v.training is Training.CLASSIC] == ["no-recipe"]


def test_without_depthwise_it_costs_thirty_gflops_and_is_marked() -> None:
    study, preset = shipped("leave-one-out", "resnet50"), load_preset("imagenet")
    rows, reference = plan_rows(study, study.variants, preset, 3, find_images(preset.data))
    dear = [row for row in rows if row.times > OUT_OF_PROPORTION]
    assert [(row.key, f"{row.cost.flops / 1e9:.1f}") for row in dear] == [("no-depthwise", "29.8")]
    assert (reference.key, reference.cost.params) == ("convnext", 28_589_128)


def test_one_at_a_time_adds_each_step_to_resnet() -> None:
    study = shipped("one-at-a-time", "resnet50")
    first, *others = study.variants
    assert first.spec == spec_of("recipe")
    assert [v.key for v in others] == [step.key for step in STEPS[2:]]
    for v, step in zip(others, STEPS[2:], strict=True):
        assert set(first.spec.diff(v.spec)) <= set(step.changes)
        assert v.training is Training.ENHANCED


def test_all_orders_end_at_the_same_network_and_share_what_they_have_in_common() -> None:
    for regime in REGIMES:
        study = shipped("order", regime)
        entries = read_study("order").definition.variants
        ends = {fold_of(entry.path.steps, regime) for entry in entries}
        assert ends == {spec_of("downsample", regime)}
        by_key = {v.key: v for v in study.variants}
        assert by_key["micro-first.gelu"].parent == "recipe"
        assert by_key["micro-first.fewer-acts"].parent == "micro-first.gelu"
        assert "micro-first.kernel-7" not in by_key  # it is `downsample` of the paper's order


def fold_of(keys: list[str], regime: str) -> object:
    by_key = {step.key: step for step in STEPS}
    return apply_steps([by_key[key] for key in keys], REGIMES[regime])[-1].spec


def test_sweeps_have_the_values_they_list() -> None:
    sizes = [v.spec.kernel_size for v in shipped("kernel-size").variants]
    assert sorted(sizes) == [3, 5, 7, 9, 11, 13, 15]
    for regime in REGIMES:
        first, *others = shipped("stage-ratio", regime).variants
        assert len(others) == 5
        assert all(list(first.spec.diff(v.spec)) == ["depths"] for v in others)


def test_a_piece_of_a_study_by_keys_or_places() -> None:
    study = shipped("leave-one-out")
    assert [v.key for v in select_variants(study.variants, only=["no-gelu", "0"])] == [
        "convnext",
        "no-gelu",
    ]
    assert len(select_variants(study.variants, first="no-ln")) == 3
    with pytest.raises(UnknownNameError, match="Did you mean 'no-gelu'"):
        select_variants(study.variants, only=["no-geluu"])


# -- what it will cost ---------------------------------------------------------------------------


def test_hours_follow_from_the_speed_that_is_given() -> None:
    study, preset = shipped("leave-one-out", "resnet50"), load_preset("imagenet")
    rows, reference = plan_rows(study, study.variants, preset, 1, find_images(preset.data))
    speed = given_speed(1000, reference.key, reference.cost.flops)
    hours = {row.key: row.hours for row in timed(rows, speed)}
    whole = 300 * 1_281_167 / 1000 / 3600
    assert math.isclose(hours["convnext"], whole)
    assert math.isclose(hours["no-recipe"], whole * 90 / 300)  # the classic recipe is shorter
    assert math.isclose(hours["no-depthwise"], whole * 29_838 / 4_456, rel_tol=1e-3)


def test_images_that_are_not_at_hand_are_taken_for_the_published_set(tmp_path: Path) -> None:
    nano = load_preset("nano").data
    assert find_images(nano).note == ""
    assert (find_images(nano).count, find_images(nano).classes) == (10_000, 10)
    gone = find_images(nano.model_copy(update={"source": str(tmp_path)}))
    assert (gone.count, gone.channels) == (60_000, 1)
    assert "counted for Fashion-MNIST: 60,000 images of 10 classes" in gone.note
    fetched = find_images(load_preset("cifar100").data)
    assert (fetched.count, fetched.classes) == (50_000, 100)
    assert "downloaded when the study is launched" in fetched.note


def test_every_shipped_file_says_why_it_is_there() -> None:
    for path in STUDIES.glob("*.yaml"):
        assert path.read_text().startswith("# ")
