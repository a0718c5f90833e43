"""The order of images: the same on one process and on many, and from any update on."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.data.images import InMemoryDataset
from ablations.data.in_memory_loader import InMemoryValidationLoader
from ablations.data.sampling import MicroBatch, Rank, Sampling, derive
from ablations.data.transforms import BatchFormat
from ablations.recipe import load_preset
from ablations.tasks.classification import Classification
from ablations.training.device_context import make_device_context
from modernize.errors import UsageError


def sampling(world: int = 1, rank: int = 0, **changes: int) -> Sampling:
    values = {"images": 103, "batch_size": 24, "micro_batch_size": 4, "seed": 7, **changes}
    return Sampling(**values, process=Rank(rank, world))


def key(batch: MicroBatch) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    return batch.update, batch.seed, tuple(batch.indices.tolist()), tuple(batch.seeds)


def test_an_epoch_has_each_image_at_most_once() -> None:
    batches = list(sampling().epoch(0))
    assert len(batches) == 4 * 6  # 103 images: four updates of six micro-batches; 7 are left out
    seen = torch.cat([b.indices for b in batches])
    assert len(seen.unique()) == len(seen) == 96
    assert [b.update for b in batches] == [i // 6 for i in range(24)]
    assert len({s for b in batches for s in b.seeds}) == 96


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first = [key(b) for b in sampling().epoch(0)]
    assert first == [key(b) for b in sampling().epoch(0)]
    assert first != [key(b) for b in sampling().epoch(1)]
    assert first != [key(b) for b in sampling(seed=8).epoch(0)]


def test_an_uneven_division_is_an_error_that_names_even_ones() -> None:
    with pytest.raises(UsageError, match=r"4 processes.*evenly among 1, 2, 3, 6 processes"):
        sampling(world=4)
    with pytest.raises(UsageError, match=r"batch_size 200 .* 103 training images"):
        sampling(batch_size=200)


def test_every_part_changes_a_seed() -> None:
    seeds = {derive(a, b) for a in range(30) for b in range(30)} | {derive(1, "x"), derive("1x")}
    assert len(seeds) == 902
    assert all(0 <= s < 2**63 for s in seeds)


class Partition(NamedTuple):
    """Sizes that fit together: a batch is world x accumulation x micro-batches."""

    images: int
    micro_batch_size: int
    accumulation: int
    world: int

    @property
    def batch_size(self) -> int:
        return self.world * self.accumulation * self.micro_batch_size

    def of(self, rank: int, world: int) -> Sampling:
        return Sampling(self.images, self.batch_size, self.micro_batch_size, 3, Rank(rank, world))


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    micro, accumulation, world = (draw(st.integers(1, most)) for most in (5, 4, 5))
    images = draw(st.integers(micro * accumulation * world, 150))
    return Partition(images, micro, accumulation, world)


@settings(deadline=None)
@given(partitions(), st.integers(0, 3))
def test_ranks_divide_an_epoch_into_whole_updates_without_repetition(
    partition: Partition, epoch: int
) -> None:
    ranks = [list(partition.of(i, partition.world).epoch(epoch)) for i in range(partition.world)]
    seen = torch.cat([batch.indices for rank in ranks for batch in rank])
    updates = partition.images // partition.batch_size
    assert len(seen.unique()) == len(seen) == updates * partition.batch_size
    assert seen.min() >= 0
    assert seen.max() < partition.images
    for rank in ranks:
        assert [b.update for b in rank] == [
            i // partition.accumulation for i in range(updates * partition.accumulation)
        ]
        assert {len(b.indices) for b in rank} == {partition.micro_batch_size}


@settings(deadline=None)
@given(partitions(), st.integers(0, 3), st.data())
def test_any_world_size_and_any_first_update_see_the_same_micro_batches(
    partition: Partition, epoch: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, partition.images // partition.batch_size))
    alone = [key(b) for b in partition.of(0, 1).epoch(epoch)]
    ranks = [
        [key(b) for b in partition.of(rank, partition.world).epoch(epoch, first)]
        for rank in range(partition.world)
    ]
    assert sorted(b for rank in ranks for b in rank) == sorted(b for b in alone if b[0] >= first)


@settings(deadline=None)
@given(
    images=st.integers(1, 40), world=st.integers(1, 6), batch=st.integers(1, 9), seed=st.integers(0)
)
def test_an_evaluation_counts_each_image_once_over_any_world(
    images: int, world: int, batch: int, seed: int
) -> None:
    """The network answers with the pixel's class; every third label is another one."""
    rng = np.random.default_rng(seed % 2**32)
    answers = rng.integers(0, 10, images)
    labels = np.where(rng.integers(0, 3, images) == 0, (answers + 1) % 10, answers)
    pixels = answers.astype(np.uint8).reshape(-1, 1, 1, 1)
    dataset = InMemoryDataset("made", pixels, labels, pixels, labels, "0")
    preset = load_preset("nano")
    choice = preset.data.model_copy(update={"image_size": 1})
    context = make_device_context("cpu", preset.compute)
    context = dataclasses.replace(context, dtype=torch.float32)
    counts = torch.zeros(2)
    for rank in range(min(world, images)):
        loader = InMemoryValidationLoader(
            dataset,
            choice,
            Rank(rank, world),
            BatchFormat([0.0], [1 / 255], context.device),
            batch_size=batch,
        )
        found = Classification().evaluate(Answers(), loader, context)
        counts += torch.tensor([found.images, round(found.values["top1"] * found.images / 100)])
    assert counts.tolist() == [images, (answers == labels).sum()]


class Answers(torch.nn.Module):
    """Ranks the class first that is the value of the image's only pixel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(x.flatten().round().long(), 10).float()
