"""RoIAlign on several maps: torchvision's operator, with a faster gradient on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from modernize.libraries import library

_ops = library("torchvision.ops")

LARGEST = 64  # height of a map, in positions, up to which products of matrices are faster
CHUNK = 64  # boxes at a time, which bounds the memory


def roi_align(
    maps: Sequence[Tensor],
    boxes: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    size: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Returns the part of a map in each box, (n, C, size, size), in float32.

    Args:
        maps: (N, C, H, W) each.
        boxes: (n, 5), the number of the image, then x0, y0, x1, y1 in pixels.
        levels: (n,), the map of each box.
        scales: positions per pixel of each map.
        size: of the result, in bins.
        sampling_ratio: sampled points per side of a bin; 0: as many as positions.
        aligned: whether boxes are moved by half a position.
    """
    align: Any = _RoIAlign.apply  # untyped
    how = size, sampling_ratio, aligned
    pooled: Tensor = align(boxes, levels, scales, how, *(x.float() for x in maps))
    return pooled


class _RoIAlign(torch.autograd.Function):
    """One function for all maps; its gradient for small maps on a CPU is two products of matrices.

    The weights of a bin are the product of weights of rows and of columns, because both bilinear
    interpolation and the mean over a grid of points are.
    """

    @staticmethod
    def forward(
        ctx: Any,
        boxes: Tensor,
        levels: Tensor,
        scales: Sequence[float],
        how: tuple[int, int, bool],
        *maps: Tensor,
    ) -> Tensor:
        size, channels = how[0], maps[0].shape[1]
        pooled = maps[0].new_empty(len(boxes), channels, size, size)
        ctx.how, ctx.levels = how, []
        for number, (x, scale) in enumerate(zip(maps, scales, strict=True)):
            here = torch.where(levels == number)[0]
            rois = boxes[here]
            ctx.levels.append((x.shape, scale, here, rois))
            pooled.index_copy_(0, here, _ops.roi_align(x, rois, size, scale, *how[1:]))
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        found: list[Tensor] = []
        for shape, scale, here, rois in ctx.levels:
            images, channels, height, width = shape
            if grad.device.type != "cpu" or max(height, width) > LARGEST:
                size, *rest = ctx.how
                backward = torch.ops.torchvision._roi_align_backward
                found.append(backward(grad[here], rois, scale, size, size, *shape, *rest))
                continue
            rows = axis_weights(rois[:, (2, 4)], height, scale, *ctx.how)  # (n, size, H)
            columns = axis_weights(rois[:, (1, 3)], width, scale, *ctx.how)  # (n, size, W)
            lines = grad.new_zeros(images, height, channels * width)
            for image in range(images):
                for part in torch.split(torch.where(rois[:, 0] == image)[0], CHUNK):
                    bins = grad[here[part]].transpose(1, 2)  # (n, rows of bins, C, columns of bins)
                    across = bins.flatten(1, 2) @ columns[part]  # (n, size * C, W)
                    across = across.view(-1, channels * width)  # (n * size, C * W)
                    lines[image].addmm_(rows[part].flatten(0, 1).mT, across)
            found.append(lines.view(images, height, channels, width).transpose(1, 2))
        return None, None, None, None, *found


def axis_weights(
    ends: Tensor, length: int, scale: float, size: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Returns the weights of the positions of an axis in each bin, (n, size, length).

    Args:
        ends: (n, 2), first and last pixel of each box.
        length: positions of the axis.
        scale: positions per pixel.
        size: number of bins.
        sampling_ratio: as of :func:`roi_align`.
        aligned: as of :func:`roi_align`.
    """
    ends = ends.nan_to_num(0.0)  # of a run that diverged; the gradients of its bins are NaN, too
    start, end = (ends * scale - (0.5 if aligned else 0.0)).unbind(1)
    extent = end - start if aligned else (end - start).clamp(min=1.0)
    bin_size = extent / size
    given = torch.full_like(start, sampling_ratio)
    count = given if sampling_ratio > 0 else bin_size.ceil()
    most = max(int(count.max()), 1) if len(count) else 1
    point = torch.arange(most, dtype=ends.dtype)
    # The points of each bin, (n, size, most); those beyond a box's count have no weight.
    place = (point + 0.5) / count.clamp(min=1)[:, None]
    at = (
        start[:, None, None]
        + (torch.arange(size, dtype=ends.dtype)[:, None] + place[:, None]) * bin_size[:, None, None]
    )
    used = (at >= -1) & (at <= length) & (point < count[:, None])[:, None]
    at = at.clamp(0, length - 1)
    low = at.floor()
    high = (low + 1).clamp(max=length - 1)
    share = used / count.clamp(min=1)[:, None, None]
    weights = ends.new_zeros(len(ends), size, length)
    weights.scatter_add_(2, low.long(), share * (1 - (at - low)))
    return weights.scatter_add_(2, high.long(), share * (at - low))
