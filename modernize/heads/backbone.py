"""The stem and the four stages of a network, with output norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modernize.heads.specs import check_stages
from modernize.network import Network, norm
from modernize.spec import NetSpec, Norm

if TYPE_CHECKING:
    from modernize.weights import Weights

DIVISOR = 32
"""Images of different sizes are padded to a multiple of this, in pixels."""


class Backbone(nn.Module):
    """Images (N, in_channels, H, W) -> four maps (N, width, H / stride, W / stride).

    A network with LayerNorm gets one more of them on each map, as the authors' backbones have; a
    network with BatchNorm does not, like mmdetection's ResNet. There is no final norm and no head.

    Args:
        spec: the network; its classes do not matter.

    Attributes:
        widths, strides: channels and pixels per position of each map.

    Raises:
        UsageError: if the network does not have four stages.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        check_stages(spec)
        network = Network(spec.replace(num_classes=0))
        self.widths, self.strides = network.feature_widths, network.feature_strides
        self.stem, self.stages = network.stem, network.stages
        self.norms = nn.ModuleList(
            nn.Identity() if spec.norm is Norm.BATCH else norm(spec, width) for width in self.widths
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage, output in zip(self.stages, self.norms, strict=True):
            x = stage(x)
            maps.append(output(x))
        return maps

    def load(self, weights: Weights) -> list[str]:
        """Replaces the weights of stem and stages by those of a classifier.

        Args:
            weights: as ``modernize.weights.read_start`` returns them for this network.

        Returns:
            The names of the classifier's tensors that are not used: its final norm and its head.
            The output norms are not in any classifier and stay 1 and 0.
        """
        own = {name for name in self.state_dict() if not name.startswith("norms.")}
        missing = self.load_state_dict(
            {name: tensor for name, tensor in weights.tensors.items() if name in own}, strict=False
        ).missing_keys
        if lost := [name for name in missing if name in own]:
            raise ValueError(f"weights of the backbone are missing: {', '.join(lost)}")
        return [name for name in weights.tensors if name not in own]


def stack(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Returns images as one batch, padded with zeros on the right and at the bottom.

    Args:
        images: (N, C, H, W), which is returned as it is, or N images (C, H, W) of any sizes.
    """
    if isinstance(images, Tensor):
        return images
    height, width = (
        -(-max(image.shape[side] for image in images) // DIVISOR) * DIVISOR for side in (1, 2)
    )
    padded = [F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in images]
    return torch.stack(padded)


def initialise_convs(module: nn.Module) -> None:
    """Draws the weights of a head's convolutions: Kaiming normal, fan-out; biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
