"""Chooses how a run's images are served: all in memory on the device, or through workers."""

from __future__ import annotations

import torch

from ablations.images.batches import Batches
from ablations.images.data import Images
from ablations.images.folders import Folder
from ablations.images.sampling import Sampling
from ablations.recipe import Compute, DataChoice, Recipe
from ablations.training.train import Pipeline


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
    from ablations.images.photos import PhotoBatches

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
