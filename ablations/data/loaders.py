"""The data loaders of a run: in memory on the device, or through worker processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ablations.choices import Compute, DataChoice
from ablations.data.images import Dataset, InMemoryDataset
from ablations.data.in_memory_loader import InMemoryTrainLoader, InMemoryValidationLoader
from ablations.data.mixing import Mixing
from ablations.data.sampling import MicroBatch, Sampling
from ablations.data.transforms import batch_format, single_image_format
from ablations.data.worker_dataset import BadImageError
from ablations.recipe import Recipe


class Loader(Protocol):
    """What all loaders have in common.

    Attributes:
        data_wait: seconds spent waiting for images; may be set to 0.
    """

    data_wait: float

    @property
    def bad(self) -> Mapping[str, str]:
        """The images that could not be read: the reason by the path."""

    def close(self) -> None:
        """Ends the worker processes, if there are any."""


class TrainLoader(Loader, Protocol):
    """Loads this process's training images."""

    @property
    def sampling(self) -> Sampling:
        """Which images, in which order."""

    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[tuple[MicroBatch, Tensor, Any]]:
        """Yields micro-batches from an update on: images (B, C, H, W) and their targets.

        The target of an image is a label, a map of labels or a mapping of boxes and masks.
        """


class ValidationLoader(Loader, Protocol):
    """Loads this process's validation images."""

    source: str

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        """Yields this process's images (B, C, H, W) once, with their targets."""


Mix = Callable[[Tensor, Any, int], tuple[Tensor, Any]]
"""Images, their targets and a seed -> both as the network is trained on them."""


@dataclasses.dataclass
class Loaders:
    """The loaders of one process of a run.

    Attributes:
        train, validation: of the training and the validation images.
        majority: the fraction that is right by chance: of validation images, those of the most
            common class.
        mix: changes each training micro-batch as a whole.
        single: how a single image is prepared for the network; None: not as for classification.
    """

    train: TrainLoader
    validation: ValidationLoader
    majority: float
    mix: Mix
    single: DataChoice | None = None

    @property
    def bad_images(self) -> int:
        """Images that could not be read so far, each counted once."""
        return len(self.train.bad.keys() | self.validation.bad.keys())

    def close(self) -> None:
        """Ends the worker processes; they also end with this object, or with this process."""
        self.train.close()
        self.validation.close()


def make_loaders(
    dataset: Dataset,
    choice: DataChoice,
    recipe: Recipe,
    sampling: Sampling,
    device: torch.device,
    compute: Compute,
    *,
    threads: int = 1,
    skip_bad_images: bool = False,
) -> Loaders:
    """Returns the loaders of a run that classifies images.

    Worker processes load images that are on disk, and all images if the recipe has RandAugment,
    resized crops or random erasing. A validation batch is twice the size of a micro-batch then.

    Args:
        dataset: the images.
        choice: how images are prepared.
        recipe: how training images are augmented.
        sampling: which images, in which order.
        device: where batches are wanted.
        compute: number of workers, and memory format.
        threads: CPU threads of this process: the number of workers if that is ``auto``.
        skip_bad_images: whether unreadable images are skipped; otherwise they are an error.
    """
    batches = batch_format(dataset, choice, device, channels_last=compute.channels_last)
    mix = Mixing(recipe, dataset.num_classes)
    single = single_image_format(dataset, choice, batches)
    train: TrainLoader
    validation: ValidationLoader
    augmented_by_workers = recipe.resized_crop or recipe.rand_augment or recipe.random_erasing
    if isinstance(dataset, InMemoryDataset) and not augmented_by_workers:
        train = InMemoryTrainLoader(dataset, choice, recipe, sampling, batches)
        validation = InMemoryValidationLoader(dataset, choice, sampling.process, batches)
        return Loaders(train, validation, dataset.majority, mix, single)
    from ablations.data.worker_loader import WorkerTrainLoader, WorkerValidationLoader

    workers = threads if compute.workers == "auto" else compute.workers
    train = WorkerTrainLoader(
        dataset,
        choice,
        recipe,
        sampling,
        batches,
        workers=workers,
        skip_bad_images=skip_bad_images,
    )
    validation = WorkerValidationLoader(
        dataset,
        choice,
        batches,
        batch_size=2 * sampling.micro_batch_size,
        process=sampling.process,
        workers=workers,
        skip_bad_images=skip_bad_images,
    )
    return Loaders(train, validation, dataset.majority, mix, single)


def check_any(loader: ValidationLoader, images: int) -> None:
    """Raises BadImageError if a loader gave no images because none can be read.

    Args:
        loader: of validation images.
        images: that it gave, over all processes.
    """
    if not images:
        first = next((f": {path}: {reason}" for path, reason in loader.bad.items()), "")
        raise BadImageError(
            f"none of the validation images of {loader.source} can be read{first}. Replace them, "
            "or name another folder with --data."
        )
