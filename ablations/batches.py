"""Batches of images, kept and augmented on the device; seed and epoch alone decide them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ablations.data import Images
from ablations.recipe import Recipe


class Batches:
    """All images on one device, as training and validation batches.

    Args:
        images: what to serve.
        image_size: height and width in pixels that the network sees; smaller images are padded
            evenly, larger ones cropped in the centre.
        recipe: batch size and augmentation.
        device: where the images are kept and augmented.
    """

    def __init__(
        self, images: Images, image_size: int, recipe: Recipe, device: torch.device
    ) -> None:
        self.recipe = recipe
        self.train = _fit(torch.from_numpy(images.train.copy()), image_size).to(device)
        self.val = _fit(torch.from_numpy(images.val.copy()), image_size).to(device)
        self.train_labels = torch.from_numpy(images.train_labels).to(device)
        self.val_labels = torch.from_numpy(images.val_labels).to(device)
        pixels = torch.from_numpy(images.train.copy()).double() / 255  # before padding
        self.mean = pixels.mean((0, 2, 3)).float().to(device).view(-1, 1, 1)
        self.std = pixels.std((0, 2, 3)).float().to(device).view(-1, 1, 1)
        self.device = device

    @property
    def per_epoch(self) -> int:
        """Training batches in an epoch; an incomplete last one is left out, as by the paper."""
        return max(len(self.train) // self.recipe.batch_size, 1)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields one epoch of training batches: images (B, channels, H, W) and labels (B,).

        Args:
            generator: on the CPU, so that order and augmentation are the same on every device.
        """
        order = torch.randperm(len(self.train), generator=generator)
        size = min(self.recipe.batch_size, len(order))
        for batch in order[: self.per_epoch * size].view(-1, size):
            indices = batch.to(self.device)
            x = self._augment(self.train[indices], generator)
            yield self._normalise(x), self.train_labels[indices]

    def validation(self, size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields every validation image once, unaugmented, with its label."""
        images, labels = torch.split(self.val, size), torch.split(self.val_labels, size)
        for x, y in zip(images, labels, strict=True):
            yield self._normalise(x), y

    def _normalise(self, x: Tensor) -> Tensor:
        x = (x.float() / 255 - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last)

    def _augment(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Crops each image at random out of its padded self, and flips some; (B, C, H, W)."""
        n, _, height, width = x.shape
        pad = self.recipe.crop_padding

        def offsets(high: int) -> Tensor:
            return torch.randint(0, high + 1, (n, 1), generator=generator).to(self.device)

        top, left = offsets(2 * pad), offsets(2 * pad)
        flip = (torch.rand(n, 1, generator=generator) < self.recipe.flip).to(self.device)
        down, right = (torch.arange(size, device=self.device) for size in (height, width))
        rows = top + down  # (B, H)
        columns = left + torch.where(flip, width - 1 - right, right)  # (B, W)
        image = torch.arange(n, device=self.device).view(n, 1, 1)
        padded = F.pad(x, (pad, pad, pad, pad))
        # Indexing all three at once puts the channels last: (B, H, W, C).
        return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _fit(x: Tensor, size: int) -> Tensor:
    """Pads with black or crops, evenly, to (N, C, size, size)."""
    height, width = x.shape[-2:]
    left, top = (size - width) // 2, (size - height) // 2
    return F.pad(x, (left, size - width - left, top, size - height - top))
