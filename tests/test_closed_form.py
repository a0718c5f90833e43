"""The closed form against the counted network: two ways that share no code."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import CHOICES, small_specs

from modernize import cost
from modernize.closed_form import closed_form
from modernize.errors import UsageError
from modernize.network import Network
from modernize.spec import NetSpec
from modernize.steps import REGIMES, until

ROWS = [(regime, v) for regime in REGIMES for v in until("downsample", regime)]


@pytest.mark.integration
@pytest.mark.parametrize(("regime", "variant"), ROWS, ids=lambda x: getattr(x, "key", x))
def test_every_step_of_every_regime(regime, variant):
    size = REGIMES[regime].image_size
    counted = cost.cost(variant.spec, size)
    assert closed_form(variant.spec, size) == (counted.params, counted.flops)


@pytest.mark.integration
@settings(deadline=None, max_examples=40)
@given(spec=small_specs(), extra=st.integers(0, 43))
def test_random_networks_at_odd_image_sizes(spec, extra):
    size = spec.total_stride + extra
    counted = cost.count(spec, size)
    assert closed_form(spec, size) == (counted.params, counted.flops), spec.text()


@pytest.mark.integration
def test_parameters_of_every_combination_of_choices():
    learning = {k: v for k, v in CHOICES.items() if k not in ("activation", "activations", "init")}
    for values in itertools.product(*learning.values()):
        choices = dict(zip(learning, values, strict=True))
        spec = NetSpec(depths=(1, 2), width=3, kernel_size=5, num_classes=4, **choices)
        parameters = sum(p.numel() for p in Network(spec).parameters())
        assert closed_form(spec, 32).params == parameters, spec.text()


def test_images_below_the_total_stride_are_refused():
    with pytest.raises(UsageError, match=r"31.*at least 32"):
        closed_form(until("ln")[-1].spec, 31)
