"""Torchvision's Mask R-CNN, called as ours is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modernize.libraries import library

SURE = 5.0  # logit: more likely than all other classes of a fresh head together


class TorchvisionDetector(nn.Module):
    """``maskrcnn_resnet50_fpn`` with random weights, all of which are trained.

    Images keep their size and are not normalised. Every box is an object of the first class, so
    that all masks are predicted, as in the benchmark of our detectors.

    Args:
        classes: of objects.
        size: (width, height) of the images in pixels.
    """

    def __init__(self, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.detector = library("torchvision.models.detection").maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=classes + 1, min_size=min(size),
            max_size=max(size), image_mean=[0.0] * 3, image_std=[1.0] * 3,
        )  # fmt: skip
        with torch.no_grad():
            self.detector.roi_heads.box_predictor.cls_score.bias[1] = SURE

    def forward(self, images: Tensor, targets: Sequence[Mapping[str, Any]] = ()) -> Any:
        """Returns losses in training mode, detections in evaluation mode."""
        given = [
            {"boxes": t["boxes"], "labels": t["labels"] + 1, "masks": t["masks"]} for t in targets
        ]
        return self.detector([*images], given if self.training else None)
