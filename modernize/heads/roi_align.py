"""RoIAlign: torchvision's operator, with a faster gradient for small maps on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from modernize.libraries import library

_ops = library("torchvision.ops")

LARGEST = 64  # height of a map, in positions, up to which products of matrices are faster
CHUNK = 64  # boxes at a time, which bounds the memory


def roi_align(
    maps: Tensor, boxes: Tensor, size: int, scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Returns the maps (N, C, H, W) in boxes (n, 5), as (n, C, size, size).

    Args:
        maps: the maps.
        boxes: the index of the map, then x0, y0, x1, y1 in pixels.
        size: of the result, in bins.
        scale: positions per pixel.
        sampling_ratio: sampled points per side of a bin; 0: as many as positions.
        aligned: whether boxes are moved by half a position.
    """
    how = size, scale, sampling_ratio, aligned
    on_cpu = maps.device.type == "cpu" and maps.dtype is torch.float32
    pooled: Tensor
    if on_cpu and maps.requires_grad and max(maps.shape[2:]) <= LARGEST:
        align: Any = _RoIAlign.apply  # untyped
        pooled = align(maps, boxes, *how)
    else:
        pooled = _ops.roi_align(maps, boxes, *how)
    return pooled


class _RoIAlign(torch.autograd.Function):
    """The gradient as products of matrices.

    The weights of a bin are the product of weights of rows and of columns, because both bilinear
    interpolation and the mean over a grid of points are.
    """

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        boxes: Tensor,
        size: int,
        scale: float,
        sampling_ratio: int,
        aligned: bool,
    ) -> Tensor:
        ctx.save_for_backward(boxes)
        ctx.shape, ctx.how = maps.shape, (size, scale, sampling_ratio, aligned)
        pooled: Tensor = _ops.roi_align(maps, boxes, *ctx.how)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        (boxes,) = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        found = grad.new_zeros(images, height, channels * width)
        for image in range(images):
            of_image = torch.where(boxes[:, 0] == image)[0]
            for part in torch.split(of_image, CHUNK) if len(of_image) else ():
                columns = axis_weights(boxes[part][:, (1, 3)], width, *ctx.how)  # (n, size, W)
                rows = axis_weights(boxes[part][:, (2, 4)], height, *ctx.how)  # (n, size, H)
                bins = grad[part].permute(0, 2, 1, 3)  # (n, rows of bins, C, columns of bins)
                across = torch.matmul(bins.flatten(1, 2), columns)  # (n, size * C, W)
                across = across.view(-1, channels * width)  # (n * size, C * W)
                found[image].addmm_(rows.flatten(0, 1).T, across)
        found = found.view(images, height, channels, width).permute(0, 2, 1, 3)
        return found, None, None, None, None, None


def axis_weights(
    ends: Tensor, length: int, size: int, scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Returns the weights of the positions of an axis in each bin, (n, size, length).

    Args:
        ends: (n, 2), first and last pixel of each box.
        length: positions of the axis.
        size: number of bins.
        scale: positions per pixel.
        sampling_ratio: as of :func:`roi_align`.
        aligned: as of :func:`roi_align`.
    """
    ends = ends.nan_to_num(0.0)  # of a run that diverged; the gradients of its bins are NaN, too
    start, end = (ends * scale - (0.5 if aligned else 0.0)).unbind(1)
    extent = end - start if aligned else (end - start).clamp(min=1.0)
    bin_size = extent / size
    given = torch.full_like(start, sampling_ratio)
    count = given if sampling_ratio > 0 else bin_size.ceil()
    most = max(int(count.max()), 1)
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
