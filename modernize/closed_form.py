"""Parameters and MACs of a NetSpec in closed form, without torch.

It is a check of :mod:`modernize.cost`, which counts the built network, and replaces it for large
numbers of networks, because it builds none: it adds up the layers that :mod:`modernize.diagram`
describes. The convention is that of the published tables: MACs of convolutions and linear layers,
for one image.

A k x k convolution from ``a`` to ``b`` channels in ``g`` groups has a*b*k*k/g weights. It uses each
of them once at each position of its output.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from modernize.cost import cost
from modernize.diagram import Architecture, Kind, Layer, architecture
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
    placed = place(architecture(spec), (image_size, image_size))
    return sum((layer_cost(at) for at in placed), ClosedFormCost(0, 0))


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


class Placed(NamedTuple):
    """A layer at its place in a network.

    Attributes:
        layer: the layer.
        times: how often the network has it there: the equal blocks of a stage are one.
        size, out: (height, width) of its input and its output, in positions.
    """

    layer: Layer
    times: int
    size: tuple[int, int]
    out: tuple[int, int]


def place(network: Architecture, size: tuple[int, int]) -> Iterator[Placed]:
    """Yields every layer of a network for images of this (height, width) in pixels."""
    size = yield from _chain(network.stem, size)
    for stage in network.stages:
        size = yield from _chain(stage.downsample, size)
        for block, times in ((stage.first, 1), (stage.rest, stage.depth - 1)):
            yield from _chain(block.shortcut, size, times)
            size = yield from _chain(block.branch, size, times)
            yield from _chain(block.after, size, times)
    yield from _chain(network.head, size)


def layer_cost(at: Placed) -> ClosedFormCost:
    """Returns the cost of a layer at its place."""
    layer = at.layer
    if layer.kind in (Kind.CONV, Kind.LINEAR):
        weights = layer.in_width * layer.out_width * layer.kernel**2 // layer.groups
        params, flops = weights + layer.bias * layer.out_width, weights * at.out[0] * at.out[1]
    else:
        learned = {Kind.NORM: 2, Kind.SCALE: 1}.get(layer.kind, 0)  # a norm has a scale and a shift
        params, flops = learned * layer.out_width, 0
    return ClosedFormCost(at.times * params, at.times * flops)


def _chain(
    layers: Sequence[Layer], size: tuple[int, int], times: int = 1
) -> Generator[Placed, None, tuple[int, int]]:
    """Yields layers, each after the one before, and returns the size of the output."""
    for layer in layers:
        out = layer.side(size[0]), layer.side(size[1])
        yield Placed(layer, times, size, out)
        size = out
    return size
