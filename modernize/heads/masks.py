"""Masks of boxes: cut out of true masks, and pasted into an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modernize.libraries import library

_ops = library("torchvision.ops")


def cut_out(masks: Tensor, truth: Tensor, boxes: Tensor, size: int, threshold: float) -> Tensor:
    """Returns the part of a true mask in each box, (n, size, size) in float32.

    Args:
        masks: (m, H, W), 0 or 1.
        truth: (n,), the mask of each box.
        boxes: (n, 4).
        size: of the result, in positions.
        threshold: a position is 1 if at least this share of it is in the mask, and otherwise 0; 0:
            the share itself, from boxes that are not moved by half a position, as in torchvision.
    """
    rois = torch.cat([truth[:, None].to(boxes), boxes], 1)
    share: Tensor = _ops.roi_align(
        masks[:, None].to(boxes), rois, size, 1.0, 0, aligned=threshold > 0
    )[:, 0]
    return (share >= threshold).to(share) if threshold else share


def paste(probabilities: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Returns the masks of an image, Boolean (n, H, W), bilinear between positions.

    Args:
        probabilities: (n, s, s), each of a box.
        boxes: (n, 4), in the image's pixels.
        size: its (height, width).
        threshold: a pixel is in the mask from this probability at its centre on.
    """
    height, width = size
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    low = boxes[:, :2].floor().long().tolist()
    high = boxes[:, 2:].ceil().long().tolist()
    for index, ((x0, y0), (x1, y1)) in enumerate(zip(low, high, strict=True)):
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        left, top, right, bottom = boxes[index].unbind()
        if x0 >= x1 or y0 >= y1:
            continue
        # Positions of grid_sample are from -1 to 1, the edges of the map.
        x = (torch.arange(x0, x1, device=boxes.device) + 0.5 - left) / (right - left) * 2 - 1
        y = (torch.arange(y0, y1, device=boxes.device) + 0.5 - top) / (bottom - top) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]  # (1, h, w, 2)
        values = F.grid_sample(probabilities[index, None, None], grid, align_corners=False)
        masks[index, y0:y1, x0:x1] = values[0, 0] >= threshold
    return masks
