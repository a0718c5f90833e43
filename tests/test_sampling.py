"""Which images are served when: the same on one process and on many, from any point on."""

import pytest
import torch

from ablations.data.sampling import MicroBatch, Rank, Sampling, derive
from modernize.errors import UsageError


def sampling(world: int = 1, rank: int = 0, **changes: int) -> Sampling:
    values = {"images": 103, "batch_size": 24, "micro_batch_size": 4, "seed": 7, **changes}
    return Sampling(**values, rank=Rank(rank, world))


def key(batch: MicroBatch) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    return batch.update, batch.seed, tuple(batch.indices.tolist()), tuple(batch.seeds)


def test_an_epoch_serves_each_image_at_most_once() -> None:
    batches = list(sampling().epoch(0))
    assert len(batches) == 4 * 6  # 103 images: four updates of six micro-batches; 7 are left out
    served = torch.cat([b.indices for b in batches])
    assert len(served.unique()) == len(served) == 96
    assert [b.update for b in batches] == [i // 6 for i in range(24)]
    assert len({s for b in batches for s in b.seeds}) == 96


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first = [key(b) for b in sampling().epoch(0)]
    assert first == [key(b) for b in sampling().epoch(0)]
    assert first != [key(b) for b in sampling().epoch(1)]
    assert first != [key(b) for b in sampling(seed=8).epoch(0)]


@pytest.mark.parametrize("world", [2, 3, 6])
def test_processes_share_the_very_same_device_batches(world: int) -> None:
    alone = sorted(key(b) for b in sampling().epoch(2))
    shares = [list(sampling(world, rank).epoch(2)) for rank in range(world)]
    assert {len(s) for s in shares} == {24 // world}
    assert sorted(key(b) for rank in shares for b in rank) == alone


def test_going_on_from_an_update_serves_the_rest() -> None:
    whole = [key(b) for b in sampling(2, 1).epoch(3)]
    assert [key(b) for b in sampling(2, 1).epoch(3, first_update=3)] == whole[9:]
    assert not list(sampling().epoch(0, first_update=4))


def test_what_cannot_be_shared_out_is_refused_with_what_can() -> None:
    with pytest.raises(UsageError, match=r"4 processes.*evenly among 1, 2, 3, 6 processes"):
        sampling(world=4)
    with pytest.raises(UsageError, match="batch_size 200 is more than the 103 training images"):
        sampling(batch_size=200)


def test_seeds_are_told_apart_by_every_part() -> None:
    seeds = {derive(a, b) for a in range(30) for b in range(30)} | {derive(1, "x"), derive("1x")}
    assert len(seeds) == 902
    assert all(0 <= s < 2**63 for s in seeds)
