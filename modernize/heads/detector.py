"""Mask R-CNN and Cascade Mask R-CNN: the cascade is the same with three stages of heads.

A detector from top to bottom: backbone with output norms, FPN, RPN, and for each stage a box head
and a mask head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modernize.heads import masks
from modernize.heads.backbone import Backbone, stack
from modernize.heads.boxes import Sample, box_coder, clip, giou_loss, sample, suppress
from modernize.heads.fpn import FPN
from modernize.heads.roi import BoxHead, MaskHead, pool
from modernize.heads.rpn import RPN
from modernize.heads.specs import BoxLoss, DetectorSpec, StageSpec
from modernize.spec import NetSpec

Target = Mapping[str, Any]


class Detector(nn.Module):
    """Images -> losses in training mode, detections in evaluation mode.

    ``model(images, targets)`` takes a batch (N, 3, H, W) or N images (3, H, W) of different sizes,
    and for each image a target:

    - ``boxes``: float (n, 4), x0, y0, x1, y1 in pixels of the image; n may be 0;
    - ``labels``: int64 (n,), from 0;
    - ``masks``: uint8 or bool (n, H, W); may be padded, or not, as the image is;
    - ``size``: optional (height, width) of the image without padding.

    In training it returns the losses, already weighted; their sum is the loss. Of Mask R-CNN:
    ``loss_objectness``, ``loss_rpn_box``, ``loss_class``, ``loss_box``, ``loss_mask``; a cascade
    has the last three of each stage, ``loss_class_1`` to ``loss_mask_3``. Proposals are sampled by
    torch's global random numbers.

    In evaluation the targets may be left out; only ``size`` and ``original`` are used, the
    (height, width) of the result, by default that of the image. It returns a dict for each image:
    ``boxes`` (n, 4), ``scores`` (n,), ``labels`` (n,), best first, and ``masks``, Boolean
    (n, height, width).

    Args:
        spec: the network of the backbone.
        detector: the numbers of all other parts.

    Raises:
        UsageError: if the network does not have four stages.
    """

    def __init__(self, spec: NetSpec, detector: DetectorSpec) -> None:
        super().__init__()
        self.spec, self.detector = spec, detector
        self.backbone = Backbone(spec)
        self.fpn = FPN(self.backbone.widths, detector.width)
        self.strides = [*self.backbone.strides, 2 * self.backbone.strides[-1]]
        self.rpn = RPN(detector.rpn, detector.width, self.strides)
        sizes = detector.width, detector.num_classes
        stages = detector.roi.stages
        self.box_heads = nn.ModuleList(BoxHead(detector.roi, *sizes) for _ in stages)
        self.mask_heads = nn.ModuleList(MaskHead(detector.roi, *sizes) for _ in stages)

    def forward(
        self, images: Tensor | Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        given = targets or [{}] * len(images)
        sizes = [t.get("size", i.shape[-2:]) for t, i in zip(given, images, strict=True)]
        x = stack(images)
        if not self.training:
            found = self.detect(x, sizes)
            wanted = [t.get("original", size) for t, size in zip(given, sizes, strict=True)]
            return [self.finish(*each) for each in zip(found, sizes, wanted, strict=True)]
        if targets is None:
            raise ValueError("a detector in training mode needs targets")
        maps = self.fpn(self.backbone(x))
        proposals, losses = self.rpn(maps, sizes, [t["boxes"].float() for t in targets])
        return {**losses, **self.roi_losses(maps[:-1], proposals, sizes, targets)}

    def roi_losses(
        self,
        maps: Sequence[Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        """Returns the losses of all stages; each stage but the first takes the refined boxes.

        Args:
            maps: P2 to P5.
            proposals: (n, 4) of each image.
            sizes: (height, width) of each image.
            targets: the truth of each image.
        """
        roi, classes = self.detector.roi, self.detector.num_classes
        losses: dict[str, Tensor] = {}
        for number, stage in enumerate(roi.stages):
            samples = [
                sample(
                    boxes, target["boxes"].float(), stage.positive_iou, roi.best_matches,
                    roi.samples, roi.positive_fraction,
                )
                for boxes, target in zip(proposals, targets, strict=True)
            ]  # fmt: skip
            boxes = [s.boxes for s in samples]
            labels = [
                F.pad(t["labels"][s.truth], (0, len(s.boxes) - len(s.truth)), value=classes)
                for s, t in zip(samples, targets, strict=True)
            ]
            logits, deltas = self.box_heads[number](self._pool(maps, boxes, roi.size))
            losses_here = {
                "loss_class": F.cross_entropy(logits, torch.cat(labels)),
                "loss_box": self._box_loss(stage, samples, labels, deltas, targets),
                "loss_mask": self._mask_loss(number, maps, samples, targets),
            }
            suffix = f"_{number + 1}" if len(roi.stages) > 1 else ""
            losses |= {f"{name}{suffix}": stage.weight * x for name, x in losses_here.items()}
            if number + 1 < len(roi.stages):
                proposals = self._refine_samples(stage, samples, labels, logits, deltas, sizes)
        return losses

    def _pool(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], size: int) -> Tensor:
        return pool(self.detector.roi, maps, self.backbone.strides, boxes, size)

    def _box_loss(
        self,
        stage: StageSpec,
        samples: Sequence[Sample],
        labels: Sequence[Tensor],
        deltas: Tensor,
        targets: Sequence[Target],
    ) -> Tensor:
        """Returns the sum of the positive samples' losses, divided by the number of all samples."""
        roi = self.detector.roi
        label = torch.cat(list(labels))
        positive = torch.where(label < self.detector.num_classes)[0]
        boxes = torch.cat([s.boxes for s in samples])[positive]
        truth = torch.cat(
            [t["boxes"].float()[s.truth] for s, t in zip(samples, targets, strict=True)]
        )
        coder, delta = box_coder(stage.box_std), deltas[positive, label[positive]]
        if roi.box_loss is BoxLoss.GIOU:
            loss = giou_loss(coder.decode_single(delta, boxes), truth).sum()
        else:
            loss = F.l1_loss(delta, coder.encode_single(truth, boxes), reduction="sum")
        # The product connects every parameter to the loss, even without positive samples.
        return roi.box_weight * loss / len(label) + deltas.sum() * 0

    def _mask_loss(
        self,
        number: int,
        maps: Sequence[Tensor],
        samples: Sequence[Sample],
        targets: Sequence[Target],
    ) -> Tensor:
        """Returns the mean binary cross-entropy of the true classes' masks in positive samples."""
        roi = self.detector.roi
        boxes = [s.boxes[: len(s.truth)] for s in samples]
        label = torch.cat([t["labels"][s.truth] for s, t in zip(samples, targets, strict=True)])
        pooled = self._pool(maps, boxes, roi.mask_size)
        head: Any = self.mask_heads[number]
        logits = head.of_classes(pooled, label)
        if not len(logits):
            loss: Tensor = logits.sum() * 0
            return loss
        wanted = torch.cat(
            [
                masks.cut_out(t["masks"], s.truth, b, 2 * roi.mask_size, roi.mask_threshold)
                for s, t, b in zip(samples, targets, boxes, strict=True)
                if len(b)
            ]
        )
        return F.binary_cross_entropy_with_logits(logits, wanted)

    @torch.no_grad()
    def _refine_samples(
        self,
        stage: StageSpec,
        samples: Sequence[Sample],
        labels: Sequence[Tensor],
        logits: Tensor,
        deltas: Tensor,
        sizes: Sequence[tuple[int, int]],
    ) -> list[Tensor]:
        """Returns the refined boxes of each image, without its true boxes.

        A positive sample is refined with its true class, another with its best class of objects.
        """
        label = torch.cat(list(labels))
        label = torch.where(label < self.detector.num_classes, label, logits[:, :-1].argmax(1))
        refined = self._refine(stage, [s.boxes for s in samples], label, deltas, sizes)
        return [boxes[~s.added] for boxes, s in zip(refined, samples, strict=True)]

    def _refine(
        self,
        stage: StageSpec,
        boxes: Sequence[Tensor],
        label: Tensor,
        deltas: Tensor,
        sizes: Sequence[tuple[int, int]],
    ) -> list[Tensor]:
        """Returns the boxes of each image after the regression of a class, inside the image."""
        delta = deltas[torch.arange(len(label), device=label.device), label]
        refined = box_coder(stage.box_std).decode_single(delta, torch.cat(list(boxes)))
        parts = refined.split([len(box) for box in boxes])
        return [clip(box, size) for box, size in zip(parts, sizes, strict=True)]

    # -- evaluation ------------------------------------------------------------------------------

    @torch.no_grad()
    def detect(self, x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Returns the detections of each image in its own pixels, masks as probabilities in boxes.

        Logits are the mean of all stages, boxes those of the last one, and the probabilities of
        masks the mean of all stages.

        Args:
            x: images (N, 3, H, W).
            sizes: (height, width) of each without padding.

        Returns:
            ``boxes``, ``scores``, ``labels``, and ``probabilities`` (n, s, s).
        """
        roi = self.detector.roi
        maps = self.fpn(self.backbone(x))
        boxes, _ = self.rpn(maps, sizes)
        maps = maps[:-1]
        every = []
        for number, stage in enumerate(roi.stages):
            logits, deltas = self.box_heads[number](self._pool(maps, boxes, roi.size))
            every.append(logits)
            if number + 1 < len(roi.stages):
                boxes = self._refine(stage, boxes, logits[:, :-1].argmax(1), deltas, sizes)
        counts = [len(box) for box in boxes]
        scores = torch.stack(every).mean(0).softmax(1)[:, :-1]
        decoded = box_coder(roi.stages[-1].box_std).decode_single(
            deltas.flatten(1), torch.cat(list(boxes))
        )
        parts = decoded.unflatten(1, (-1, 4)).split(counts)
        found = [
            self._select(*each)
            for each in zip(parts, torch.split(scores, counts), sizes, strict=True)
        ]
        probabilities = self._mask_probabilities(maps, found)
        for each, part in zip(found, probabilities, strict=True):
            each["probabilities"] = part
        return found

    def _select(self, boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Returns the detections of an image; boxes (n, classes, 4), scores (n, classes)."""
        spec = self.detector
        index, label = torch.where(scores > spec.score)
        box, score = clip(boxes[index, label], size), scores[index, label]
        kept = suppress(box, score, label, spec.nms_iou, spec.detections, spec.min_side)
        return {"boxes": box[kept], "scores": score[kept], "labels": label[kept]}

    def _mask_probabilities(
        self, maps: Sequence[Tensor], found: Sequence[Mapping[str, Tensor]]
    ) -> Sequence[Tensor]:
        """Returns the probabilities of each detection's mask in its box, (n, s, s) per image."""
        boxes, label = [f["boxes"] for f in found], torch.cat([f["labels"] for f in found])
        pooled = self._pool(maps, boxes, self.detector.roi.mask_size)
        heads: Any = self.mask_heads
        stages = [head.of_classes(pooled, label).sigmoid() for head in heads]
        return torch.split(torch.stack(stages).mean(0), [len(box) for box in boxes])

    def finish(
        self, found: Mapping[str, Tensor], size: tuple[int, int], original: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Returns detections in pixels of the original image, with masks.

        Args:
            found: as of :meth:`detect`.
            size: (height, width) that its boxes are in.
            original: (height, width) of the result.
        """
        height, width = original[0] / size[0], original[1] / size[1]
        boxes = found["boxes"] * found["boxes"].new_tensor([width, height, width, height])
        pasted = masks.paste(
            found["probabilities"], boxes, original, self.detector.mask_probability
        )
        return {
            "boxes": boxes,
            "scores": found["scores"],
            "labels": found["labels"],
            "masks": pasted,
        }
