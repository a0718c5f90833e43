"""Chooses how a run's images are served: all in memory on the device, or through workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from ablations.data.datasets import Images
from ablations.data.image_folder import Folder
from ablations.data.in_memory_loader import Batches
from ablations.data.sampling import MicroBatch, Sampling
from ablations.recipe import Compute, DataChoice, Recipe


class Served(Protocol):
    """Where validation images come from."""

    data_wait: float
    source: str

    @property
    def bad(self) -> Mapping[str, str]:
        """What is wrong with each image that could not be read, by its path."""

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields this process's images (B, C, H, W) once, with their labels (B,)."""


class Pipeline(Served, Protocol):
    """Where a run's images come from."""

    bad_images: int
    chance: float  # part of the validation images that belongs to the most common class

    @property
    def sampling(self) -> Sampling:
        """How the training images are served."""

    def training(
        self, epoch: int, first_update: int = 0
    ) -> Iterator[tuple[MicroBatch, Tensor, Tensor]]:
        """Yields micro-batches from an update on: images (B, C, H, W) and labels (B,)."""


def make_pipeline(
    images: Images | Folder,
    choice: DataChoice,
    recipe: Recipe,
    sampling: Sampling,
    device: torch.device,
    compute: Compute,
    *,
    threads: int = 1,
    skip_bad_images: bool = False,
) -> Pipeline:
    """Returns the pipeline of a run.

    Args:
        images: what to serve; image by image by workers if they lie on disk, or if the recipe asks
            for what is done so (RandAugment, resized crops, random erasing).
        choice: how images are prepared.
        recipe: how they are augmented.
        sampling: which images, and whose turn it is.
        device: where batches are wanted.
        compute: number of workers and memory layout.
        threads: CPU threads the run may use, which bounds the workers where they are ``auto``.
        skip_bad_images: whether an unreadable image is passed over; else it stops the run.
    """
    layout = compute.channels_last
    needs = recipe.resized_crop or recipe.rand_augment or recipe.random_erasing
    one_by_one = isinstance(images, Folder) or needs
    if isinstance(images, Images) and not one_by_one:
        return Batches(images, choice, recipe, sampling, device, channels_last=layout)
    from ablations.data.worker_loader import PhotoBatches

    workers = threads if compute.workers == "auto" else compute.workers
    return PhotoBatches(
        images,
        choice,
        recipe,
        sampling,
        device,
        workers=workers,
        channels_last=layout,
        skip_bad_images=skip_bad_images,
    )
