"""Evaluates the weights of a classifier, from any source, on a folder of images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ablations.choices import DataChoice
from ablations.data.images import ListedImages
from ablations.data.transforms import batch_format
from ablations.data.worker_loader import WorkerValidationLoader
from ablations.tasks.classification import Classification
from ablations.tasks.task import Evaluation
from ablations.training.device_context import DeviceContext
from modernize.fusion import fuse_for_inference
from modernize.libraries import library

if TYPE_CHECKING:
    from modernize.network import Network

LARGE = 384  # pixels from which on the whole image is used, as in the paper


def evaluate_weights(
    network: Network,
    images: ListedImages,
    choice: DataChoice,
    context: DeviceContext,
    *,
    batch_size: int,
    workers: int,
    skip_bad_images: bool = False,
) -> Evaluation:
    """Returns the accuracy of a network, with its norms fused, on a folder of images.

    Args:
        network: takes images of 3 channels.
        images: as :func:`~ablations.data.image_folder.list_validation` returns them.
        choice: how they are prepared.
        context: device and precision.
        batch_size: images per batch.
        workers: processes that decode images.
        skip_bad_images: whether unreadable images are left out; otherwise they are an error.

    Raises:
        BadImageError: naming an unreadable image, or that none of the images can be read.
    """
    ready = context.put(fuse_for_inference(network, context.dtype))
    loader = WorkerValidationLoader(
        images,
        choice,
        batch_format(images, choice, context.device, channels_last=context.channels_last),
        batch_size=batch_size,
        workers=workers,
        skip_bad_images=skip_bad_images,
    )
    with contextlib.closing(loader):
        return Classification().evaluate(ready, loader, context)


def imagenet_transform(image_size: int, resize: int | Literal["warp"] | None = None) -> DataChoice:
    """Returns how the paper prepares ImageNet's images for an evaluation (Section 3.1, Table 5).

    Args:
        image_size: height and width in pixels that the network sees.
        resize: pixels of the shorter side before the centre crop; None: 256 for 224, in proportion
            for other sizes below 384; from 384 on, the whole image is warped to a square.
    """
    if resize is None:
        resize = "warp" if image_size >= LARGE else round(image_size * 256 / 224)
    return DataChoice(
        name="image-folder",
        source="",
        image_size=image_size,
        resize=resize,
        interpolation="bicubic",
    )


def synsets() -> Sequence[str]:
    """Returns the names of ImageNet's classes in the order of a network's logits."""
    names: list[str] = library("timm.data").ImageNetInfo("imagenet-1k").label_names()
    return names
