"""Loaders whose images worker processes decode and augment, one image at a time.

The random numbers for an image come from a seed that its position in the epoch decides, never from
the state of a process: any number of workers, or none, yields the same batches.
"""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ablations.choices import DataChoice
from ablations.data.sampling import MicroBatch, Rank, Sampling
from ablations.data.transforms import BatchFormat, evaluation_transform, training_transform
from ablations.data.worker_dataset import (
    BadImageError,
    Batch,
    RawBatch,
    Request,
    WorkerDataset,
)
from ablations.data.worker_pool import SomeBatch, WorkerPool
from ablations.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ablations.data.images import Dataset

# Numbers that fit a CPU's cache. torch gives so few to one thread; with several threads, some would
# have to wait for a core that a worker uses, and the others for them.
CACHED_NUMBERS = 32_768


class PooledLoader(Generic[SomeBatch]):
    """Takes batches from worker processes.

    Args:
        dataset: prepares them, as of :class:`~ablations.data.worker_pool.WorkerPool`.
        device: where batches are wanted.
        workers: processes that decode; 0: this process decodes when a batch is asked for.

    Attributes:
        data_wait: seconds spent waiting for workers; may be set to 0.
        bad: the unreadable images met so far: the reason by the path.
    """

    def __init__(self, dataset: TorchDataset[Any], device: torch.device, workers: int) -> None:
        self.device = device
        self.data_wait = 0.0
        self.bad: dict[str, str] = {}
        self.pool: WorkerPool[SomeBatch] = WorkerPool(dataset, workers, pin=device.type == "cuda")

    def close(self) -> None:
        """Ends the workers; they also end with this object, or with this process."""
        self.pool.close()

    def load(self, requests: Iterable[list[Request]]) -> Iterator[SomeBatch]:
        """Yields the requested batches, in order; see :meth:`WorkerPool.load`."""
        batches = self.pool.load(requests)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.data_wait += time.perf_counter() - start
            if batch is None:
                return
            if isinstance(batch, BadImageError):
                self.pool.close()
                raise batch
            self.bad.update(batch.bad)
            yield batch

    def finish(self, batch: SomeBatch) -> tuple[Tensor, Any]:
        """Returns images, float32 (B, C, H, W), normalised, and their targets, on the device."""
        raise NotImplementedError

    def to_device(self, x: Tensor) -> Tensor:
        """Returns a tensor on the device."""
        return x.to(self.device, non_blocking=True)


class PooledTraining(PooledLoader[SomeBatch]):
    """The passes over training images; ``sampling``: which images, in which order."""

    sampling: Sampling

    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[tuple[MicroBatch, Tensor, Any]]:
        """Yields this process's micro-batches of an epoch, from an update on.

        Each comes with its images and targets, as of :meth:`finish`. Only one pass at a time: a new
        one ends the one before.

        Raises:
            BadImageError: for an unreadable image, unless such images are skipped.
            WorkerError: if a worker was killed.
        """
        waiting: collections.deque[MicroBatch] = collections.deque()  # requested, not yet loaded
        micro_batches = self.sampling.epoch(epoch, first_update)

        def requests() -> Iterator[list[Request]]:  # must not hold this object, which holds it
            for micro_batch in micro_batches:
                waiting.append(micro_batch)
                yield list(zip(micro_batch.indices.tolist(), micro_batch.seeds, strict=True))

        for batch in self.load(requests()):
            yield waiting.popleft(), *self.finish(batch)


class PooledValidation(PooledLoader[SomeBatch]):
    """The passes over validation images.

    Attributes:
        count: of all images.
        process: which of them this process loads.
        batch_size: images in a batch.
    """

    count: int
    process: Rank
    batch_size: int

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        """Yields this process's images once, with their targets; no other process has them.

        The last batch may be smaller. Only one pass at a time: a new one ends the one before.

        Raises:
            BadImageError: for an unreadable image, unless such images are skipped.
            WorkerError: if a worker was killed.
        """
        mine, size = range(self.process.rank, self.count, self.process.world_size), self.batch_size
        parts = ([(i, 0) for i in mine[at : at + size]] for at in range(0, len(mine), size))
        for batch in self.load(parts):
            if type(batch) is not Batch:  # else none of its images could be read
                yield self.finish(batch)


def repeat_channels(batches: BatchFormat, width: int) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation, from 0 to 255, of a row of pixels (width * C,) each.

    :func:`normalized` would be slow with three numbers at a time.
    """
    mean, std = (
        torch.tensor([255 * value for value in values]).repeat(width).to(batches.device)
        for values in (batches.mean, batches.std)
    )
    return mean, std


def normalized(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Returns uint8 (B, H, W, C) as float32 (B, C, H, W), in channels-last memory."""
    n, height, width, channels = pixels.shape
    x = torch.empty((n, height, width, channels), device=pixels.device)
    on_cpu = pixels.device.type == "cpu"
    rows = max(CACHED_NUMBERS // (width * channels), 1) if on_cpu else n * height
    parts = [torch.split(t.view(n * height, width * channels), rows) for t in (pixels, x)]
    for part, result in zip(*parts, strict=True):
        torch.sub(part, mean, out=result).div_(std)
    return x.permute(0, 3, 1, 2)


class _WorkerLoader(PooledLoader[RawBatch]):
    """Takes batches of bytes from worker processes, and normalises them on the device.

    Args:
        dataset: yields batches of bytes.
        labels: (N,) of all its images.
        batches: normalisation, device and memory format.
        workers: as of :class:`PooledLoader`.
    """

    def __init__(
        self,
        dataset: WorkerDataset,
        labels: NDArray[Any],
        batches: BatchFormat,
        workers: int,
    ) -> None:
        super().__init__(dataset, batches.device, workers)
        self.channels_last = batches.channels_last
        self.labels = torch.from_numpy(labels)
        self.mean, self.std = repeat_channels(batches, dataset.size)
        # Made here to find faults early, and so that forked workers need not import them again.
        _ = dataset.transform, dataset.eraser

    def finish(self, batch: RawBatch) -> tuple[Tensor, Tensor]:
        """Returns images, normalised and erased, float32 (B, C, H, W), and labels (B,)."""
        x = normalized(self.to_device(batch.pixels), self.mean, self.std)
        channels = x.shape[1]
        sizes = [channels * h * w for *_, h, w in batch.boxes]
        noises = torch.split(self.to_device(batch.noise), sizes) if sizes else ()
        for (i, top, left, h, w), noise in zip(batch.boxes, noises, strict=True):
            for channel, values in zip(x[i], noise.view(channels, h, w), strict=True):
                channel[top : top + h, left : left + w] = values
        labels = self.to_device(self.labels[batch.indices])
        return (x if self.channels_last else x.contiguous()), labels


class WorkerTrainLoader(_WorkerLoader, PooledTraining[RawBatch]):
    """Training images, in memory or on disk, augmented by worker processes.

    Args:
        dataset: the images.
        choice: how images are prepared.
        recipe: how they are augmented, except Mixup and CutMix, which mix whole batches.
        sampling: which images, in which order.
        batches, workers: as of :class:`_WorkerLoader`.
        skip_bad_images: whether the next image takes the place of an unreadable one; otherwise an
            unreadable image is an error.
    """

    def __init__(
        self,
        dataset: Dataset,
        choice: DataChoice,
        recipe: Recipe,
        sampling: Sampling,
        batches: BatchFormat,
        *,
        workers: int,
        skip_bad_images: bool = False,
    ) -> None:
        self.sampling = sampling
        images = WorkerDataset(
            dataset.reader(dataset.train),
            functools.partial(training_transform, choice, recipe, batches.mean),
            channels=dataset.channels,
            size=choice.image_size,
            skip=skip_bad_images,
            training=True,
            erasing=recipe.random_erasing,
        )
        super().__init__(images, dataset.train_labels, batches, workers)


class WorkerValidationLoader(_WorkerLoader, PooledValidation[RawBatch]):
    """Validation images, in memory or on disk, prepared by worker processes.

    Args:
        dataset: the images.
        choice: how images are prepared.
        batches, workers: as of :class:`_WorkerLoader`.
        batch_size: images in a batch.
        process: which of all images this process loads.
        skip_bad_images: whether unreadable images are left out; otherwise they are an error.

    Attributes:
        source: where the images are, for messages.
    """

    def __init__(
        self,
        dataset: Dataset,
        choice: DataChoice,
        batches: BatchFormat,
        *,
        batch_size: int,
        process: Rank = Rank(),  # noqa: B008  # frozen
        workers: int,
        skip_bad_images: bool = False,
    ) -> None:
        self.source, self.count = dataset.source, len(dataset.val)
        self.batch_size, self.process = batch_size, process
        images = WorkerDataset(
            dataset.reader(dataset.val),
            functools.partial(evaluation_transform, choice),
            channels=dataset.channels,
            size=choice.image_size,
            skip=skip_bad_images,
        )
        super().__init__(images, dataset.val_labels, batches, workers)
