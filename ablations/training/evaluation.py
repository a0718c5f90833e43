"""Evaluates a network on validation images: of a run, or of weights from other sources."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import nn

from ablations.choices import DataChoice
from ablations.data.image_folder import list_validation
from ablations.data.images import ListedImages
from ablations.data.loaders import ValidationLoader
from ablations.data.transforms import batch_format
from ablations.data.worker_dataset import BadImageError
from ablations.data.worker_loader import WorkerValidationLoader
from ablations.training.device_context import DeviceContext
from modernize.fusion import fuse_for_inference
from modernize.libraries import library

if TYPE_CHECKING:
    from modernize.network import Network

LARGE = 384  # pixels from which on the whole image is used, as in the paper


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The result of an evaluation.

    Attributes:
        top1, top5: percent of the images whose class is ranked first, or among the first five.
        loss: the mean cross-entropy, without label smoothing.
        images: number of images, over all processes.
        not_finite: images with an infinite or NaN logit; they count as wrong.
        seconds: from the request for the first image to the last logits.
        data_wait: fraction of that time spent waiting for images.
    """

    top1: float
    top5: float
    loss: float
    images: int
    not_finite: int
    seconds: float
    data_wait: float

    @property
    def images_per_second(self) -> float:
        """Images evaluated in a second."""
        return self.images / self.seconds


@torch.no_grad()
def evaluate(network: nn.Module, loader: ValidationLoader, context: DeviceContext) -> Accuracy:
    """Returns a network's accuracy over all validation images of all processes.

    Raises:
        BadImageError: if none of them can be read.
    """
    network.eval()
    start, waited = time.perf_counter(), loader.data_wait
    counts = torch.zeros(
        4, dtype=torch.long, device=context.device
    )  # top-1, top-5, not finite, all
    loss = torch.zeros((), device=context.device)
    for x, labels in loader:
        with context.autocast():
            logits = network(x)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum")
        finite = logits.isfinite().all(1)  # NaN would rank first
        ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        ranked &= finite[:, None]
        right = [ranked[:, 0].sum(), ranked.any(1).sum()]
        counts += torch.stack([*right, (~finite).sum(), torch.ones_like(labels).sum()])
    top1, top5, not_finite, total = context.sum(counts).tolist()
    if not total:
        raise BadImageError(_none_readable(loader))
    seconds = time.perf_counter() - start
    return Accuracy(
        top1=100 * top1 / total,
        top5=100 * top5 / total,
        loss=context.sum(loss).item() / total,
        images=total,
        not_finite=not_finite,
        seconds=seconds,
        data_wait=(loader.data_wait - waited) / seconds,
    )


def _none_readable(loader: ValidationLoader) -> str:
    first = next((f": {path}: {reason}" for path, reason in loader.bad.items()), "")
    return (
        f"none of the validation images of {loader.source} can be read{first}. Replace them, or "
        "name another folder with --data."
    )


def evaluate_weights(
    network: Network,
    images: ListedImages,
    choice: DataChoice,
    context: DeviceContext,
    *,
    batch_size: int,
    workers: int,
    skip_bad_images: bool = False,
) -> Accuracy:
    """Returns the accuracy of a network, with its norms fused, on a folder of images.

    Args:
        network: takes images of 3 channels.
        images: as :func:`list_images` returns them.
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
        return evaluate(ready, loader, context)


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


def list_images(folder: Path, num_classes: int, *, skip_bad_images: bool = False) -> ListedImages:
    """Returns the images of class folders, labelled in the order of a network's logits.

    Args:
        folder: has a folder of images for each class. For a network of ImageNet's 1000 classes, the
            synset is its name (n01440764, ...), and some may be missing; otherwise none may.
        num_classes: logits of the network.
        skip_bad_images: whether files that clearly are no images are allowed.

    Raises:
        DataError: if the folder is missing or empty, or has other classes.
    """
    names = synsets()
    classes = names if num_classes == len(names) else num_classes
    return list_validation(folder, classes, skip_bad_images=skip_bad_images)


def synsets() -> Sequence[str]:
    """Returns the names of ImageNet's classes in the order of a network's logits."""
    names: list[str] = library("timm.data").ImageNetInfo("imagenet-1k").label_names()
    return names
