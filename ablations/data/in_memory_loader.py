"""Small images, all kept and augmented on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ablations.data.datasets import Images
from ablations.data.sampling import MicroBatch, Sampling
from ablations.recipe import DataChoice, Recipe


class Batches:
    """All images on one device, as training and validation batches.

    Args:
        images: what to serve.
        choice: the size the network sees (smaller images are padded evenly, larger ones cropped in
            the centre), and the mean and deviation to normalise with.
        recipe: the augmentation.
        sampling: which images, and whose turn it is.
        device: where the images are kept and augmented.
        channels_last: how batches are laid out in memory.
    """

    data_wait = 0.0  # seconds spent waiting for images: they are here
    bad_images = 0
    bad: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        images: Images,
        choice: DataChoice,
        recipe: Recipe,
        sampling: Sampling,
        device: torch.device,
        *,
        channels_last: bool = True,
    ) -> None:
        self.recipe, self.sampling, self.device = recipe, sampling, device
        self.source, self.chance = images.source, images.chance
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        pixels = torch.from_numpy(images.train.copy()).double() / 255
        mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
        self.mean = _per_channel(choice.mean, mean).to(device)
        self.std = _per_channel(choice.std, std).to(device)
        self.train = _fit(torch.from_numpy(images.train.copy()), choice.image_size).to(device)
        own = slice(sampling.rank.rank, None, sampling.rank.world_size)
        self.val = _fit(torch.from_numpy(images.val[own].copy()), choice.image_size).to(device)
        self.train_labels = torch.from_numpy(images.train_labels).to(device)
        self.val_labels = torch.from_numpy(images.val_labels[own].copy()).to(device)

    def training(
        self, epoch: int, first_update: int = 0
    ) -> Iterator[tuple[MicroBatch, Tensor, Tensor]]:
        """Yields this process's micro-batches: images (B, channels, H, W) and labels (B,)."""
        for batch in self.sampling.epoch(epoch, first_update):
            indices = batch.indices.to(self.device)
            x = self._normalise(self._augment(self.train[indices], batch.seeds))
            yield batch, x, self.train_labels[indices]

    def validation(self, size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields this process's validation images once, unaugmented, with their labels."""
        images, labels = torch.split(self.val, size), torch.split(self.val_labels, size)
        for x, y in zip(images, labels, strict=True):
            yield self._normalise(x), y

    def _normalise(self, x: Tensor) -> Tensor:
        return ((x.float() / 255 - self.mean) / self.std).contiguous(memory_format=self.layout)

    def _augment(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Crops each image out of its padded self, and flips some, as its seed says; (B, C, H, W).

        A seed's low digits, so to speak, are the crop's place, and the next the flip.
        """
        n, _, height, width = x.shape
        pad = self.recipe.crop_padding or 0
        seed = torch.tensor(seeds, device=self.device)
        seed, top = seed // (2 * pad + 1), seed % (2 * pad + 1)
        seed, left = seed // (2 * pad + 1), seed % (2 * pad + 1)
        flip = (seed % 2**20) < self.recipe.flip * 2**20
        down, right = (torch.arange(size, device=self.device) for size in (height, width))
        rows = top[:, None] + down  # (B, H)
        columns = left[:, None] + torch.where(flip[:, None], width - 1 - right, right)  # (B, W)
        image = torch.arange(n, device=self.device).view(n, 1, 1)
        padded = F.pad(x, (pad, pad, pad, pad))
        # Indexing all three at once puts the channels last: (B, H, W, C).
        return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _per_channel(given: list[float] | None, measured: Tensor) -> Tensor:
    values = measured if given is None else torch.tensor(given)
    return values.float().view(-1, 1, 1)


def _fit(x: Tensor, size: int) -> Tensor:
    """Pads with black or crops, evenly, to (N, C, size, size)."""
    height, width = x.shape[-2:]
    left, top = (size - width) // 2, (size - height) // 2
    return F.pad(x, (left, size - width - left, top, size - height - top))
