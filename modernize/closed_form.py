"""Parameters and MACs of a NetSpec in closed form, without torch.

It is a check of :mod:`modernize.cost`, which counts the built network, and replaces it for large
numbers of networks, because it builds none. The convention is that of the published tables: MACs
of convolutions and linear layers, for one image.

A k x k convolution from ``a`` to ``b`` channels in ``g`` groups has a*b*k*k/g weights. It uses each
of them once at each position of its output.
"""

from __future__ import annotations

from typing import NamedTuple

from modernize.errors import CustomLayersError
from modernize.spec import (
    Bottleneck,
    Downsampling,
    NetSpec,
    Norm,
    PerBlock,
    SpatialConv,
    SpatialPosition,
    Stem,
)


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
    total, side = _stem(spec, image_size)
    separate = spec.downsampling is Downsampling.SEPARATE
    stream = spec.width
    for stage, depth in enumerate(spec.depths):
        narrow = spec.width * 2**stage
        out = 4 * narrow if spec.bottleneck is Bottleneck.CLASSIC else narrow
        stride = 1 if stage == 0 else 2
        if stride == 2 and separate:
            side //= 2  # 2x2/2 without padding leaves an odd row out
            total += _norm(stream) + _conv(stream, out, side, kernel=2, bias=True)
            stream, stride = out, 1
        total += _block(spec, narrow, stream, out, side, stride)
        side = _strided(side, stride)
        rest = _block(spec, narrow, out, out, side, stride=1)
        total += ClosedFormCost((depth - 1) * rest.params, (depth - 1) * rest.flops)
        stream = out
    if separate:
        total += _norm(stream)  # of the pooled features
    return total + _conv(stream, spec.num_classes, side=1, bias=True)  # the linear head


def smallest_feature_map(spec: NetSpec, image_size: int) -> int:
    """Returns the height, in positions, of the smallest feature map that a norm of it receives."""
    if spec.downsampling is Downsampling.SEPARATE:
        return 1  # the pooled features
    _, side = _stem(spec, image_size)
    for _ in spec.depths[1:]:
        side = _strided(side, 2)
    return side


def _stem(spec: NetSpec, image_size: int) -> tuple[ClosedFormCost, int]:
    """Returns the cost of the stem and the height of its output."""
    width = spec.width
    if spec.stem is Stem.RESNET:
        side = _strided(image_size, 2)
        conv = _conv(spec.in_channels, width, side, kernel=7, bias=False)
        return conv + _norm(width), _strided(side, 2)  # the 3x3/2 max pool, padding 1
    patch = 16 if spec.stem is Stem.PATCHIFY_16 else 4
    side = image_size // patch
    conv = _conv(spec.in_channels, width, side, kernel=patch, bias=True)
    if spec.stem is Stem.PATCHIFY and spec.downsampling is Downsampling.SEPARATE:
        conv += _norm(width)
    return conv, side


def _block(
    spec: NetSpec, narrow: int, stream: int, out: int, side: int, stride: int
) -> ClosedFormCost:
    """Returns the cost of a block from ``stream`` channels of height ``side`` to ``out`` channels.

    Two of its three convolutions are 1x1: one into the hidden channels, one out of them. The k x k
    one keeps its number of channels and has the stride: layers before it have the larger height.
    """
    hidden = narrow if spec.bottleneck is Bottleneck.CLASSIC else 4 * narrow
    small = _strided(side, stride)
    first = spec.spatial_position is SpatialPosition.FIRST
    spatial = stream if first else hidden
    groups = spatial if spec.spatial_conv is SpatialConv.DEPTHWISE else 1
    bias = spec.norm is Norm.LAYER  # BatchNorm would subtract a bias again

    total = _conv(spatial, spatial, small, kernel=spec.kernel_size, groups=groups, bias=bias)
    total += _conv(stream, hidden, small if first else side, bias=bias)
    total += _conv(hidden, out, small, bias=bias)
    total += _norm(spatial)
    if spec.norms is PerBlock.ALL:
        total += _norm(hidden) + _norm(out)
    if spec.layer_scale > 0:
        total += ClosedFormCost(out, 0)
    if stride == 2 or stream != out:  # the shortcut has to change shape as well
        total += _conv(stream, out, small, bias=False) + _norm(out)
    return total


def _conv(
    inputs: int, outputs: int, side: int, *, bias: bool, kernel: int = 1, groups: int = 1
) -> ClosedFormCost:
    """Returns the cost of a convolution with an output of height ``side``, or of a linear layer."""
    weights = inputs * outputs * kernel**2 // groups
    return ClosedFormCost(weights + (outputs if bias else 0), weights * side**2)


def _norm(width: int) -> ClosedFormCost:
    """Returns the cost of a norm: a scale and a shift per channel."""
    return ClosedFormCost(2 * width, 0)


def _strided(side: int, stride: int) -> int:
    """Returns the height after an odd kernel with "same" padding: an odd row starts a window."""
    return (side + stride - 1) // stride
