"""The heads on regions of interest: classes and boxes, and masks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modernize.heads.backbone import initialise_convs
from modernize.heads.boxes import with_images
from modernize.heads.roi_align import roi_align
from modernize.heads.specs import RoISpec


class BoxHead(nn.Module):
    """Pooled maps (n, width, size, size) -> logits (n, classes + 1) and deltas (n, classes, 4).

    The last logit is the background's.

    Args:
        spec: its numbers.
        width: channels of the maps.
        classes: of objects.
    """

    def __init__(self, spec: RoISpec, width: int, classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential()
        for _ in range(spec.convs):
            self.convs.append(conv_norm_act(width, spec.conv_width, 3))
            width = spec.conv_width
        initialise_convs(self.convs)
        features = width * spec.size**2
        self.linears = nn.Sequential()
        for _ in range(spec.linears):
            linear = nn.Linear(features, spec.width)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            self.linears.extend([linear, nn.ReLU(inplace=True)])
            features = spec.width
        self.logits = nn.Linear(features, classes + 1)
        self.boxes = nn.Linear(features, 4 * classes)
        for layer, std in ((self.logits, 0.01), (self.boxes, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.linears(self.convs(x).flatten(1))
        return self.logits(x).float(), self.boxes(x).float().unflatten(1, (-1, 4))


class MaskHead(nn.Sequential):
    """Pooled maps (n, width, size, size) -> logits of masks (n, classes, 2 size, 2 size).

    Args:
        spec: its numbers.
        width: channels of the maps.
        classes: of objects.
    """

    def __init__(self, spec: RoISpec, width: int, classes: int) -> None:
        super().__init__()
        for _ in range(spec.mask_convs):
            self.append(nn.Conv2d(width, spec.mask_width, 3, padding=1))
            self.append(nn.ReLU(inplace=True))
            width = spec.mask_width
        self.append(nn.ConvTranspose2d(width, spec.mask_width, 2, stride=2))
        self.append(nn.ReLU(inplace=True))
        self.append(nn.Conv2d(spec.mask_width, classes, 1))
        initialise_convs(self)

    def of_classes(self, x: Tensor, labels: Tensor) -> Tensor:
        """Returns the logits of one mask of each box, (n, 2 size, 2 size), in float32.

        The transposed convolution is a product of matrices, because its kernels do not overlap.

        Args:
            x: the pooled maps.
            labels: (n,), the class of each box.
        """
        parts: Any = tuple(self)  # a convolution has a bias here
        *convs, double, act, logits = parts
        for layer in convs:
            x = layer(x)
        count, width, size, _ = x.shape
        weight = double.weight.permute(2, 3, 1, 0).reshape(-1, width)  # (4 out, width)
        rows = x.permute(0, 2, 3, 1).reshape(-1, width)
        x = act(F.linear(rows, weight, double.bias.repeat(4)))
        x = x.view(count, 4 * size**2, len(double.bias))
        x = torch.matmul(x, logits.weight[labels].flatten(2)) + logits.bias[labels, None, None]
        x = x.view(count, size, size, 2, 2).transpose(2, 3)
        return x.reshape(count, 2 * size, 2 * size).float()


def conv_norm_act(width: int, out: int, kernel: int) -> nn.Sequential:
    """Returns a convolution without bias, BatchNorm and ReLU, at the resolution of the input.

    The authors' BatchNorms are synchronised among processes; these are not.
    """
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(width, out, kernel, padding=kernel // 2, bias=False),
            norm=nn.BatchNorm2d(out),
            act=nn.ReLU(inplace=True),
        )
    )


def pool(
    spec: RoISpec,
    maps: Sequence[Tensor],
    strides: Sequence[int],
    boxes: Sequence[Tensor],
    size: int,
) -> Tensor:
    """Returns the pooled maps of all boxes, (n, channels, size, size), in float32.

    Each box is pooled from one map: from the second if its side, the square root of its area, is
    ``finest`` to twice that, and one higher for every doubling.

    Args:
        spec: the numbers.
        maps: P2 to P5.
        strides: pixels per position of each map.
        boxes: (n, 4) of each image.
        size: of a pooled map.
    """
    rois = with_images(boxes)
    side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).clamp(min=0).sqrt()
    level = torch.log2(side / spec.finest + 1e-6).floor().nan_to_num().clamp(0, len(maps) - 1)
    scales = [1 / stride for stride in strides]
    return roi_align(maps, rois, level, scales, size, spec.sampling_ratio, spec.aligned)
