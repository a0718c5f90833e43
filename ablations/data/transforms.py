"""What happens to an image before the network sees it: resize, crop, flip, RandAugment."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from ablations.recipe import DataChoice, Recipe
from modernize.libraries import library

RATIO = (3 / 4, 4 / 3)  # of width to height, of random crops

Transform: TypeAlias = Callable[[Image.Image], Image.Image]


def evaluation_transform(choice: DataChoice) -> Transform:
    """Returns what prepares an image for evaluation: resize where asked for, and centre crop."""
    transforms = library("torchvision.transforms")
    crop = transforms.CenterCrop(choice.image_size)
    if choice.resize is None:
        return crop  # type: ignore[no-any-return]
    mode = transforms.InterpolationMode(choice.interpolation)
    return transforms.Compose([transforms.Resize(choice.resize, mode), crop])  # type: ignore[no-any-return]


def training_transform(choice: DataChoice, recipe: Recipe, mean: Sequence[float]) -> Transform:
    """Returns what augments an image: random crop, flip, RandAugment, in timm's order.

    Its draws come from the global states of ``random``, NumPy and torch; see ``seed_draws``.

    Args:
        choice: size and interpolation.
        recipe: which of them, and how much.
        mean: of the channels, which RandAugment fills uncovered corners with.
    """
    transforms = library("torchvision.transforms")
    size = choice.image_size
    steps: list[Any] = []
    if recipe.resized_crop:
        low, high = recipe.resized_crop
        steps.append(
            library("timm.data.transforms").RandomResizedCropAndInterpolation(
                size, scale=(low, high), ratio=RATIO, interpolation=choice.interpolation
            )
        )
    else:
        padding = recipe.crop_padding or 0
        steps += [evaluation_transform(choice), transforms.RandomCrop(size, padding=padding)]
    if recipe.flip:
        steps.append(transforms.RandomHorizontalFlip(recipe.flip))
    if recipe.rand_augment is not None:
        steps.append(rand_augment(recipe.rand_augment, choice, mean))
    return transforms.Compose(steps)  # type: ignore[no-any-return]


def rand_augment(text: str, choice: DataChoice, mean: Sequence[float]) -> Transform:
    """Returns timm's RandAugment as its training script would set it up for these images."""
    transform = library("timm.data.auto_augment").rand_augment_transform(
        text,
        {
            "translate_const": int(choice.image_size * 0.45),
            "img_mean": tuple(min(255, round(255 * m)) for m in mean),
            "interpolation": Image.Resampling[choice.interpolation.upper()],
        },
    )
    for op in transform.ops:
        if op.name.startswith("Posterize"):
            op.aug_fn = functools.partial(_posterize, op.aug_fn)
    return transform  # type: ignore[no-any-return]


def _posterize(
    timms: Callable[..., Image.Image], image: Image.Image, bits: int, **options: Any
) -> Image.Image:
    """Does what timm's does, and goes on to make images black at 0 bits, which Pillow 13 refuses.

    The strongest magnitude of RandAugment, reached now and then with ``mstd``, asks for 0 bits.
    """
    return timms(image, bits, **options) if bits else image.point([0] * 256 * len(image.getbands()))


def seed_draws(seed: int) -> None:
    """Seeds ``random``, NumPy and torch's CPU generator with different parts of 63 bits."""
    random.seed(seed)
    np.random.seed(seed >> 31)  # torch takes the low 32 bits, and its algorithm is NumPy's
    torch.default_generator.manual_seed(seed)
