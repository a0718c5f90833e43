"""Every network of the roadmap from ResNet to ConvNeXt, one change at a time.

``build("ln", regime="resnet50")`` returns a network, and ``spec_of("ln")`` its description. To
import this package does not import torch; to build a network does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modernize.spec import NetSpec
from modernize.steps import REGIMES, STEPS, apply_steps, spec_of, until

if TYPE_CHECKING:
    from modernize.network import Network

__all__ = ["REGIMES", "STEPS", "NetSpec", "apply_steps", "build", "spec_of", "until"]


def build(
    step: str | int,
    regime: str = "resnet50",
    num_classes: int = 1000,
    in_channels: int = 3,
    **fields: Any,
) -> Network:
    """Returns the network of one step of the roadmap, with fresh weights, in training mode.

    Args:
        step: a step's key, such as ``"ln"``, or its index in :data:`STEPS`.
        regime: ``"resnet50"``, ``"resnet200"`` or ``"nano"``.
        num_classes: logits per image.
        in_channels: channels of the images.
        fields: other fields of :class:`NetSpec` to replace, such as ``drop_path=0.1``.

    Returns:
        A module from images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        UnknownNameError: for an unknown step, regime or field; lists the valid ones.
        SpecError: for an invalid value of a field.
    """
    from modernize.network import Network

    return Network(
        spec_of(step, regime, num_classes=num_classes, in_channels=in_channels, **fields)
    )
