"""Parameters and MACs of a NetSpec in closed form, without torch.

It is a check of :mod:`modernize.cost`, which counts the built network, and replaces it for large
numbers of networks, because it builds none: it adds up the layers that :mod:`modernize.diagram`
describes. The convention is that of the published tables: MACs of convolutions and linear layers,
for one image.

A k x k convolution from ``a`` to ``b`` channels in ``g`` groups has a*b*k*k/g weights. It uses each
of them once at each position of its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modernize.cost import cost
from modernize.diagram import Block, Kind, Layer, architecture
from modernize.errors import CustomLayersError
from modernize.spec import NetSpec


class ClosedFormCost(NamedTuple):
    """Parameters and FLOPs of a network or a part of it.

    Attributes:
        params: learned numbers.
        flops: MACs of convolutions and linear layers, batch 1.
    """

    params: int
    flops: int

    def __add__(self, other: object) -> ClosedFormCost:
        """Returns the cost of both parts together."""
        if not isinstance(other, ClosedFormCost):
            return NotImplemented
        return ClosedFormCost(self.params + other.params, self.flops + other.flops)


def closed_form(spec: NetSpec, image_size: int) -> ClosedFormCost:
    """Returns the parameters and MACs of a network, without building it.

    Args:
        spec: the network.
        image_size: height and width of the image in pixels.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
        CustomLayersError: for a network with custom layers, because no formula covers them.
    """
    spec.check_image_size(image_size)
    if spec.custom_layers:
        layers = ", ".join(map(str, spec.custom_layers.values()))
        raise CustomLayersError(f"no formula covers {layers}; count the built network.")
    network = architecture(spec)
    total, side = _layers(network.stem, image_size)
    for stage in network.stages:
        before, side = _layers(stage.downsample, side)
        first, small = _block(stage.first, side)
        rest, side = _block(stage.rest, small)
        more = stage.depth - 1
        total += before + first + ClosedFormCost(more * rest.params, more * rest.flops)
    return total + _layers(network.head, side)[0]


def quick_cost(spec: NetSpec, image_size: int) -> ClosedFormCost:
    """Returns a network's cost: by formula, or counted if it has custom layers.

    Raises:
        UsageError: for an image smaller than ``spec.total_stride``.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    if not spec.custom_layers:
        return closed_form(spec, image_size)
    counted = cost(spec, image_size)
    return ClosedFormCost(counted.params, counted.flops)


def smallest_feature_map(spec: NetSpec, image_size: int) -> int:
    """Returns the height, in positions, of the smallest feature map that a norm of it receives."""
    network = architecture(spec)
    pooled = any(layer.kind is Kind.NORM for layer in network.head)
    return 1 if pooled else network.sides(image_size)[-1]


def _block(block: Block, side: int) -> tuple[ClosedFormCost, int]:
    """Returns the cost of a block with an input of this height, and the height of its output."""
    total, out = _layers(block.branch, side)
    return total + _layers(block.shortcut, side)[0], out


def _layers(layers: Sequence[Layer], side: int) -> tuple[ClosedFormCost, int]:
    """Returns the cost of layers with an input of this height, and the height of their output."""
    total = ClosedFormCost(0, 0)
    for layer in layers:
        side = layer.side(side)
        total += _layer(layer, side)
    return total, side


def _layer(layer: Layer, side: int) -> ClosedFormCost:
    """Returns the cost of a layer with an output of this height."""
    if layer.kind in (Kind.CONV, Kind.LINEAR):
        weights = layer.in_width * layer.out_width * layer.kernel**2 // layer.groups
        return ClosedFormCost(weights + layer.bias * layer.out_width, weights * side**2)
    learned = {Kind.NORM: 2, Kind.SCALE: 1}.get(layer.kind, 0)  # a norm has a scale and a shift
    return ClosedFormCost(learned * layer.out_width, 0)
