"""UperNet: a pyramid of pooled maps, top-down sums, and a classifier of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modernize.heads.backbone import Backbone, initialise_convs
from modernize.heads.roi import conv_norm_act
from modernize.heads.specs import SegmenterSpec
from modernize.spec import NetSpec


class Segmenter(nn.Module):
    """Images (N, 3, H, W) -> losses in training mode, logits in evaluation mode.

    ``model(images, labels)``, with labels int64 (N, H, W), returns in training ``loss`` and, if
    there is an auxiliary head, ``loss_aux``, already weighted; their sum is the loss.
    ``model(images)`` returns in evaluation the logits (N, classes, H, W).

    In training a batch needs two images or more: the BatchNorm of the 1 x 1 pool sees one number
    of each image per channel.

    Args:
        spec: the network of the backbone.
        segmenter: the numbers of the heads.

    Raises:
        UsageError: if the network does not have four stages.
    """

    def __init__(self, spec: NetSpec, segmenter: SegmenterSpec) -> None:
        super().__init__()
        self.spec, self.segmenter = spec, segmenter
        self.backbone = Backbone(spec)
        self.head = UperNetHead(segmenter, self.backbone.widths)
        width = self.backbone.widths[segmenter.auxiliary_stage]
        self.auxiliary = None
        if segmenter.auxiliary_weight:
            self.auxiliary = nn.Sequential(
                conv_norm_act(width, segmenter.auxiliary_width, 3),
                Classifier(segmenter.auxiliary_width, segmenter),
            )
        initialise_convs(self.head)
        if self.auxiliary is not None:
            initialise_convs(self.auxiliary)
        for module in self.modules():
            if isinstance(module, Classifier):
                nn.init.normal_(module.logits.weight, std=0.01)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        maps = self.backbone(images)
        logits = self.head(maps)
        if not self.training:
            return resize(logits, images.shape[-2:])
        if labels is None:
            raise ValueError("a segmenter in training mode needs labels")
        losses = {"loss": self.loss(logits, labels)}
        if self.auxiliary is not None:
            loss = self.loss(self.auxiliary(maps[self.segmenter.auxiliary_stage]), labels)
            losses["loss_aux"] = self.segmenter.auxiliary_weight * loss
        return losses

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean cross-entropy of all pixels; ignored ones count as 0.

        Args:
            logits: (N, classes, h, w).
            labels: int64 (N, H, W).
        """
        spec = self.segmenter
        total = F.cross_entropy(
            resize(logits, labels.shape[-2:]).float(),
            labels,
            ignore_index=spec.ignored,
            reduction="sum",
        )
        count = labels.numel() if spec.mean_over_all else int((labels != spec.ignored).sum())
        return total / max(count, 1)


class Classifier(nn.Module):
    """Dropout of whole channels and a 1x1 convolution, (N, width, h, w) -> (N, classes, h, w)."""

    def __init__(self, width: int, spec: SegmenterSpec) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(spec.dropout)
        self.logits = nn.Conv2d(width, spec.num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.dropout(x))
        return logits


class UperNetHead(nn.Module):
    """Four maps -> logits (N, classes, h, w) at the resolution of the first.

    Every convolution is followed by BatchNorm and ReLU, except for the classifier.

    Args:
        spec: its numbers.
        widths: channels of the four maps.
    """

    def __init__(self, spec: SegmenterSpec, widths: Sequence[int]) -> None:
        super().__init__()
        *lower, last = widths
        width = spec.width
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), conv_norm_act(last, width, 1))
            for size in spec.pools
        )
        self.bottleneck = conv_norm_act(last + len(spec.pools) * width, width, 3)
        self.laterals = nn.ModuleList(conv_norm_act(size, width, 1) for size in lower)
        self.outputs = nn.ModuleList(conv_norm_act(width, width, 3) for _ in lower)
        self.fusion = conv_norm_act(len(widths) * width, width, 3)
        self.classifier = Classifier(width, spec)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        *lower, last = maps
        pooled = [resize(pool(last), last.shape[-2:]) for pool in self.pools]
        sums = [self.bottleneck(torch.cat([last, *pooled], 1))]
        for x, lateral in zip(reversed(lower), reversed(self.laterals), strict=True):
            sums.insert(0, lateral(x) + resize(sums[0], x.shape[-2:]))
        outputs = [conv(x) for conv, x in zip(self.outputs, sums[:-1], strict=True)]
        size = outputs[0].shape[-2:]
        fused = self.fusion(torch.cat([resize(x, size) for x in (*outputs, sums[-1])], 1))
        logits: Tensor = self.classifier(fused)
        return logits


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Returns maps (N, C, h, w) at another (height, width), bilinear, corners not aligned."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
