"""What detection and segmentation have in common: a head on the four maps of a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modernize.closed_form import ClosedFormCost, quick_cost
from modernize.layer_decay import layer_scales
from modernize.text import plural

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ablations.choices import DataChoice
    from ablations.data.transforms import BatchFormat
    from ablations.recipe import Recipe
    from modernize.heads import DetectorSpec, SegmenterSpec
    from modernize.spec import NetSpec
    from modernize.weights import Weights

FEWEST = 50  # validation images; with fewer, no run is judged to be at chance


def dense_format(
    images: Any, choice: DataChoice, device: torch.device, *, channels_last: bool
) -> BatchFormat:
    """Returns the format of batches; normalised as the data set says, unless the preset does."""
    from ablations.data.transforms import BatchFormat

    mean, std = choice.mean or images.mean, choice.std or images.std
    return BatchFormat(mean, std, device, channels_last)


def unmixed(images: Any, targets: Any, seed: int) -> tuple[Any, Any]:  # noqa: ARG001
    """Returns a micro-batch as it is: images with objects are not mixed."""
    return images, targets


def start_backbone(model: Any, weights: Weights, recipe: Recipe) -> str:  # noqa: ARG001
    """Replaces the weights of the backbone, and returns a sentence about the others."""
    unused = model.backbone.load(weights)
    return (
        f"The backbone starts from the weights of a classifier; {plural(len(unused), 'tensor')} of "
        f"it are not used ({', '.join(unused)}). Output norms and head are fresh."
    )


def dense_scales(model: Any, decay: float) -> Mapping[str, float]:
    """Returns the factor of each parameter's learning rate: 1 outside stem and stages."""
    backbone: nn.Module = model.backbone
    scales = {
        f"backbone.{part}.{name}": scale
        for part, scale in layer_scales(model.spec, decay).items()
        if part.startswith(("stem", "stages"))
        for name, _ in backbone.get_submodule(part).named_parameters()
    }
    return {name: scales.get(name, 1.0) for name, _ in model.named_parameters()}


def cost(spec: NetSpec, head: DetectorSpec | SegmenterSpec, image_size: int) -> ClosedFormCost:  # noqa: ARG001
    """Returns the cost of one square image in backbone and head."""
    return quick_cost(spec, image_size)
