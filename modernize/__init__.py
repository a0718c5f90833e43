"""Every network of the roadmap from ResNet to ConvNeXt, one change at a time.

``build("ln", regime="resnet50")`` returns a network, and ``spec_of("ln")`` its description. To
import this package does not import torch; to build a network does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modernize.spec import NetSpec
from modernize.steps import REGIMES, STEPS, apply_steps, spec_of, until

if TYPE_CHECKING:
    from pathlib import Path

    from modernize.network import Network

__all__ = ["REGIMES", "STEPS", "NetSpec", "apply_steps", "build", "spec_of", "until"]


def build(
    step: str | int,
    regime: str | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    *,
    weights: Path | str | None = None,
    ema: bool = False,
    head_init_scale: float = 1.0,
    **fields: Any,
) -> Network:
    """Returns the network of one step of the roadmap, in training mode.

    Args:
        step: a step's key, such as ``"ln"``, or its index in :data:`STEPS`; or the name of one of
            the paper's networks, such as ``"ConvNeXt-T"`` or ``"convnext_tiny"``.
        regime: of a step: ``"resnet50"`` (the default), ``"resnet200"`` or ``"nano"``.
        num_classes: logits per image; by default those of ``weights``, or else 1000. With 0 the
            network has no head and returns the pooled features.
        in_channels: channels of the images.
        weights: a file of torchvision, timm, the official ConvNeXt or this project; by default,
            weights are fresh. If it has another number of classes than ``num_classes``, the head's
            weights are fresh; all others must fit.
        ema: whether to use the moving average of the weights in that file.
        head_init_scale: factor of the head's weights, if they are fresh although ``weights`` is
            given; the paper fine-tunes with 0.001.
        fields: other fields of :class:`NetSpec` to replace, such as ``drop_path=0.1``.

    Returns:
        A module from images (N, in_channels, H, W) to logits (N, num_classes). Its ``features``
        returns the map of each stage.

    Raises:
        UnknownNameError: for an unknown step, network, regime or field; lists the valid ones.
        UsageError: for a regime of a network that is not a step.
        SpecError: for an invalid value of a field.
        WeightsError: if the weights cannot be read, or do not fit; names every tensor.
    """
    from modernize.models import find_network
    from modernize.network import Network

    spec = find_network(step, regime, in_channels=in_channels, **fields)
    if weights is None:
        return Network(spec.replace(num_classes=1000 if num_classes is None else num_classes))
    from modernize.weights import read_start, start_from

    found = read_start(weights, spec, ema=ema)
    classes = found.spec.num_classes if num_classes is None else num_classes
    network = Network(spec.replace(num_classes=classes))
    start_from(network, found, head_init_scale)
    return network
