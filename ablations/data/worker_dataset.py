"""Images decoded and augmented into batches of bytes: the work of a worker process."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ablations.data.decoding import explain
from ablations.data.readers import Reader
from ablations.data.sampling import derive
from ablations.data.transforms import Transform, seed_draws
from modernize.errors import RoadmapError
from modernize.libraries import library

TRIES = 100  # images that are tried in place of an unreadable one

Item = TypeVar("Item", covariant=True)
Request: TypeAlias = tuple[int, int]  # the number of an image, and the seed for its augmentation


class BadImageError(RoadmapError):
    """An image that cannot be read; the message names it, and says how to skip it."""


@dataclasses.dataclass
class Batch:
    """A batch as it comes from a worker: tensors and other values; without any, it is empty.

    Attributes:
        bad: the unreadable images met: the reason by the path.
    """

    bad: dict[str, str]

    def pin_memory(self) -> Self:
        """Returns the batch in pinned memory; a DataLoader calls this."""
        pinned: Any = {k: v.pin_memory() for k, v in vars(self).items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, **pinned)


@dataclasses.dataclass
class RawBatch(Batch):
    """A batch of bytes, as it comes from a worker; not yet normalised.

    Attributes:
        pixels: uint8 (B, H, W, C).
        indices: (B,) numbers of its images; not all as requested if some could not be read.
        noise: float32 (M,), the pixels of the erased regions, one region after the other.
        boxes: position in the batch, top, left, height and width of each erased region.
    """

    pixels: Tensor
    indices: list[int]
    noise: Tensor
    boxes: list[tuple[int, int, int, int, int]]


class WorkerDataset(TorchDataset[Any]):
    """Training or validation images, prepared a batch at a time; each worker has a copy.

    Args:
        read: returns an image by its number.
        make_transform: called once in every process, because a transform may not be picklable.
        channels, size: of a prepared image.
        skip: whether unreadable images are skipped.
        training: whether images are augmented, and unreadable ones replaced.
        erasing: probability of random erasing.
    """

    def __init__(
        self,
        read: Reader,
        make_transform: Callable[[], Transform],
        *,
        channels: int,
        size: int,
        skip: bool,
        training: bool = False,
        erasing: float = 0.0,
    ) -> None:
        self.read, self.make_transform = read, make_transform
        self.channels, self.size = channels, size
        self.skip, self.training, self.erasing = skip, training, erasing

    @functools.cached_property
    def transform(self) -> Transform:
        """Prepares an image, or augments it."""
        return self.make_transform()

    @functools.cached_property
    def eraser(self) -> Any:
        """Timm's random erasing, or None."""
        if not self.erasing:
            return None
        erasing = library("timm.data.random_erasing")
        return erasing.RandomErasing(self.erasing, mode="pixel", max_count=1, device="cpu")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("transform", "eraser")}

    def __getitems__(self, requests: Sequence[Request]) -> Batch | BadImageError:
        """Returns a batch, or an error: one that is raised would not arrive unchanged."""
        try:
            return self._load(requests)
        except BadImageError as error:
            return error

    def _load(self, requests: Sequence[Request]) -> Batch:
        size, channels = self.size, self.channels
        pixels = torch.empty((len(requests), size, size, channels), dtype=torch.uint8)
        target = pixels.numpy()
        indices: list[int] = []
        bad: dict[str, str] = {}
        boxes, noises = [], []
        for number, seed in requests:
            if self.training:
                seed_draws(seed)  # before the image is read: a custom data set may draw, too
            image, index = read_or_skip(
                self.read, number, bad, skip=self.skip, training=self.training
            )
            if image is None:
                continue
            position = len(indices)
            indices.append(index)
            target[position] = np.asarray(self.transform(image)).reshape(size, size, channels)
            if self.eraser is not None:
                seed_draws(derive(seed, "erasing"))
                region = _ErasureRecorder(channels, size)
                self.eraser(region)
                if region.noise is not None:
                    boxes.append((position, region.top, region.left, *region.noise.shape[1:]))
                    noises.append(region.noise.flatten())
        if not indices:
            return Batch(bad)
        noise = torch.cat(noises) if noises else torch.empty(0)
        return RawBatch(bad, pixels[: len(indices)], indices, noise, boxes)


class Read(Protocol[Item]):
    """Reads images by their numbers."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def path(self, index: int) -> str:
        """Returns where an image is, for messages."""

    def __call__(self, index: int) -> Item:
        """Returns an image; may raise anything."""


def read_or_skip(
    read: Read[Item], index: int, bad: dict[str, str], *, skip: bool, training: bool
) -> tuple[Item | None, int]:
    """Returns an image and its number.

    Args:
        read: reads it.
        index: its number.
        bad: the reason is added by the path, if it cannot be read.
        skip: whether such images are skipped.
        training: whether the next image takes the place of a skipped one; otherwise it is None.

    Raises:
        BadImageError: if it cannot be read, unless such images are skipped.
    """
    count = len(read)
    for other in range(index, index + (TRIES if training else 1)):
        path = read.path(other % count)
        try:
            return read(other % count), other % count
        except Exception as error:  # a broken file can make a decoder raise anything
            reason = explain(error)
        bad[path] = reason
        if not skip:
            raise BadImageError(
                f"{path} cannot be read: {reason}. Replace it, or skip such images with "
                "--skip-bad-images."
            )
    if training:
        raise BadImageError(
            f"{path} and the {TRIES - 1} images before it cannot be read: {reason}. These are "
            "too many to skip. Check that the folder still exists."
        )
    return None, index


class _ErasureRecorder:
    """Takes the place of a normalised image, float32 (C, H, W), and records its erased region.

    Thus timm's own code draws in a worker the noise that is put into the image on the device.
    """

    dtype = torch.float32

    def __init__(self, channels: int, size: int) -> None:
        self.shape = (channels, size, size)
        self.top = self.left = 0
        self.noise: Tensor | None = None

    def size(self) -> tuple[int, int, int]:
        return self.shape

    def __setitem__(self, region: tuple[slice, slice, slice], noise: Tensor) -> None:
        self.top, self.left = region[1].start, region[2].start
        self.noise = noise
