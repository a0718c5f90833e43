"""The closed form against the counted network: two ways that share no code."""

import itertools
import random

import pytest

from modernize import cost
from modernize import spec as s
from modernize.closed_form import closed_form
from modernize.errors import UsageError
from modernize.network import Network
from modernize.spec import NetSpec
from modernize.steps import REGIMES, until

ROWS = [(regime, v) for regime in REGIMES for v in until("downsample", regime)]
CHOICES = {
    "stem": s.Stem,
    "spatial_conv": s.SpatialConv,
    "bottleneck": s.Bottleneck,
    "spatial_position": s.SpatialPosition,
    "activation": s.Activation,
    "activations": s.PerBlock,
    "norm": s.Norm,
    "norms": s.PerBlock,
    "downsampling": s.Downsampling,
    "layer_scale": (0.0, 1e-6),
}
ALL_CHOICES = [
    dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())
]


def random_spec(draw):
    """A small network with any combination of fields."""
    return NetSpec(
        depths=tuple(draw.randint(1, 3) for _ in range(draw.randint(1, 4))),
        width=draw.randint(1, 9),
        kernel_size=draw.choice((1, 3, 5, 7, 9, 11)),
        drop_path=draw.choice((0.0, 0.2)),
        init=draw.choice(list(s.Init)),
        in_channels=draw.randint(1, 4),
        num_classes=draw.randint(1, 12),
        **draw.choice(ALL_CHOICES),
    )


@pytest.mark.parametrize(("regime", "variant"), ROWS, ids=lambda x: getattr(x, "key", x))
def test_every_step_of_every_regime(regime, variant):
    size = REGIMES[regime].image_size
    counted = cost.cost(variant.spec, size)
    assert closed_form(variant.spec, size) == (counted.params, counted.flops)


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_at_odd_image_sizes(seed):
    draw = random.Random(seed)  # noqa: S311
    spec = random_spec(draw)
    size = spec.total_stride + draw.randint(0, 43)
    counted = cost.count(spec, size)
    assert closed_form(spec, size) == (counted.params, counted.flops), spec.text()


def test_parameters_of_every_combination_of_choices():
    for choices in ALL_CHOICES:
        if choices["activation"] is s.Activation.GELU or choices["activations"] is s.PerBlock.ONE:
            continue  # activations learn nothing, wherever they stand
        spec = NetSpec(depths=(1, 2), width=3, kernel_size=5, num_classes=4, **choices)
        parameters = sum(p.numel() for p in Network(spec).parameters())
        assert closed_form(spec, 32).params == parameters, spec.text()


def test_images_below_the_total_stride_are_refused():
    with pytest.raises(UsageError, match=r"31.*at least 32"):
        closed_form(until("ln")[-1].spec, 31)
