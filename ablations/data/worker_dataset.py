"""Images read and augmented into batches of bytes; this is what a worker process does."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ablations.data.datasets import Images
from ablations.data.decoding import explain, read_picture
from ablations.data.image_folder import Folder
from ablations.data.sampling import derive
from ablations.data.transforms import Transform, seed_draws
from modernize.errors import RoadmapError
from modernize.libraries import library

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRIES = 100  # unreadable images in a row that are passed over

Request: TypeAlias = tuple[int, int]  # the number of an image, and the seed for its augmentation


class BadImageError(RoadmapError):
    """An image that cannot be read; the message names it, and how to go on without it."""


@dataclasses.dataclass
class Served:
    """A batch, as it comes from a worker.

    Attributes:
        pixels: uint8 (B, H, W, C).
        indices: (B,) numbers of the images it holds; not quite those asked for if some were bad.
        noise: float32 (M,), what random erasing puts into the images, one after the other.
        boxes: place in the batch, top, left, height and width of each erased region.
        bad: what is wrong with each unreadable image met, by its path.
    """

    pixels: Tensor
    indices: list[int]
    noise: Tensor
    boxes: list[tuple[int, int, int, int, int]]
    bad: dict[str, str]

    def pin_memory(self) -> Served:
        """Returns the batch in memory that a GPU can read by itself; a DataLoader calls it."""
        return dataclasses.replace(
            self, pixels=self.pixels.pin_memory(), noise=self.noise.pin_memory()
        )


class Split(Dataset[Any]):
    """Training or validation images, prepared a batch at a time; it lives in each worker.

    Args:
        read: returns an image by its number.
        make_transform: called once in every process, for what it makes may not be sent to others.
        channels, size: of an image when prepared.
        skip: whether unreadable images are passed over.
        training: whether images are augmented, and unreadable ones replaced.
        erasing: probability of random erasing.
    """

    def __init__(
        self,
        read: Files | Arrays,
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
        """What augments or prepares an image."""
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

    def __getitems__(self, requests: Sequence[Request]) -> Served | BadImageError:
        """Returns a batch; an error is returned, too, so that it arrives as it left."""
        try:
            return self._serve(requests)
        except BadImageError as error:
            return error

    def _serve(self, requests: Sequence[Request]) -> Served:
        size, channels = self.size, self.channels
        pixels = torch.empty((len(requests), size, size, channels), dtype=torch.uint8)
        target = pixels.numpy()
        indices: list[int] = []
        bad: dict[str, str] = {}
        boxes, noises = [], []
        for asked, seed in requests:
            image, index = self._find(asked, bad)
            if image is None:
                continue
            place = len(indices)
            indices.append(index)
            if self.training:
                seed_draws(seed)
            target[place] = np.asarray(self.transform(image)).reshape(size, size, channels)
            if self.eraser is not None:
                seed_draws(derive(seed, "erasing"))
                region = _Region(channels, size)
                self.eraser(region)
                if region.noise is not None:
                    boxes.append((place, region.top, region.left, *region.noise.shape[1:]))
                    noises.append(region.noise.flatten())
        noise = torch.cat(noises) if noises else torch.empty(0)
        return Served(pixels[: len(indices)], indices, noise, boxes, bad)

    def _find(self, index: int, bad: dict[str, str]) -> tuple[Image.Image | None, int]:
        """Returns an image and its number; in training, the next one if it must be passed over."""
        count = len(self.read)
        for other in range(index, index + (TRIES if self.training else 1)):
            path = self.read.path(other % count)
            try:
                return self.read(other % count), other % count
            except Exception as error:  # a broken file can make a decoder raise anything
                reason = explain(error)
            bad[path] = reason
            if not self.skip:
                raise BadImageError(
                    f"{path} cannot be read: {reason}. Replace it, or pass over such images with "
                    "--skip-bad-images."
                )
        if self.training:
            raise BadImageError(
                f"{path} and the {TRIES - 1} images before it cannot be read: {reason}. These are "
                "too many to pass over; is the folder still there?"
            )
        return None, index


class _Region:
    """Stands in for a normalised image, float32 (C, H, W), and takes down what erasing does to it.

    So timm's own code can draw in a worker what is put into the image on the device.
    """

    dtype = torch.float32

    def __init__(self, channels: int, size: int) -> None:
        self.shape = (channels, size, size)
        self.top = self.left = 0
        self.noise: Tensor | None = None

    def size(self) -> tuple[int, int, int]:
        return self.shape

    def __setitem__(self, where: tuple[slice, slice, slice], noise: Tensor) -> None:
        self.top, self.left = where[1].start, where[2].start
        self.noise = noise


@dataclasses.dataclass(frozen=True)
class Files:
    """Reads images from files; raises whatever Pillow does."""

    root: Path
    paths: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        """Returns where an image is."""
        return os.path.join(self.root, os.fsdecode(self.paths[index]))  # noqa: PTH118  # speed

    def __call__(self, index: int) -> Image.Image:
        """Returns an image."""
        return read_picture(self.path(index))


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Takes images out of uint8 (N, C, H, W)."""

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def path(self, index: int) -> str:
        """Returns an image's name."""
        return f"image {index}"

    def __call__(self, index: int) -> Image.Image:
        """Returns an image."""
        pixels = self.pixels[index]
        return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def make_reader(images: Images | Folder, split: NDArray[Any]) -> Files | Arrays:
    """Returns what reads the images of a split, from disk or out of memory."""
    return Files(images.root, split) if isinstance(images, Folder) else Arrays(split)
