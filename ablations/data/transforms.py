"""How images are prepared: resize, crop, flip, RandAugment; and how pixels are normalised."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from ablations.choices import DataChoice
from ablations.data.images import ListedImages
from ablations.fit import channel_faults
from ablations.recipe import Recipe
from modernize.errors import UsageError
from modernize.libraries import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ablations.data.images import Dataset

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RATIO = (3 / 4, 4 / 3)  # of width to height, of random crops

Transform: TypeAlias = Callable[[Image.Image], Image.Image]


def evaluation_transform(choice: DataChoice) -> Transform:
    """Returns the transform for evaluation: resize, if the preset has it, and centre crop.

    With ``resize: warp``, the whole image becomes a square, and nothing is cropped.
    """
    transforms = library("torchvision.transforms")
    crop = transforms.CenterCrop(choice.image_size)
    if choice.resize is None:
        return crop  # type: ignore[no-any-return]
    mode = transforms.InterpolationMode(choice.interpolation)
    if choice.resize == "warp":
        return transforms.Resize((choice.image_size, choice.image_size), mode)  # type: ignore[no-any-return]
    return transforms.Compose([transforms.Resize(choice.resize, mode), crop])  # type: ignore[no-any-return]


def training_transform(choice: DataChoice, recipe: Recipe, mean: Sequence[float]) -> Transform:
    """Returns the transform for training: random crop, flip, RandAugment, in timm's order.

    Its random numbers come from the global states of ``random``, NumPy and torch; see
    :func:`seed_draws`.

    Args:
        choice: size and interpolation.
        recipe: the augmentation.
        mean: of the channels; RandAugment fills uncovered corners with it.
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
    """Returns timm's RandAugment, set up as in timm's training script."""
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
    """Calls timm's function, except for 0 bits, which Pillow 13 refuses: the image becomes black.

    RandAugment's strongest magnitude, which occurs at times with ``mstd``, requests 0 bits.
    """
    return timms(image, bits, **options) if bits else image.point([0] * 256 * len(image.getbands()))


def seed_draws(seed: int) -> None:
    """Seeds ``random``, NumPy and torch's CPU generator with different parts of 63 bits."""
    random.seed(seed)
    np.random.seed(seed >> 31)  # torch takes the low 32 bits, and its algorithm is NumPy's
    torch.default_generator.manual_seed(seed)


@dataclasses.dataclass(frozen=True)
class BatchFormat:
    """How loaders deliver images.

    Attributes:
        mean, std: of each channel, of pixels from 0 to 1.
        device: where batches are wanted.
        channels_last: the memory format of a batch.
    """

    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device
    channels_last: bool = True


def batch_format(
    dataset: Dataset, choice: DataChoice, device: torch.device, *, channels_last: bool = True
) -> BatchFormat:
    """Returns the format of the batches of a data set.

    Without a mean or standard deviation in the preset, it is measured on training images in memory;
    for images on disk it is ImageNet's.

    Raises:
        UsageError: if the preset names more or fewer values than there are channels.
    """
    if faults := channel_faults(choice, dataset.channels):
        raise UsageError(" ".join(faults))
    mean: Sequence[float] | None = choice.mean
    std: Sequence[float] | None = choice.std
    if mean is None or std is None:
        if isinstance(dataset, ListedImages):
            known: tuple[Sequence[float], Sequence[float]] = IMAGENET_MEAN, IMAGENET_STD
        else:
            known = _measure(dataset.train)
        mean, std = mean or known[0], std or known[1]
    return BatchFormat(mean, std, device, channels_last)


def single_image_format(dataset: Dataset, choice: DataChoice, batches: BatchFormat) -> DataChoice:
    """Returns how an image from anywhere is prepared for a network trained on a data set.

    It is the choice with mean, standard deviation and all classes' names, without the place of the
    images. Images are resized to the size of those in memory, before these are padded or cropped.
    """
    resize = choice.resize
    if resize is None and not isinstance(dataset, ListedImages):
        resize = min(dataset.train.shape[2:])
    known = {"resize": resize, "mean": [*batches.mean], "std": [*batches.std]}
    names = [*dataset.classes] or None
    return choice.model_copy(update={**known, "source": "", "classes": names})


def _measure(pixels: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of each channel of uint8 (N, C, H, W)."""
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in range(pixels.shape[1]):
        counts = np.bincount(pixels[:, channel].ravel(), minlength=256)
        mean.append(float(counts @ values / counts.sum()))
        std.append(float(np.sqrt(counts @ (values - mean[-1]) ** 2 / (counts.sum() - 1))))
    return mean, std
