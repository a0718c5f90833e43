"""The feature pyramid network: five maps of one width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from modernize.libraries import library

_ops = library("torchvision.ops")


class FPN(nn.Module):
    """Four maps -> five maps (N, width, H, W): P2 to P6.

    Torchvision's, which has the paper's numbers: 1x1 and 3x3 convolutions with bias, no norms,
    nearest upsampling to the size of the larger map; P6 has every second position of P5. Initial
    weights are Xavier uniform.

    Args:
        widths: channels of the four maps.
        width: of the five.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        extra = library("torchvision.ops.feature_pyramid_network").LastLevelMaxPool()
        self.pyramid = _ops.FeaturePyramidNetwork(list(widths), width, extra)
        for layer in self.pyramid.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return list(self.pyramid({str(i): x for i, x in enumerate(maps)}).values())
