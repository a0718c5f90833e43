"""Tests of a segmenter at the size of the original image: whole, sliding, and at several scales.

``predict`` takes images (B, 3, h, w) and returns logits (B, C, h', w'), which are resized to
(h, w) if they are smaller. Images are normalised; all of a batch have the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ablations.data.dense.transforms import Size

Predict: TypeAlias = Callable[[Tensor], Tensor]
RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Returns maps (B, C, H, W), resized bilinearly."""
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)


def whole(predict: Predict, images: Tensor, size: Size | None = None) -> Tensor:
    """Returns logits (B, C, H, W) of whole images.

    Args:
        predict: the segmenter.
        images: (B, 3, H, W).
        size: that they are resized to before; None: not at all.
    """
    height, width = images.shape[-2:]
    if size is not None:
        images = resize(images, *size.of(height, width))
    return resize(predict(images), height, width)


def slide(
    predict: Predict, images: Tensor, crop: int, stride: int, size: Size | None = None
) -> Tensor:
    """Returns logits (B, C, H, W), averaged where crops overlap: the single-scale test.

    Args:
        predict: the segmenter, called with one crop of each image.
        images: (B, 3, H, W).
        crop: height and width of a crop in pixels.
        stride: pixels from one crop to the next; the last ones end at the border.
        size: that images are resized to before; None: not at all.
    """

    def predict_crops(x: Tensor) -> Tensor:
        total, count = torch.zeros((), device=x.device), torch.zeros_like(x[:1, :1])
        for top in _starts(x.shape[2], crop, stride):
            for left in _starts(x.shape[3], crop, stride):
                rows, columns = slice(top, top + crop), slice(left, left + crop)
                part = x[:, :, rows, columns]
                logits = resize(predict(part), part.shape[2], part.shape[3])
                if total.ndim == 0:
                    total = logits.new_zeros((*logits.shape[:2], *x.shape[2:]))
                total[:, :, rows, columns] += logits
                count[:, :, rows, columns] += 1
        return total / count

    return whole(predict_crops, images, size)


def multi_scale(
    predict: Predict,
    images: Tensor,
    size: Size,
    ratios: Sequence[float] = RATIOS,
    *,
    flip: bool = True,
) -> Tensor:
    """Returns probabilities (B, C, H, W), averaged over sizes and flips of whole images.

    Args:
        predict: the segmenter.
        images: (B, 3, H, W).
        size: that images are resized to, times each ratio.
        ratios: of the sizes.
        flip: whether each size is also predicted from mirrored images.
    """
    total = torch.zeros((), device=images.device)
    for ratio in ratios:
        longer = None if size.longer is None else max(1, int(size.longer * ratio))
        scaled = Size(max(1, int(size.shorter * ratio)), longer)
        for mirrored in (False, True)[: 1 + flip]:
            given = images.flip(3) if mirrored else images
            found = whole(predict, given, scaled).softmax(1)
            total = total + (found.flip(3) if mirrored else found)
    return total / (len(ratios) * (1 + flip))


def _starts(length: int, crop: int, stride: int) -> list[int]:
    """Returns where crops begin along a side."""
    last = max(length - crop, 0)
    return [min(stride * i, last) for i in range(-(-last // stride) + 1)]
