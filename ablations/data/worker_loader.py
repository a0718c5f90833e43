"""Images decoded and augmented one by one, in worker processes, by the libraries of the authors.

What is drawn for an image is drawn from a seed that goes with its place in the epoch, never from
the state of a process: any number of workers, none among them, serves the same batches.
"""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ablations.data.datasets import Images
from ablations.data.image_folder import Folder
from ablations.data.sampling import MicroBatch, Rank, Sampling
from ablations.data.transforms import evaluation_transform, training_transform
from ablations.data.worker_dataset import BadImageError, Request, Served, Split, make_reader
from ablations.data.worker_pool import Loader
from ablations.fit import channel_faults
from ablations.recipe import DataChoice, Recipe
from modernize.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Numbers that fit a CPU's cache. torch leaves as few to one thread; of several, some would have to
# wait for a core that a worker uses, and all for them.
SMALL = 32_768


class ValidationPhotos:
    """Images, in memory or on disk, as validation batches that worker processes prepare.

    Args:
        images: what to serve.
        choice: how images are prepared.
        device: where batches are wanted.
        batch_size: images in a batch.
        rank: which of all images this process serves.
        workers: processes that decode; 0: this one does it, when asked for a batch.
        channels_last: how batches are laid out in memory.
        skip_bad_images: whether an unreadable image is left out. Else it is an error.

    Attributes:
        data_wait: seconds spent waiting for workers; set it to 0 to count anew.
        bad_images: unreadable images met so far, each counted once.
        bad: what is wrong with each of them, by its path.
        source: where the images are, for people.
        chance: part of the validation images that belongs to the most common class.

    Raises:
        UsageError: where ``mean`` or ``std`` are not one number per channel.
    """

    def __init__(
        self,
        images: Images | Folder,
        choice: DataChoice,
        device: torch.device,
        *,
        batch_size: int,
        rank: Rank = Rank(),  # noqa: B008  # frozen
        workers: int,
        channels_last: bool = True,
        skip_bad_images: bool = False,
    ) -> None:
        self.device, self.batch_size, self.rank = device, batch_size, rank
        self.channels_last, self.skip_bad_images = channels_last, skip_bad_images
        self.data_wait = 0.0
        self.bad_images = 0
        self.bad: dict[str, str] = {}
        self.source, self.chance = images.source, images.chance
        self.mean, std = normalisation(images, choice)
        # As wide as a row of pixels, for it is slow to go through memory three numbers at a time.
        self._mean = torch.tensor([255 * m for m in self.mean]).repeat(choice.image_size).to(device)
        self._std = torch.tensor([255 * s for s in std]).repeat(choice.image_size).to(device)
        self._val_labels = torch.from_numpy(images.val_labels)
        validation = Split(
            make_reader(images, images.val),
            functools.partial(evaluation_transform, choice),
            channels=images.channels,
            size=choice.image_size,
            skip=skip_bad_images,
        )
        # Built here once to find faults early, and so that workers need not import it again.
        _ = validation.transform
        self._validation = Loader(validation, workers, pin=device.type == "cuda")

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields this process's validation images once, with their labels; no other has them.

        Images are float32 (B, C, H, W), normalised, labels (B,), both on the device; the last batch
        may be smaller. One pass at a time: a new one ends the one before.

        Raises:
            BadImageError: unless such images are passed over.
            WorkerError: where a worker was killed.
        """
        mine = range(self.rank.rank, len(self._val_labels), self.rank.world_size)
        size = self.batch_size
        requests = ([(i, 0) for i in mine[at : at + size]] for at in range(0, len(mine), size))
        for served in self._serve(self._validation, requests):
            if served.indices:
                x = self._finish(served)
                yield x, self._to_device(self._val_labels[served.indices])

    def close(self) -> None:
        """Ends the workers; they also end with this object, or with the process."""
        self._validation.close()

    def _serve(self, loader: Loader, requests: Iterable[list[Request]]) -> Iterator[Served]:
        batches = loader.serve(requests)
        while True:
            start = time.perf_counter()
            served = next(batches, None)
            self.data_wait += time.perf_counter() - start
            if served is None:
                return
            if isinstance(served, BadImageError):
                loader.close()
                raise served
            self.bad.update(served.bad)
            self.bad_images = len(self.bad)
            yield served

    def _finish(self, served: Served) -> Tensor:
        """Returns the batch normalised and erased, float32 (B, C, H, W), on the device."""
        pixels = self._to_device(served.pixels)
        n, height, width, channels = pixels.shape
        x = torch.empty((n, height, width, channels), device=self.device)
        rows = max(SMALL // (width * channels), 1) if self.device.type == "cpu" else n * height
        parts = [torch.split(t.view(n * height, width * channels), rows) for t in (pixels, x)]
        for part, result in zip(*parts, strict=True):
            torch.sub(part, self._mean, out=result).div_(self._std)
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W), its memory still (B, H, W, C)
        sizes = [channels * h * w for *_, h, w in served.boxes]
        noises = torch.split(self._to_device(served.noise), sizes) if sizes else ()
        for (i, top, left, h, w), noise in zip(served.boxes, noises, strict=True):
            for channel, values in zip(x[i], noise.view(channels, h, w), strict=True):
                channel[top : top + h, left : left + w] = values
        return x if self.channels_last else x.contiguous()

    def _to_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, non_blocking=True)


class PhotoBatches(ValidationPhotos):
    """Images, in memory or on disk, as training and validation batches from worker processes.

    Validation batches are of twice as many images as go through the network in training.

    Args:
        images, choice, device, workers, channels_last: as of :class:`ValidationPhotos`.
        recipe: how training images are augmented, but for Mixup and CutMix, which mix batches.
        sampling: which images, and whose turn it is.
        skip_bad_images: whether an unreadable image is passed over: the next one by number takes
            its place in training, and validation leaves it out. Else it is an error.
    """

    def __init__(
        self,
        images: Images | Folder,
        choice: DataChoice,
        recipe: Recipe,
        sampling: Sampling,
        device: torch.device,
        *,
        workers: int,
        channels_last: bool = True,
        skip_bad_images: bool = False,
    ) -> None:
        super().__init__(
            images,
            choice,
            device,
            batch_size=2 * sampling.micro_batch_size,
            rank=sampling.rank,
            workers=workers,
            channels_last=channels_last,
            skip_bad_images=skip_bad_images,
        )
        self.sampling = sampling
        self._labels = torch.from_numpy(images.train_labels)
        training = Split(
            make_reader(images, images.train),
            functools.partial(training_transform, choice, recipe, self.mean),
            channels=images.channels,
            size=choice.image_size,
            skip=skip_bad_images,
            training=True,
            erasing=recipe.random_erasing,
        )
        _ = training.transform, training.eraser
        self._training = Loader(training, workers, pin=device.type == "cuda")

    def training(
        self, epoch: int, first_update: int = 0
    ) -> Iterator[tuple[MicroBatch, Tensor, Tensor]]:
        """Yields this process's micro-batches of an epoch, from an update on.

        Each comes with its images, float32 (B, C, H, W), augmented and normalised, and their labels
        (B,), both on the device. One pass at a time: a new one ends the one before.

        Raises:
            BadImageError: unless such images are passed over.
            WorkerError: where a worker was killed.
        """
        waiting: collections.deque[MicroBatch] = collections.deque()  # asked for ahead
        asked = self.sampling.epoch(epoch, first_update)

        def requests() -> Iterator[list[Request]]:  # must not hold this object, which holds it
            for batch in asked:
                waiting.append(batch)
                yield list(zip(batch.indices.tolist(), batch.seeds, strict=True))

        for served in self._serve(self._training, requests()):
            x = self._finish(served)
            yield waiting.popleft(), x, self._to_device(self._labels[served.indices])

    def close(self) -> None:
        """Ends the workers; they also end with this object, or with the process."""
        self._training.close()
        super().close()


def normalisation(
    images: Images | Folder, choice: DataChoice
) -> tuple[Sequence[float], Sequence[float]]:
    """Returns mean and deviation of each channel, of pixels from 0 to 1.

    What a preset leaves open is measured on training images in memory, and is ImageNet's otherwise.

    Raises:
        UsageError: where a preset names more or fewer than there are channels.
    """
    if isinstance(images, Folder):
        known: tuple[Sequence[float], Sequence[float]] = (IMAGENET_MEAN, IMAGENET_STD)
    elif choice.mean is None or choice.std is None:
        known = _measure(images.train)
    else:
        known = (choice.mean, choice.std)
    mean = known[0] if choice.mean is None else choice.mean
    std = known[1] if choice.std is None else choice.std
    if faults := channel_faults(choice, images.channels):
        raise UsageError(" ".join(faults))
    return mean, std


def _measure(pixels: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Returns mean and deviation of uint8 (N, C, H, W) by channel, from how often each value is."""
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in range(pixels.shape[1]):
        counts = np.bincount(pixels[:, channel].ravel(), minlength=256)
        mean.append(float(counts @ values / counts.sum()))
        std.append(float(np.sqrt(counts @ (values - mean[-1]) ** 2 / (counts.sum() - 1))))
    return mean, std
