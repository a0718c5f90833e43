"""Boxes: encoding, assignment to true boxes, sampling, suppression.

Boxes are (..., 4): x0, y0, x1, y1 in pixels. The coder, the sampler and the operators are
torchvision's. Its ``Matcher`` is not used: it has no least IoU for the best match of a box, and
assigns the best match of one box to another that overlaps it more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from modernize.libraries import library

_ops = library("torchvision.ops")
_parts = library("torchvision.models.detection._utils")

box_iou: Callable[[Tensor, Tensor], Tensor] = _ops.box_iou
BACKGROUND, IGNORED = -1, -2


def box_coder(std: Sequence[float]) -> Any:
    """Returns torchvision's coder of differences of boxes, divided by ``std``.

    The logarithms of width and height are at most log(1000 / 16) when it decodes.
    """
    return _parts.BoxCoder(tuple(1 / value for value in std))


def assign(iou: Tensor, positive: float, negative: float, best: float | None = None) -> Tensor:
    """Returns the true box of each candidate: its index, ``BACKGROUND`` or ``IGNORED``.

    Args:
        iou: (true boxes, candidates).
        positive: a candidate with this IoU or more belongs to the true box with the highest.
        negative: a candidate whose IoUs are all below is background; between the two: ignored.
        best: the candidates with the highest IoU of each true box belong to it, if that is at
            least this; of several true boxes to the last. None: not used.

    Returns:
        (candidates,), int64.
    """
    if not iou.numel():
        return iou.new_full(iou.shape[1:], BACKGROUND, dtype=torch.int64)
    highest, nearest = iou.max(0)
    found = torch.full_like(nearest, IGNORED)
    found[highest < negative] = BACKGROUND
    found = torch.where(highest >= positive, nearest, found)
    if best is not None:
        of_each = iou.max(1, keepdim=True).values
        is_best = (iou == of_each) & (of_each >= best)  # (true boxes, candidates)
        rows = torch.arange(len(iou), device=iou.device)[:, None]
        last = torch.where(is_best, rows, -1).amax(0)
        found = torch.where(last >= 0, last, found)
    return found


@dataclasses.dataclass(frozen=True)
class Sample:
    """The candidates of one image in a loss: positive ones, then negative ones.

    Attributes:
        boxes: (n, 4).
        truth: (positive ones,), the index of the true box of each.
        added: (n,), whether it is a true box that was added to the candidates.
    """

    boxes: Tensor
    truth: Tensor
    added: Tensor


def choose(assigned: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Returns the indices of randomly chosen positive and negative candidates.

    Args:
        assigned: (candidates,), as :func:`assign` returns it.
        count: of all chosen ones, if there are enough.
        positive_fraction: the most positive ones, as a part of ``count``; negative ones fill up.
    """
    sampler = _parts.BalancedPositiveNegativeSampler(count, positive_fraction)
    positive, negative = sampler([assigned + 1])  # its labels: 0 is negative, -1 ignored
    return torch.where(positive[0])[0], torch.where(negative[0])[0]


def sample(
    candidates: Tensor,
    truth: Tensor,
    positive_iou: float,
    best_matches: bool,
    count: int,
    positive_fraction: float,
) -> Sample:
    """Returns a sample of an image's candidates and its true boxes.

    Args:
        candidates: (n, 4); true boxes are added to them.
        truth: (m, 4), the true boxes.
        positive_iou: as of :func:`assign`; all others are background.
        best_matches: whether the best matches of a true box are positive, too.
        count: of all chosen ones, as of :func:`choose`.
        positive_fraction: as of :func:`choose`.
    """
    best = positive_iou if best_matches else None
    assigned = assign(box_iou(truth, candidates), positive_iou, positive_iou, best)
    assigned = torch.cat([torch.arange(len(truth), device=assigned.device), assigned])
    candidates = torch.cat([truth, candidates])
    positive, negative = choose(assigned, count, positive_fraction)
    chosen = torch.cat([positive, negative])
    return Sample(candidates[chosen], assigned[positive], chosen < len(truth))


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns boxes (..., 4) inside an image of this (height, width)."""
    clipped: Tensor = _ops.clip_boxes_to_image(boxes, size)
    return clipped


def suppress(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou: float, count: int, min_side: float = 0.0
) -> Tensor:
    """Returns the indices of boxes that remain after non-maximum suppression, best first.

    Args:
        boxes: (n, 4).
        scores: (n,).
        groups: (n,); boxes of different groups do not suppress each other.
        iou: boxes that overlap a better one of their group by more are removed.
        count: the most that remain.
        min_side: smaller boxes are removed before.
    """
    kept = torch.arange(len(boxes), device=boxes.device)
    if min_side:
        kept = _ops.remove_small_boxes(boxes, min_side)
    if boxes.device.type == "cpu":  # the time is quadratic, so each group apart is faster
        parts = [kept[groups[kept] == group] for group in torch.unique(groups)]
        parts = [part[_ops.nms(boxes[part], scores[part], iou)] for part in parts]
        kept = torch.cat([kept[:0], *parts])
        kept = kept[scores[kept].argsort(descending=True, stable=True)]
    else:
        kept = kept[_ops.batched_nms(boxes[kept], scores[kept], groups[kept], iou)]
    return kept[:count]


def with_images(boxes: Sequence[Tensor]) -> Tensor:
    """Returns the boxes of all images as (n, 5): the index of the image before each box."""
    numbers = [box.new_full((len(box), 1), index) for index, box in enumerate(boxes)]
    return torch.cat([torch.cat(numbers), torch.cat(list(boxes))], 1)


def giou_loss(boxes: Tensor, truth: Tensor) -> Tensor:
    """Returns 1 - generalised IoU of pairs of boxes, (n,)."""
    loss: Tensor = _ops.generalized_box_iou_loss(boxes, truth, eps=1e-6)
    return loss
