"""The region proposal network: anchors, proposals and their losses."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modernize.heads.boxes import (
    BACKGROUND,
    IGNORED,
    assign,
    box_coder,
    box_iou,
    choose,
    clip,
    suppress,
)
from modernize.heads.specs import RPNSpec

Sizes = Sequence[tuple[int, int]]


class RPN(nn.Module):
    """A 3x3 convolution and two 1x1 ones on each of five maps: a logit and a box per anchor.

    Args:
        spec: its numbers.
        width: channels of the maps.
        strides: pixels per position of each map.
    """

    def __init__(self, spec: RPNSpec, width: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.spec, self.strides = spec, tuple(strides)
        anchors = len(spec.anchor_ratios)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.logits = nn.Conv2d(width, anchors, 1)
        self.boxes = nn.Conv2d(width, 4 * anchors, 1)
        self.coder = box_coder((1.0, 1.0, 1.0, 1.0))
        for layer in (self.conv, self.logits, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # they have a bias

    def forward(
        self, maps: Sequence[Tensor], sizes: Sizes, truth: Sequence[Tensor] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Returns the proposals (n, 4) of each image, and in training the losses.

        Args:
            maps: of the FPN.
            sizes: (height, width) of each image without padding.
            truth: the true boxes of each image, in training.
        """
        logits, deltas = self.predict(maps)
        anchors = make_anchors(
            self.spec, self.strides, tuple((m.shape[2], m.shape[3]) for m in maps), maps[0].device
        )
        proposals = self.propose(logits, deltas, anchors, sizes)
        losses = {} if truth is None else self.losses(logits, deltas, anchors, sizes, truth)
        return proposals, losses

    def predict(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Returns per map the logits (N, anchors) and the encoded boxes (N, anchors, 4)."""
        logits, deltas = [], []
        for x in maps:
            x = F.relu(self.conv(x))
            logits.append(self.logits(x).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(self.boxes(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4).float())
        return logits, deltas

    @torch.no_grad()
    def propose(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sizes,
    ) -> list[Tensor]:
        """Returns the best boxes (n, 4) of each image, after suppression within each level."""
        spec, training = self.spec, self.training
        most = spec.before_nms if training else spec.test_before_nms
        count = spec.proposals if training else spec.test_proposals
        all_scores, all_boxes, all_levels = [], [], []
        for level, (logit, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
            best, index = logit.topk(min(most, logit.shape[1]))  # (N, k)
            delta = delta.gather(1, index[..., None].expand(-1, -1, 4))
            boxes = self.coder.decode_single(delta.flatten(0, 1), anchor[index].flatten(0, 1))
            all_boxes.append(boxes.view(*index.shape, 4))
            all_scores.append(best.sigmoid())
            all_levels.append(index.new_full(index.shape, level))
        scores, boxes = torch.cat(all_scores, 1), torch.cat(all_boxes, 1)
        levels = torch.cat(all_levels, 1)
        proposals = []
        for box, score, group, size in zip(boxes, scores, levels, sizes, strict=True):
            box = clip(box, size)
            proposals.append(box[suppress(box, score, group, spec.nms_iou, count, spec.min_side)])
        return proposals

    def losses(
        self,
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sizes,
        truth: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Returns ``loss_objectness`` and ``loss_rpn_box``: sums over the number of samples."""
        spec = self.spec
        every = torch.cat(list(anchors))
        logit, delta = torch.cat(list(logits), 1), torch.cat(list(deltas), 1)
        objectness, regression, samples = logit.sum() * 0, delta.sum() * 0, 0
        for image, (size, boxes) in enumerate(zip(sizes, truth, strict=True)):
            with torch.no_grad():
                found = self._assign(every, size, boxes)
                positive, negative = choose(found, spec.samples, spec.positive_fraction)
                wanted = self.coder.encode_single(boxes[found[positive]], every[positive])
            chosen = torch.cat([positive, negative])
            label = (found[chosen] != BACKGROUND).float()
            objectness = objectness + F.binary_cross_entropy_with_logits(
                logit[image, chosen], label, reduction="sum"
            )
            regression = regression + F.smooth_l1_loss(
                delta[image, positive], wanted, beta=spec.box_beta, reduction="sum"
            )
            samples += max(len(positive), 1) + max(len(negative), 1)
        return {"loss_objectness": objectness / samples, "loss_rpn_box": regression / samples}

    def _assign(self, anchors: Tensor, size: tuple[int, int], boxes: Tensor) -> Tensor:
        """Returns the true box of each anchor; those in the padding or too far out: ignored."""
        spec, border = self.spec, self.spec.allowed_border
        centre = (anchors[:, :2] + anchors[:, 2:]) / 2
        inside = (centre[:, 0] < size[1]) & (centre[:, 1] < size[0])
        if border is not None:
            inside &= (anchors[:, :2] >= -border).all(1)
            inside &= (anchors[:, 2] < size[1] + border) & (anchors[:, 3] < size[0] + border)
        found = torch.full_like(inside, IGNORED, dtype=torch.int64)
        iou = box_iou(boxes, anchors[inside])
        found[inside] = assign(iou, spec.positive_iou, spec.negative_iou, spec.best_iou)
        return found


@functools.lru_cache(maxsize=32)
def make_anchors(
    spec: RPNSpec,
    strides: tuple[int, ...],
    shapes: tuple[tuple[int, int], ...],
    device: torch.device,
) -> list[Tensor]:
    """Returns the anchors of each map, (height * width * ratios, 4), in the order of positions.

    They are centred on multiples of the stride. Torchvision also rounds them.

    Args:
        spec: of the RPN.
        strides: pixels per position of each map.
        shapes: (height, width) of each map.
        device: of the result.
    """
    anchors = []
    for stride, (height, width) in zip(strides, shapes, strict=True):
        ratios = torch.tensor(spec.anchor_ratios, device=device)
        high = ratios.sqrt() * spec.anchor_scale * stride
        wide = spec.anchor_scale * stride / ratios.sqrt()
        cell = torch.stack([-wide, -high, wide, high], 1) / 2  # (ratios, 4)
        if spec.round_anchors:
            cell = cell.round()
        y, x = (torch.arange(n, device=device) * float(stride) for n in (height, width))
        grid = torch.cartesian_prod(y, x).flip(1).repeat(1, 2)  # (positions, 4): x, y, x, y
        anchors.append((grid[:, None] + cell).reshape(-1, 4))
    return anchors
