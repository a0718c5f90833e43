"""BatchNorm over the micro-batches of all processes, on any device; torch's is for GPUs only."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise(network: nn.Module, device: torch.device) -> nn.Module:
    """Returns a network whose BatchNorms normalise over all processes in training.

    Its parameters and buffers are the same tensors as before.
    """
    if device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm  # untyped
        converted: nn.Module = convert(network)
        return converted
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, SyncBatchNorm(child))
    return network


class SyncBatchNorm(_BatchNorm):
    """BatchNorm over the micro-batches of all processes, which must have one shape.

    Args:
        norm: the BatchNorm whose settings, parameters and buffers this one takes.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
            setattr(self, name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        """Returns x (N, C, ...), normalised for each channel."""
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = x.numel() // x.shape[1] * dist.get_world_size()
        values = x.float()
        mean = _sum(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = _sum(centred.square().sum(axes)) / count
        self._track(mean.detach(), variance.detach() * count / max(count - 1, 1))
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Updates the running statistics."""
        counter = self.num_batches_tracked
        if self.running_mean is None or self.running_var is None or counter is None:
            return
        counter += 1
        part = 1 / int(counter) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, part)
        self.running_var.lerp_(variance, part)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accepts any number of axes; the BatchNorm before has its own check."""


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return _all_reduce(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _all_reduce(gradient)


def _all_reduce(x: Tensor) -> Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x


def _sum(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)
    return total
