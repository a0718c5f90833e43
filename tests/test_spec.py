"""NetSpec: validation, text, digest and the round trips through plain data."""

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from strategies import valid_specs

from ablations.recipe import Recipe
from modernize import spec as s
from modernize.errors import SpecError, UnknownNameError, UsageError
from modernize.spec import NetSpec, Role, field_types, fields_with
from modernize.steps import until

OTHER_VALUES = {
    "depths": (3, 4, 6, 4),
    "width": 65,
    "stem": s.Stem.PATCHIFY,
    "spatial_conv": s.SpatialConv.DEPTHWISE,
    "bottleneck": s.Bottleneck.INVERTED,
    "spatial_position": s.SpatialPosition.FIRST,
    "kernel_size": 5,
    "activation": s.Activation.GELU,
    "activations": s.PerBlock.ONE,
    "norm": s.Norm.LAYER,
    "norms": s.PerBlock.ONE,
    "downsampling": s.Downsampling.SEPARATE,
    "layer_scale": 1e-6,
    "drop_path": 0.1,
    "init": s.Init.KAIMING,
    "in_channels": 1,
    "num_classes": 10,
}


@pytest.fixture
def resnet():
    return NetSpec(depths=(3, 4, 6, 3), width=64)


@settings(deadline=None, max_examples=60)
@given(spec=valid_specs())
def test_plain_data_and_text_and_back(spec):
    plain = spec.to_dict()
    again = NetSpec.from_dict(json.loads(json.dumps(plain)))
    assert again == spec
    assert list(plain) == list(field_types())
    assert again.digest() == spec.digest()
    texts = dict(line.split(": ", 1) for line in spec.text().splitlines())
    assert texts == {
        name: ",".join(map(str, value)) if name == "depths" else str(value)
        for name, value in plain.items()
    }


@settings(deadline=None, max_examples=40)
@given(spec=valid_specs(), other=valid_specs())
def test_two_networks_are_equal_if_and_only_if_nothing_differs(spec, other):
    assert spec.diff(spec) == {}
    changed = spec.replace(**{name: theirs for name, (_, theirs) in spec.diff(other).items()})
    assert changed == other
    assert (spec == other) == (spec.digest() == other.digest()) == (spec.text() == other.text())


def test_the_digest_is_what_it_was(resnet):
    # Runs are named by it: a change of it orphans everybody's results.
    assert resnet.digest() == "159b2873e6ee3e92"
    assert until("downsample")[-1].spec.digest() == "e43584f455968316"


def test_every_field_matters_to_digest_text_and_diff(resnet):
    assert OTHER_VALUES.keys() == field_types().keys()
    others = {name: resnet.replace(**{name: value}) for name, value in OTHER_VALUES.items()}
    assert len({resnet.digest(), *(o.digest() for o in others.values())}) == 1 + len(others)
    for name, other in others.items():
        assert list(resnet.diff(other)) == [name]
        lines = zip(resnet.text().splitlines(), other.text().splitlines(), strict=True)
        assert [a.partition(":")[0] for a, b in lines if a != b] == [name]


def test_a_whole_number_where_a_fraction_may_stand_is_the_same_network(resnet):
    assert resnet.replace(drop_path=0, layer_scale=0).digest() == resnet.digest()
    assert resnet.replace(drop_path=0) == resnet


def test_all_faults_are_named_at_once():
    with pytest.raises(SpecError) as error:
        NetSpec(
            depths=(3, 0),
            width=0,
            kernel_size=4,
            layer_scale=-1.0,
            drop_path=1.0,
            in_channels=0,
            num_classes=-1,
        )
    for fault in (
        "depths is (3, 0)",
        "width is 0",
        "kernel_size is 4; it must be odd",
        "layer_scale is -1.0",
        "drop_path is 1.0",
        "in_channels is 0",
        "num_classes is -1",
    ):
        assert fault in str(error.value)


def test_all_values_of_a_wrong_kind_are_named_at_once():
    with pytest.raises(SpecError) as error:
        NetSpec(depths=3, width=64.0, stem="brick", norm="layer", drop_path=True)  # type: ignore[arg-type]
    for fault in (
        "depths is 3",
        "width is 64.0",
        "stem is 'brick'; it must be one of resnet, patchify",
        "norm is 'layer'",
        "drop_path is True; it must be a number",
    ):
        assert fault in str(error.value)


def test_replace_takes_plain_text_and_refuses_what_is_no_value(resnet):
    other = resnet.replace(stem="patchify", depths=[1, 2])
    assert (other.stem, other.depths) == (s.Stem.PATCHIFY, (1, 2))
    with pytest.raises(SpecError, match=r"'brick'.*one of resnet, patchify"):
        resnet.replace(stem="brick")


def test_an_unknown_field_is_answered_with_the_closest_and_all_valid_ones(resnet):
    with pytest.raises(UnknownNameError) as error:
        resnet.replace(kernel=7)
    message = str(error.value)
    assert "'kernel'" in message
    assert "Did you mean 'kernel_size'?" in message
    assert all(name in message for name in field_types())


def test_a_spec_is_frozen_and_hashable(resnet):
    with pytest.raises(dataclasses.FrozenInstanceError):
        resnet.width = 1
    assert len({resnet, NetSpec(depths=(3, 4, 6, 3), width=64)}) == 1


def test_widths_and_rates_follow_from_the_fields(resnet):
    assert resnet.narrow_widths == resnet.hidden_widths == (64, 128, 256, 512)
    assert resnet.stream_widths == (256, 512, 1024, 2048)
    inverted = resnet.replace(bottleneck="inverted")
    assert inverted.stream_widths == resnet.narrow_widths
    assert inverted.hidden_widths == resnet.stream_widths
    rates = resnet.replace(drop_path=0.3).drop_path_rates
    assert (len(rates), rates[0], rates[-1]) == (16, 0.0, 0.3)
    assert [b - a for a, b in itertools.pairwise(rates)] == pytest.approx([0.02] * 15)
    assert NetSpec(depths=(1,), width=1, drop_path=0.3).drop_path_rates == (0.0,)


def test_images_below_the_total_stride_are_refused(resnet):
    assert resnet.total_stride == 32
    resnet.check_image_size(32)
    with pytest.raises(UsageError, match=r"31.*at least 32"):
        resnet.check_image_size(31)
    assert resnet.replace(depths=(1,)).total_stride == 4


@pytest.mark.integration
def test_descriptions_need_no_torch():
    code = """
import sys
import modernize, modernize.steps, modernize.closed_form, modernize.cost, modernize.weights
import modernize.libraries, modernize.models
import ablations.costs.reference_models, ablations.costs.model_costs
modernize.closed_form.closed_form(modernize.spec_of("ln"), 224)
assert not {"torch", "fvcore", "numpy"} & set(sys.modules)
"""
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_every_field_has_one_role():
    roles = {role: fields_with(role) for role in Role}
    assert sorted(name for names in roles.values() for name in names) == sorted(field_types())
    assert roles[Role.SIZE] == {"depths", "width"}
    assert roles[Role.INPUT] | roles[Role.HEAD] == {"in_channels", "num_classes"}
    assert roles[Role.TRAINING] == {"drop_path", "init"}
    assert roles[Role.INITIAL] == {"layer_scale"}


def test_a_recipe_has_a_value_for_every_field_that_only_training_sees():
    assert fields_with(Role.TRAINING) <= Recipe.model_fields.keys()


def test_roles_can_be_ignored_in_a_comparison(resnet):
    other = resnet.replace(width=32, drop_path=0.5, init="kaiming", num_classes=7)
    assert list(resnet.diff(other, {Role.SIZE})) == ["drop_path", "init", "num_classes"]
    assert resnet.diff(other, {Role.SIZE, Role.HEAD, Role.TRAINING}) == {}
    assert other.without_training() == resnet.replace(width=32, num_classes=7)
