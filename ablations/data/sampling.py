"""Which image stands where in an epoch, and whose turn it is; seed and position alone decide it.

An update's images fall into micro-batches of a fixed size. Devices and accumulation only share the
micro-batches out, so that the same run on one device or on thirty-two sees the same images, in the
same company, with the same augmentation; and a run that goes on from any update sees what it would
have seen.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ablations.fit import batch_faults
from modernize.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Rank:
    """Which of the processes that train one network together this one is.

    Attributes:
        rank: its number, from 0.
        world_size: how many there are.
    """

    rank: int = 0
    world_size: int = 1


@dataclasses.dataclass(frozen=True)
class MicroBatch:
    """Images that pass through the network at once.

    Attributes:
        update: the update they count towards, from 0 within the epoch.
        seed: for what is drawn for the batch as a whole.
        indices: (B,) numbers of the images.
        seeds: a seed for each image's augmentation.
    """

    update: int
    seed: int
    indices: Tensor
    seeds: list[int]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the training images of one run are served.

    Attributes:
        images: how many there are.
        batch_size: images per update, over all processes.
        micro_batch_size: images at once.
        seed: the run's.
        rank: this process's part.

    Raises:
        UsageError: where the micro-batches of an update cannot be shared out evenly.
    """

    images: int
    batch_size: int
    micro_batch_size: int
    seed: int
    rank: Rank = Rank()

    def __post_init__(self) -> None:
        sizes = self.images, self.batch_size, self.micro_batch_size
        if faults := batch_faults(*sizes, self.rank.world_size):
            raise UsageError(" ".join(faults))

    @property
    def batches(self) -> int:
        """Device batches in an update, over all processes."""
        return self.batch_size // self.micro_batch_size

    @property
    def accumulation(self) -> int:
        """Device batches in an update that this process sees, one after the other."""
        return self.batches // self.rank.world_size

    @property
    def updates(self) -> int:
        """Updates in an epoch; an incomplete last one is left out, as by the paper."""
        return self.images // self.batch_size

    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[MicroBatch]:
        """Yields this process's micro-batches of an epoch, from an update on."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        order = torch.randperm(self.images, generator=generator)
        for update in range(first_update, self.updates):
            for turn in range(self.accumulation):
                number = self.rank.rank * self.accumulation + turn
                start = update * self.batch_size + number * self.micro_batch_size
                positions = range(start, start + self.micro_batch_size)
                yield MicroBatch(
                    update=update,
                    seed=derive(self.seed, "batch", epoch, update, number),
                    indices=order[start : start + self.micro_batch_size],
                    seeds=[derive(self.seed, "image", epoch, p) for p in positions],
                )


def derive(*parts: int | str) -> int:
    """Returns a seed of 63 bits that these parts alone decide, and any other parts change."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
