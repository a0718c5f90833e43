"""Loaders whose images worker processes decode and augment, one image at a time.

The random numbers for an image come from a seed that its position in the epoch decides, never from
the state of a process: any number of workers, or none, yields the same batches.
"""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ablations.choices import DataChoice
from ablations.data.sampling import MicroBatch, Rank, Sampling
from ablations.data.transforms import BatchFormat, evaluation_transform, training_transform
from ablations.data.worker_dataset import (
    BadImageError,
    RawBatch,
    Request,
    WorkerDataset,
)
from ablations.data.worker_pool import WorkerPool
from ablations.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ablations.data.images import Dataset

# Numbers that fit a CPU's cache. torch gives so few to one thread; with several threads, some would
# have to wait for a core that a worker uses, and the others for them.
CACHED_NUMBERS = 32_768


class _WorkerLoader:
    """Takes batches of bytes from worker processes, and normalises them on the device.

    Args:
        dataset: yields batches of bytes.
        labels: (N,) of all its images.
        batches: normalisation, device and memory format.
        workers: processes that decode; 0: this process decodes when a batch is asked for.

    Attributes:
        data_wait: seconds spent waiting for workers; may be set to 0.
        bad: the unreadable images met so far: the reason by the path.
    """

    def __init__(
        self,
        dataset: WorkerDataset,
        labels: NDArray[Any],
        batches: BatchFormat,
        workers: int,
    ) -> None:
        self.device, self.channels_last = batches.device, batches.channels_last
        self.data_wait = 0.0
        self.bad: dict[str, str] = {}
        self.labels = torch.from_numpy(labels)
        # As wide as a row of pixels: three numbers at a time would be slow.
        self.mean, self.std = (
            torch.tensor([255 * value for value in values]).repeat(dataset.size).to(self.device)
            for values in (batches.mean, batches.std)
        )
        # Made here to find faults early, and so that forked workers need not import them again.
        _ = dataset.transform, dataset.eraser
        self.pool = WorkerPool(dataset, workers, pin=self.device.type == "cuda")

    def close(self) -> None:
        """Ends the workers; they also end with this object, or with this process."""
        self.pool.close()

    def _load(self, requests: Iterable[list[Request]]) -> Iterator[RawBatch]:
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

    def _finish(self, batch: RawBatch) -> tuple[Tensor, Tensor]:
        """Returns images, normalised and erased, float32 (B, C, H, W), and labels (B,)."""
        pixels = self._to_device(batch.pixels)
        n, height, width, channels = pixels.shape
        x = torch.empty((n, height, width, channels), device=self.device)
        on_cpu = self.device.type == "cpu"
        rows = max(CACHED_NUMBERS // (width * channels), 1) if on_cpu else n * height
        parts = [torch.split(t.view(n * height, width * channels), rows) for t in (pixels, x)]
        for part, result in zip(*parts, strict=True):
            torch.sub(part, self.mean, out=result).div_(self.std)
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W), its memory still (B, H, W, C)
        sizes = [channels * h * w for *_, h, w in batch.boxes]
        noises = torch.split(self._to_device(batch.noise), sizes) if sizes else ()
        for (i, top, left, h, w), noise in zip(batch.boxes, noises, strict=True):
            for channel, values in zip(x[i], noise.view(channels, h, w), strict=True):
                channel[top : top + h, left : left + w] = values
        labels = self._to_device(self.labels[batch.indices])
        return (x if self.channels_last else x.contiguous()), labels

    def _to_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, non_blocking=True)


class WorkerTrainLoader(_WorkerLoader):
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

    def epoch(
        self, epoch: int, first_update: int = 0
    ) -> Iterator[tuple[MicroBatch, Tensor, Tensor]]:
        """Yields this process's micro-batches of an epoch, from an update on.

        Each comes with its images, float32 (B, C, H, W), augmented and normalised, and their labels
        (B,), both on the device. Only one pass at a time: a new one ends the one before.

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

        for batch in self._load(requests()):
            x, labels = self._finish(batch)
            yield waiting.popleft(), x, labels


class WorkerValidationLoader(_WorkerLoader):
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
        self.source, self.batch_size, self.process = dataset.source, batch_size, process
        images = WorkerDataset(
            dataset.reader(dataset.val),
            functools.partial(evaluation_transform, choice),
            channels=dataset.channels,
            size=choice.image_size,
            skip=skip_bad_images,
        )
        super().__init__(images, dataset.val_labels, batches, workers)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields this process's images once, with their labels; no other process has them.

        Images are float32 (B, C, H, W), normalised, labels (B,), both on the device; the last batch
        may be smaller. Only one pass at a time: a new one ends the one before.

        Raises:
            BadImageError: for an unreadable image, unless such images are skipped.
            WorkerError: if a worker was killed.
        """
        mine = range(self.process.rank, len(self.labels), self.process.world_size)
        size = self.batch_size
        requests = ([(i, 0) for i in mine[at : at + size]] for at in range(0, len(mine), size))
        for batch in self._load(requests):
            if batch.indices:
                yield self._finish(batch)
