"""The order of the images in an epoch, and each process's part of them.

Only seed and position decide the order. The images of an update form micro-batches of a fixed size;
the processes only divide the micro-batches among them. Thus a run has the same micro-batches with
the same augmentation on one device or on thirty-two, and after it is resumed at any update.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ablations.fit import batch_faults
from modernize.errors import UsageError

if TYPE_CHECKING:
    from ablations.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Rank:
    """This process among all processes that train one network.

    Attributes:
        rank: its number, from 0.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1


@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """Images that pass through the network at once.

    Attributes:
        update: its update, counted from 0 within the epoch.
        seed: for random numbers that concern the whole micro-batch.
        indices: (B,) numbers of the images.
        seeds: a seed for each image's augmentation.
    """

    update: int
    seed: int
    indices: Tensor
    seeds: list[int]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The order of the training images of one run.

    Attributes:
        images: number of training images.
        batch_size: images per update, over all processes.
        micro_batch_size: images that pass through the network at once.
        seed: the run's.
        process: this process.
        iterations: updates after which the run ends; None: it ends with an epoch.

    Raises:
        UsageError: if the micro-batches of an update cannot be divided evenly among the processes.
    """

    images: int
    batch_size: int
    micro_batch_size: int
    seed: int
    process: Rank = Rank()
    iterations: int | None = None

    def __post_init__(self) -> None:
        sizes = self.images, self.batch_size, self.micro_batch_size
        if faults := batch_faults(*sizes, self.process.world_size):
            raise UsageError(" ".join(faults))

    @classmethod
    def of(cls, recipe: Recipe, images: int, seed: int, process: Rank = Rank()) -> Sampling:
        """Returns the order of a run with this recipe, number of training images, and seed."""
        sizes = images, recipe.batch_size, recipe.micro_batch_size
        return cls(*sizes, seed, process, recipe.iterations)

    @property
    def batches(self) -> int:
        """Micro-batches in an update, over all processes."""
        return self.batch_size // self.micro_batch_size

    @property
    def accumulation(self) -> int:
        """Micro-batches in an update that this process handles, one after the other."""
        return self.batches // self.process.world_size

    @property
    def updates(self) -> int:
        """Updates in an epoch; an incomplete last one is omitted, as in the paper.

        The libraries with which the authors trained detectors and segmenters differ. One fills the
        last batch of an epoch with images that it had before: 7330 updates of COCO, here 7329. Its
        batches are all of wide or all of high images, too; here they are mixed. The other library
        has no epochs.
        """
        return self.images // self.batch_size

    def updates_in(self, epoch: int) -> int:
        """Returns the updates in one epoch: fewer in the last one of a run that ends inside it."""
        if self.iterations is None:
            return self.updates
        return min(self.updates, self.iterations - epoch * self.updates)

    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[MicroBatch]:
        """Yields this process's micro-batches of an epoch, from an update on."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        order = torch.randperm(self.images, generator=generator)
        for update in range(first_update, self.updates_in(epoch)):
            for turn in range(self.accumulation):
                number = self.process.rank * self.accumulation + turn
                start = update * self.batch_size + number * self.micro_batch_size
                positions = range(start, start + self.micro_batch_size)
                yield MicroBatch(
                    update=update,
                    seed=derive(self.seed, "batch", epoch, update, number),
                    indices=order[start : start + self.micro_batch_size],
                    seeds=[derive(self.seed, "image", epoch, p) for p in positions],
                )


def derive(*parts: int | str) -> int:
    """Returns a seed of 63 bits; other parts give another seed."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
