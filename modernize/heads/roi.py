"""The heads on regions of interest: classes and boxes, and masks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
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
    level = torch.log2(side / spec.finest + 1e-6).floor().clamp(0, len(maps) - 1)
    places = [torch.where(level == index)[0] for index in range(len(maps))]
    used = [index for index, here in enumerate(places) if len(here)] or [0]
    how = spec.sampling_ratio, spec.aligned
    parts = [roi_align(maps[i].float(), rois[places[i]], size, 1 / strides[i], *how) for i in used]
    if len(parts) == 1:
        return parts[0]
    order = torch.cat([places[index] for index in used]).argsort()
    return torch.cat(parts).index_select(0, order)
