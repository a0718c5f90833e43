"""Parameters and MACs of detectors and segmenters in closed form, without torch.

For one image, without suppression, pooling of boxes, assignment and losses. Of a detector: the
backbone, the FPN, the RPN on five maps, every box head on 1000 boxes, and every mask head on 100.
Of a segmenter: the backbone and UperNet; its auxiliary head has parameters but is not run.

``macs`` are the MACs of convolutions and linear layers, as everywhere in this project. The papers'
figures come from mmcv's counter, which also counts some other layers; ``mmcv`` has its rules:

* convolutions with a bias: one more for each number of the output (linear layers: none)
* ReLU: one for each number; inside the RPN none, because it is a function there
* BatchNorm and torch's LayerNorm: two for each number; ConvNeXt's LayerNorm class and the
  synchronised BatchNorms of heads: none
* max pooling and average pooling: one for each number of the input
* GELU, Layer Scale, interpolation, and the products of matrices in attention: none

A 1x1 convolution with a bias in a block is a linear layer in the authors' code, and counts as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from modernize.closed_form import Placed, layer_cost, place
from modernize.diagram import Architecture, Kind, architecture
from modernize.heads.specs import DetectorSpec, SegmenterSpec, check_stages
from modernize.spec import NetSpec, Norm

BOXES, MASKS = 1000, 100
"""Boxes of an image that each box head and each mask head are counted for."""

Size = tuple[int, int]  # (height, width)


@dataclasses.dataclass(frozen=True, slots=True)
class DenseCost:
    """The cost of one image; the module's docstring states the convention.

    Attributes:
        params: learned numbers.
        macs: MACs of convolutions and linear layers.
        other: the operations that mmcv's counter adds.
        head_norms: the operations that it adds if the BatchNorms of heads are not synchronised.
        attention: MACs of attention's two products of matrices.
    """

    params: int = 0
    macs: int = 0
    other: int = 0
    head_norms: int = 0
    attention: int = 0

    def __add__(self, more: object) -> DenseCost:
        """Returns the cost of both parts together."""
        if not isinstance(more, DenseCost):
            return NotImplemented
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(more), strict=True)
        return DenseCost(*(a + b for a, b in pairs))

    @property
    def mmcv(self) -> int:
        """The count of mmcv's counter."""
        return self.macs + self.other


@dataclasses.dataclass(frozen=True)
class Maps:
    """The four maps of a backbone, and its cost with output norms.

    Attributes:
        widths, sizes: channels and (height, width) of each.
        cost: of one image.
    """

    widths: Sequence[int]
    sizes: Sequence[Size]
    cost: DenseCost


def head_cost(maps: Maps, spec: DetectorSpec | SegmenterSpec) -> DenseCost:
    """Returns the cost of a detector or a segmenter on a backbone's maps."""
    if isinstance(spec, DetectorSpec):
        return detector_cost(maps, spec)
    return segmenter_cost(maps, spec)


def detector_cost(maps: Maps, spec: DetectorSpec) -> DenseCost:
    """Returns the cost of a detector on a backbone's maps."""
    total = maps.cost
    for width, size in zip(maps.widths, maps.sizes, strict=True):
        total += conv(width, spec.width, 1, size) + conv(spec.width, spec.width, 3, size)
    height, width = maps.sizes[-1]
    sizes = [*maps.sizes, ((height + 1) // 2, (width + 1) // 2)]
    anchors = len(spec.rpn.anchor_ratios)
    rpn = [
        conv(spec.width, spec.width, 3, size)
        + conv(spec.width, anchors, 1, size)
        + conv(spec.width, 4 * anchors, 1, size)
        for size in sizes
    ]
    total += _shared(rpn)
    for _ in spec.roi.stages:
        total += _box_head(spec) + _mask_head(spec)
    return total


def segmenter_cost(maps: Maps, spec: SegmenterSpec) -> DenseCost:
    """Returns the cost of a segmenter on a backbone's maps."""
    total = maps.cost
    *lower, last = maps.widths
    width, first, small = spec.width, maps.sizes[0], maps.sizes[-1]
    for side in spec.pools:
        pooling = DenseCost(other=last * small[0] * small[1])
        total += pooling + conv_norm_act(last, width, 1, (side, side))
    total += conv_norm_act(last + len(spec.pools) * width, width, 3, small)
    for channels, size in zip(lower, maps.sizes, strict=False):
        total += conv_norm_act(channels, width, 1, size) + conv_norm_act(width, width, 3, size)
    total += conv_norm_act(len(maps.widths) * width, width, 3, first)
    total += conv(width, spec.num_classes, 1, first)
    if spec.auxiliary_weight:
        inside = spec.auxiliary_width
        auxiliary = conv_norm_act(maps.widths[spec.auxiliary_stage], inside, 3, first)
        auxiliary += conv(inside, spec.num_classes, 1, first)
        total += DenseCost(params=auxiliary.params)
    return total


def backbone(spec: NetSpec, size: Size) -> Maps:
    """Returns the maps and the cost of a network of ours, with output norms if it has LayerNorm.

    Those of a network with custom layers are counted on the built one.

    Args:
        spec: the network.
        size: (height, width) of the image in pixels.

    Raises:
        UsageError: for a network without four stages.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    if spec.custom_layers:
        from modernize.heads.counted import counted_backbone

        return counted_backbone(spec.without_training(), size)
    check_stages(spec)
    maps = architecture_maps(architecture(spec), size)
    norms = 0 if spec.norm is Norm.BATCH else 2 * sum(spec.stream_widths)
    return dataclasses.replace(maps, cost=maps.cost + DenseCost(params=norms))


def architecture_maps(network: Architecture, size: Size) -> Maps:
    """Returns the maps and the cost of a network, without its head and without output norms.

    Args:
        network: its layers.
        size: (height, width) of the image in pixels.
    """
    body = dataclasses.replace(network, head=())
    cost = sum((_placed(at) for at in place(body, size)), DenseCost())
    sides = zip(network.sides(size[0])[1:], network.sides(size[1])[1:], strict=True)
    return Maps([stage.first.out_width for stage in network.stages], list(sides), cost)


def _placed(at: Placed) -> DenseCost:
    layer, counted = at.layer, layer_cost(at)
    numbers = layer.out_width * at.out[0] * at.out[1]
    other = 0
    if layer.kind is Kind.CONV:
        other = numbers if layer.bias and layer.kernel > 1 else 0
    elif layer.kind is Kind.MAX_POOL:
        other = layer.in_width * at.size[0] * at.size[1]
    elif layer.type == "BatchNorm":
        other = 2 * numbers
    elif layer.type == "ReLU":
        other = numbers
    return DenseCost(counted.params, counted.flops, at.times * other)


# -- layers of heads ------------------------------------------------------------------------------


def conv(
    width: int, out: int, kernel: int, size: Size, *, times: int = 1, bias: bool = True
) -> DenseCost:
    """Returns the cost of a convolution with an output of this size, run ``times`` times."""
    weights, positions = width * out * kernel**2, times * size[0] * size[1]
    return DenseCost(weights + bias * out, weights * positions, bias * out * positions)


def linear(width: int, out: int, rows: int, *, bias: bool = True) -> DenseCost:
    """Returns the cost of a linear layer on this number of rows."""
    return DenseCost(width * out + bias * out, width * out * rows)


def conv_norm_act(width: int, out: int, kernel: int, size: Size, *, times: int = 1) -> DenseCost:
    """Returns the cost of a convolution without bias, a head's BatchNorm and ReLU."""
    numbers = times * out * size[0] * size[1]
    norm_act = DenseCost(params=2 * out, other=numbers, head_norms=2 * numbers)
    return conv(width, out, kernel, size, times=times, bias=False) + norm_act


def _shared(parts: Sequence[DenseCost]) -> DenseCost:
    """Returns the cost of the same layers on several maps: the parameters of one."""
    total = sum(parts, DenseCost())
    return dataclasses.replace(total, params=parts[0].params)


def _box_head(spec: DetectorSpec) -> DenseCost:
    roi, width, total = spec.roi, spec.width, DenseCost()
    for _ in range(roi.convs):
        total += conv_norm_act(width, roi.conv_width, 3, (roi.size, roi.size), times=BOXES)
        width = roi.conv_width
    features = width * roi.size**2
    for _ in range(roi.linears):
        total += linear(features, roi.width, BOXES) + DenseCost(other=BOXES * roi.width)
        features = roi.width
    classes = spec.num_classes
    return total + linear(features, classes + 1, BOXES) + linear(features, 4 * classes, BOXES)


def _mask_head(spec: DetectorSpec) -> DenseCost:
    roi, width, side, total = spec.roi, spec.width, spec.roi.mask_size, DenseCost()
    for _ in range(roi.mask_convs):
        total += conv(width, roi.mask_width, 3, (side, side), times=MASKS)
        total += DenseCost(other=MASKS * roi.mask_width * side**2)  # ReLU
        width = roi.mask_width
    twice, out = (2 * side, 2 * side), roi.mask_width
    weights, numbers = 4 * width * out, MASKS * out * 4 * side**2
    # A transposed convolution uses its weights once at each position of the input; then ReLU.
    total += DenseCost(weights + out, weights * MASKS * side**2, numbers + numbers)
    return total + conv(out, spec.num_classes, 1, twice, times=MASKS)
