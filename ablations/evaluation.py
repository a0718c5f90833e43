"""How many validation images a network gets right: of a run, or of weights from elsewhere."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ablations.data import Folder, list_validation
from ablations.place import Place
from ablations.recipe import DataChoice
from ablations.transforms import library

LARGE = 384  # pixels from which on the whole image is seen, as the paper's larger evaluations do


class Served(Protocol):
    """Where validation images come from."""

    data_wait: float
    bad_images: int

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields this process's images (B, C, H, W) once, with their labels (B,)."""


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """What an evaluation came to.

    Attributes:
        top1, top5: percent of the images whose class is the first, or among the first five.
        images: how many there were, in all processes.
        seconds: from asking for the first image to the last logits.
        data_wait: share of that time spent waiting for images.
    """

    top1: float
    top5: float
    images: int
    seconds: float
    data_wait: float

    @property
    def images_per_second(self) -> float:
        """Images evaluated in a second."""
        return self.images / self.seconds


@torch.no_grad()
def evaluate(network: nn.Module, served: Served, place: Place) -> Accuracy:
    """Returns a network's accuracy over all validation images of all processes."""
    network.eval()
    start, waited = time.perf_counter(), served.data_wait
    counts = torch.zeros(3, dtype=torch.long, device=place.device)  # top-1, top-5, all
    for x, labels in served.validation():
        with place.autocast():
            logits = network(x)
        ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        counts += torch.stack(
            [ranked[:, 0].sum(), ranked.any(1).sum(), torch.tensor(len(x), device=place.device)]
        )
    top1, top5, total = place.sum(counts).tolist()
    seconds = time.perf_counter() - start
    return Accuracy(
        top1=100 * top1 / total,
        top5=100 * top5 / total,
        images=total,
        seconds=seconds,
        data_wait=(served.data_wait - waited) / seconds,
    )


def imagenet_transform(image_size: int, resize: int | None = None) -> DataChoice:
    """Returns how the paper prepares ImageNet's images for an evaluation (Section 3.1, Table 5).

    Args:
        image_size: height and width in pixels that the network sees.
        resize: pixels of the shorter side before the centre crop; None: 256 for 224, in proportion
            for other sizes below 384, and the size itself from 384 on, where all is seen.
    """
    if resize is None:
        resize = image_size if image_size >= LARGE else round(image_size * 256 / 224)
    return DataChoice(
        name="image-folder",
        source="",
        image_size=image_size,
        resize=resize,
        interpolation="bicubic",
    )


def list_imagenet(folder: Path) -> Folder:
    """Returns ImageNet's validation images, or some classes of them, labelled in ImageNet's order.

    Args:
        folder: holds a folder for each class, named by its synset (n01440764, ...).

    Raises:
        DataError: for a folder that is not there or empty, or that has folders of other names.
    """
    return list_validation(folder, synsets())


def synsets() -> Sequence[str]:
    """Returns the names of ImageNet's classes in the order of a network's logits."""
    names: list[str] = library("timm.data").ImageNetInfo("imagenet-1k").label_names()
    return names
