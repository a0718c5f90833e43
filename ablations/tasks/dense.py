"""What detection and segmentation have in common: a head on the four maps of a backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modernize.closed_form import ClosedFormCost, quick_cost
from modernize.errors import WeightsError
from modernize.text import plural

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from ablations.choices import DataChoice
    from ablations.data.transforms import BatchFormat
    from ablations.recipe import Recipe
    from modernize.heads.cost import DenseCost, Maps
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


def unused_keys(recipe: Recipe, task: str) -> tuple[str, ...]:
    """Returns a sentence for each key of a recipe that has a value but is for classifiers."""
    keys = ("mixup", "cutmix", "label_smoothing", "rand_augment", "random_erasing", "crop_padding",
            "resized_crop", "head_init_scale")  # fmt: skip
    values = {key: getattr(recipe, key) for key in keys}
    return tuple(
        f"{key} {value} is for classification; {task} has its own augmentation and loss: --set "
        f"{key}={0 if isinstance(value, int | float) else 'null'}."
        for key, value in values.items()
        if value
    )


def read(model: nn.Module, path: Path, *, ema: bool) -> nn.Module:
    """Returns a fresh model with the weights in a run's file.

    Raises:
        WeightsError: if they cannot be read, or do not fit.
    """
    from modernize.weight_files import read_file

    content = read_file(path, ema=ema)
    try:
        model.load_state_dict(dict(content.tensors))
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit: {error}") from None
    return model


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


def cost(
    spec: NetSpec, size: tuple[int, int], with_head: Callable[[Maps], DenseCost]
) -> ClosedFormCost:
    """Returns the cost of one image in backbone and head, without building them.

    Args:
        spec: the backbone; one with custom layers is counted alone, because no formula covers it.
        size: (width, height) of the image, which the head names.
        with_head: returns the cost of backbone and head.
    """
    if spec.custom_layers:
        return quick_cost(spec, max(size))
    from modernize.heads.cost import backbone

    found = with_head(backbone(spec, (size[1], size[0])))
    return ClosedFormCost(found.params, found.macs)
