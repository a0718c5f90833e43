"""Loaders of images with objects or label maps; the package's docstring has their interface.

Random numbers for an image come from a seed that its position in the epoch decides, as for
classification: any number of workers and processes yields the same micro-batches.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ablations.data.dense.splits import IGNORED, Objects, Split
from ablations.data.dense.transforms import DenseTransform
from ablations.data.sampling import Rank, Sampling
from ablations.data.transforms import BatchFormat
from ablations.data.worker_dataset import BadImageError, Batch, Request, read_or_skip
from ablations.data.worker_loader import (
    PooledLoader,
    PooledTraining,
    PooledValidation,
    normalized,
    repeat_channels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MULTIPLE = 32  # that the sides of a detector's images are padded to

Detection: TypeAlias = "dict[str, Any]"
Targets = TypeVar("Targets")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """An image and its target, transformed.

    Attributes:
        index: number of the image.
        original: its height and width before the transform.
        pixels: uint8 (H, W, 3).
        target: its objects or its label map; None: not read.
    """

    index: int
    original: tuple[int, int]
    pixels: NDArray[np.uint8]
    target: Any


@dataclasses.dataclass
class DenseBatch(Batch, Generic[Targets]):
    """A batch of padded images.

    Attributes:
        pixels: uint8 (B, H, W, 3).
        sizes: height and width of each image without its padding.
    """

    pixels: Tensor
    sizes: list[tuple[int, int]]

    def targets(self, to_device: Callable[[Tensor], Tensor]) -> Targets:
        """Returns the targets on the device."""
        raise NotImplementedError


@dataclasses.dataclass
class _Tests(DenseBatch[list[Detection]]):
    """Images to be tested, whose objects are not read."""

    indices: list[int]
    originals: list[tuple[int, int]]

    def targets(self, to_device: Callable[[Tensor], Tensor]) -> list[Detection]:  # noqa: ARG002
        rows = zip(self.indices, self.sizes, self.originals, strict=True)
        return [{"index": i, "size": s, "original": o} for i, s, o in rows]


@dataclasses.dataclass
class _Objects(DenseBatch[list[Detection]]):
    """Images with the objects of all of them, one image after the other.

    Attributes:
        counts: number of objects and of ignored boxes in each image.
    """

    counts: list[tuple[int, int]]
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    ignored: Tensor

    def targets(self, to_device: Callable[[Tensor], Tensor]) -> list[Detection]:
        found, crowds = ([pair[i] for pair in self.counts] for i in (0, 1))
        parts = {
            name: torch.split(to_device(getattr(self, name)), counts)
            for name, counts in (
                ("boxes", found), ("labels", found), ("masks", found), ("ignored", crowds)
            )
        }  # fmt: skip
        return [
            {name: part[i] for name, part in parts.items()} | {"size": size}
            for i, size in enumerate(self.sizes)
        ]


@dataclasses.dataclass
class _Labels(DenseBatch[Tensor]):
    """Images with label maps: ``labels``, uint8 (B, H, W)."""

    labels: Tensor

    def targets(self, to_device: Callable[[Tensor], Tensor]) -> Tensor:
        return to_device(self.labels).long()


Collate: TypeAlias = Callable[[Sequence[Prepared], dict[str, str]], DenseBatch[Targets]]


def _pad(images: Sequence[Prepared], height: int, width: int) -> Tensor:
    """Returns images (B, height, width, 3), padded on the right and at the bottom."""
    pixels = torch.zeros((len(images), height, width, 3), dtype=torch.uint8)
    for image, padded in zip(images, pixels.numpy(), strict=True):
        padded[: image.pixels.shape[0], : image.pixels.shape[1]] = image.pixels
    return pixels


def _pad_to_multiple(images: Sequence[Prepared]) -> Tensor:
    height, width = (
        -(-max(image.pixels.shape[axis] for image in images) // MULTIPLE) * MULTIPLE
        for axis in (0, 1)
    )
    return _pad(images, height, width)


def _sizes(images: Sequence[Prepared]) -> list[tuple[int, int]]:
    return [(image.pixels.shape[0], image.pixels.shape[1]) for image in images]


def collate_tests(images: Sequence[Prepared], bad: dict[str, str]) -> DenseBatch[list[Detection]]:
    """Returns a batch of images whose objects are not read."""
    indices, originals = [image.index for image in images], [image.original for image in images]
    return _Tests(bad, _pad_to_multiple(images), _sizes(images), indices, originals)


def collate_objects(images: Sequence[Prepared], bad: dict[str, str]) -> DenseBatch[list[Detection]]:
    """Returns a batch of images with objects."""
    pixels = _pad_to_multiple(images)
    objects: list[Objects] = [image.target for image in images]
    counts = [(len(o.boxes), len(o.ignored)) for o in objects]
    masks = torch.zeros((sum(n for n, _ in counts), *pixels.shape[1:3]), dtype=torch.uint8)
    for o, part in zip(objects, torch.split(masks, [n for n, _ in counts]), strict=True):
        part.numpy()[:, : o.masks.shape[1], : o.masks.shape[2]] = o.masks
    boxes, labels, ignored = (
        torch.from_numpy(np.concatenate([getattr(o, name) for o in objects]))
        for name in ("boxes", "labels", "ignored")
    )
    return _Objects(bad, pixels, _sizes(images), counts, boxes, labels, masks, ignored)


def collate_labels(images: Sequence[Prepared], bad: dict[str, str]) -> DenseBatch[Tensor]:
    """Returns a batch of images with label maps; the largest label map decides its size."""
    height, width = (max(image.target.shape[axis] for image in images) for axis in (0, 1))
    labels = torch.full((len(images), height, width), IGNORED, dtype=torch.uint8)
    for image, padded in zip(images, labels.numpy(), strict=True):
        padded[: image.target.shape[0], : image.target.shape[1]] = image.target
    return _Labels(bad, _pad(images, height, width), _sizes(images), labels)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads an image and, unless it is for the test of a detector, its target."""

    split: Split[Any]
    targets: bool

    def __len__(self) -> int:
        return len(self.split)

    def path(self, index: int) -> str:
        return self.split.path(index)

    def __call__(self, index: int) -> tuple[NDArray[np.uint8], Any]:
        return self.split.pixels(index), self.split.target(index) if self.targets else None


class _DenseWorkerDataset(TorchDataset[Any]):
    """Images prepared a batch at a time; each worker has a copy.

    Args:
        read: returns an image and its target by number.
        transform: of both.
        collate: makes a batch of them.
        skip: whether unreadable images are skipped.
        training: whether the next image takes the place of an unreadable one.
    """

    def __init__(
        self,
        read: _Reader,
        transform: DenseTransform[Any],
        collate: Collate[Any],
        *,
        skip: bool,
        training: bool,
    ) -> None:
        self.read, self.transform, self.collate = read, transform, collate
        self.skip, self.training = skip, training

    def __getitems__(self, requests: Sequence[Request]) -> Batch | BadImageError:
        """Returns a batch, or an error: one that is raised would not arrive unchanged."""
        bad: dict[str, str] = {}
        images = []
        try:
            for number, seed in requests:
                found, index = read_or_skip(
                    self.read, number, bad, skip=self.skip, training=self.training
                )
                if found is not None:
                    original = found[0].shape[0], found[0].shape[1]
                    rng = random.Random(seed)  # noqa: S311  # its algorithm is documented
                    images.append(Prepared(index, original, *self.transform(*found, rng)))
        except BadImageError as error:
            return error
        return self.collate(images, bad) if images else Batch(bad)


class _DenseLoader(PooledLoader[Any], Generic[Targets]):
    """Takes batches from worker processes, and normalises them on the device."""

    def __init__(self, dataset: _DenseWorkerDataset, batches: BatchFormat, workers: int) -> None:
        super().__init__(dataset, batches.device, workers)
        self.batches = batches

    def finish(self, batch: DenseBatch[Targets]) -> tuple[Tensor, Targets]:
        """Returns images, normalised, 0 where padded, float32 (B, 3, H, W), and targets."""
        width = batch.pixels.shape[2]
        x = normalized(self.to_device(batch.pixels), *repeat_channels(self.batches, width))
        for image, (h, w) in zip(x, batch.sizes, strict=True):
            image[:, h:] = 0
            image[:, :, w:] = 0
        images = x if self.batches.channels_last else x.contiguous()
        return images, batch.targets(self.to_device)


class DenseTrainLoader(_DenseLoader[Targets], PooledTraining[Any]):
    """Training images, augmented.

    Args:
        split: the images and their targets.
        transform: the augmentation.
        collate: :func:`collate_objects` or :func:`collate_labels`.
        sampling: which images, in which order.
        batches: normalisation, device and memory format.
        workers: processes that read and augment; 0: this process does, as for small images in
            memory.
        skip_bad_images: whether the next image takes the place of an unreadable one; otherwise an
            unreadable image is an error.
    """

    def __init__(
        self,
        split: Split[Any],
        transform: DenseTransform[Any],
        collate: Collate[Targets],
        sampling: Sampling,
        batches: BatchFormat,
        *,
        workers: int,
        skip_bad_images: bool = False,
    ) -> None:
        self.sampling = sampling
        read = _Reader(split, targets=True)
        images = _DenseWorkerDataset(read, transform, collate, skip=skip_bad_images, training=True)
        super().__init__(images, batches, workers)


class DenseValidationLoader(_DenseLoader[Targets], PooledValidation[Any]):
    """Validation images.

    Args:
        split: the images and their targets.
        transform: how they are resized.
        collate: :func:`collate_tests`, for which no objects are read, or :func:`collate_labels`.
        batches: normalisation, device and memory format.
        source: where the images are, for messages.
        batch_size: images in a batch; those of a batch with label maps must have the same size.
        process: which of all images this process loads.
        test: applies a model to images, for the evaluation of label maps.
        classes: their names.
        workers: as of :class:`DenseTrainLoader`.
        skip_bad_images: whether unreadable images are left out; otherwise they are an error.
    """

    def __init__(
        self,
        split: Split[Any],
        transform: DenseTransform[Any],
        collate: Collate[Targets],
        batches: BatchFormat,
        *,
        source: str,
        batch_size: int = 1,
        process: Rank = Rank(),  # noqa: B008  # frozen
        test: Callable[[Any, Tensor], Tensor] | None = None,
        classes: Sequence[str] = (),
        workers: int,
        skip_bad_images: bool = False,
    ) -> None:
        self.source, self.split, self.test, self.classes = source, split, test, classes
        self.count, self.batch_size, self.process = len(split), batch_size, process
        read = _Reader(split, targets=collate is not collate_tests)
        self.images = _DenseWorkerDataset(
            read, transform, collate, skip=skip_bad_images, training=False
        )
        super().__init__(self.images, batches, workers)

    def prepare(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, Targets]:
        """Returns an image (H, W, 3) of any source as a batch, with targets of no content."""
        size = pixels.shape[0], pixels.shape[1]
        rng = random.Random(0)  # noqa: S311  # which no validation uses
        nothing = np.zeros(size, np.uint8)
        image = Prepared(0, size, *self.images.transform(pixels, nothing, rng))
        return self.finish(self.images.collate([image], {}))
