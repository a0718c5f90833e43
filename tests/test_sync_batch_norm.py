"""SyncBatchNorm for CPUs, with one process that stands for several equal ones."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from ablations.training.sync_batch_norm import SyncBatchNorm, synchronise


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(3), (4, 3, 5, 2)),
        (nn.BatchNorm2d(3, affine=False, momentum=None), (4, 3, 5, 2)),
        (nn.BatchNorm1d(3, track_running_stats=False), (6, 3)),
    ],
)
def test_two_equal_processes_are_one_with_both_micro_batches(
    norm: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda x: x.mul_(2))
    alone = nn.Sequential(copy.deepcopy(norm))
    parts: nn.Module = nn.Sequential(copy.deepcopy(norm))
    before = parts.state_dict()
    parts = synchronise(parts, torch.device("cpu"))
    assert isinstance(parts[0], SyncBatchNorm)  # type: ignore[index]
    assert before.keys() == parts.state_dict().keys()
    torch.manual_seed(0)
    for _ in range(2):
        x = (3 + torch.randn(shape)).requires_grad_()
        twice = torch.cat([x.detach()] * 2).requires_grad_()
        wanted = alone(twice)
        found = parts(x)
        torch.testing.assert_close(found, wanted[: len(x)])
        factors = torch.randn(shape)
        (wanted * torch.cat([factors] * 2)).sum().backward()
        (found * factors).sum().backward()
        assert x.grad is not None
        assert twice.grad is not None
        torch.testing.assert_close(x.grad, twice.grad[: len(x)])
    torch.testing.assert_close(parts.state_dict(), alone.state_dict())
    for mine, all_of_them in zip(parts.parameters(), alone.parameters(), strict=True):
        assert mine.grad is not None
        torch.testing.assert_close(2 * mine.grad, all_of_them.grad)
    torch.testing.assert_close(parts.eval()(x), alone.eval()(x))
