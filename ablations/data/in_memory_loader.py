"""Loaders of small images, which are all kept and augmented on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ablations.choices import DataChoice
from ablations.data.sampling import MicroBatch, Rank, Sampling
from ablations.data.transforms import BatchFormat
from ablations.recipe import Recipe

if TYPE_CHECKING:
    from ablations.data.images import InMemoryDataset


class _InMemoryLoader:
    data_wait = 0.0  # images are on the device already
    bad: Mapping[str, str] = MappingProxyType({})

    def __init__(self, batches: BatchFormat) -> None:
        self.mean, self.std = (
            torch.tensor(values).view(-1, 1, 1).to(batches.device)
            for values in (batches.mean, batches.std)
        )
        self.layout = torch.channels_last if batches.channels_last else torch.contiguous_format

    def _normalize(self, x: Tensor) -> Tensor:
        return ((x.float() / 255 - self.mean) / self.std).contiguous(memory_format=self.layout)

    def close(self) -> None:
        """Does nothing: there are no worker processes."""


class InMemoryTrainLoader(_InMemoryLoader):
    """Training images on one device, cropped and flipped there.

    Args:
        dataset: the images.
        choice: the size the network sees; smaller images are padded evenly, larger ones cropped in
            the centre.
        recipe: the augmentation.
        sampling: which images, in which order.
        batches: normalisation, device and memory format; the images are kept on the device.
    """

    def __init__(
        self,
        dataset: InMemoryDataset,
        choice: DataChoice,
        recipe: Recipe,
        sampling: Sampling,
        batches: BatchFormat,
    ) -> None:
        super().__init__(batches)
        self.recipe, self.sampling = recipe, sampling
        self.images = fit_size(torch.from_numpy(dataset.train.copy()), choice.image_size)
        self.images = self.images.to(batches.device)
        self.labels = torch.from_numpy(dataset.train_labels).to(batches.device)

    def epoch(
        self, epoch: int, first_update: int = 0
    ) -> Iterator[tuple[MicroBatch, Tensor, Tensor]]:
        """Yields this process's micro-batches: images (B, C, H, W) and labels (B,)."""
        for batch in self.sampling.epoch(epoch, first_update):
            indices = batch.indices.to(self.images.device)
            x = self._normalize(self._augment(self.images[indices], batch.seeds))
            yield batch, x, self.labels[indices]

    def _augment(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Crops each image from its padded form, and flips some, as its seed says; (B, C, H, W).

        The remainders of the seed give the position of the crop, and then the flip.
        """
        n, _, height, width = x.shape
        pad = self.recipe.crop_padding or 0
        seed = torch.tensor(seeds, device=x.device)
        seed, top = seed // (2 * pad + 1), seed % (2 * pad + 1)
        seed, left = seed // (2 * pad + 1), seed % (2 * pad + 1)
        flip = (seed % 2**20) < self.recipe.flip * 2**20
        down, right = (torch.arange(size, device=x.device) for size in (height, width))
        rows = top[:, None] + down  # (B, H)
        columns = left[:, None] + torch.where(flip[:, None], width - 1 - right, right)  # (B, W)
        image = torch.arange(n, device=x.device).view(n, 1, 1)
        padded = F.pad(x, (pad, pad, pad, pad))
        # Indexing all three at once puts the channels last: (B, H, W, C).
        return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class InMemoryValidationLoader(_InMemoryLoader):
    """This process's validation images on one device, not augmented.

    Args:
        dataset: the images.
        choice: the size the network sees, as of :class:`InMemoryTrainLoader`.
        process: which of all images this process loads.
        batches: normalisation, device and memory format; the images are kept on the device.
        batch_size: images in a batch.
    """

    def __init__(
        self,
        dataset: InMemoryDataset,
        choice: DataChoice,
        process: Rank,
        batches: BatchFormat,
        batch_size: int = 500,
    ) -> None:
        super().__init__(batches)
        self.source, self.batch_size = dataset.source, batch_size
        mine = slice(process.rank, None, process.world_size)
        self.images = fit_size(torch.from_numpy(dataset.val[mine].copy()), choice.image_size)
        self.images = self.images.to(batches.device)
        self.labels = torch.from_numpy(dataset.val_labels[mine].copy()).to(batches.device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images (B, C, H, W) and labels (B,)."""
        parts = (torch.split(x, self.batch_size) for x in (self.images, self.labels))
        for x, labels in zip(*parts, strict=True):
            yield self._normalize(x), labels


def fit_size(x: Tensor, size: int) -> Tensor:
    """Pads with black or crops, evenly, to (N, C, size, size)."""
    height, width = x.shape[-2:]
    left, top = (size - width) // 2, (size - height) // 2
    return F.pad(x, (left, size - width - left, top, size - height - top))
