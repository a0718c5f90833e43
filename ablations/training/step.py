"""One training step: forward pass, loss, backward pass, update; and how long such a step takes."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ablations.training.device_context import DeviceContext


@dataclasses.dataclass(frozen=True)
class TrainingStep:
    """A network with its optimizer, and how both are computed.

    Attributes:
        model: the network, or a wrapper of it (``DistributedDataParallel``, ``torch.compile``).
        optimizer: of its parameters.
        scaler: scales the gradients of fp16; disabled for other precisions.
        context: device and precision.
        losses: of the task; returns the terms of the loss of model, images and targets.
    """

    model: Callable[..., Any] | nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    context: DeviceContext
    losses: Callable[[Any, Tensor, Any], Mapping[str, Tensor]]

    def backward(self, x: Tensor, target: Any, micro_batches: int = 1) -> dict[str, Tensor]:
        """Adds the gradients of one micro-batch, and returns its part of each term of the loss.

        Args:
            x: images (B, C, H, W).
            target: of the images, as ``losses`` takes it.
            micro_batches: micro-batches of the update; the loss is divided by it.
        """
        with self.context.autocast():
            losses = self.losses(self.model, x, target)
        parts = {name: loss / micro_batches for name, loss in losses.items()}
        total = functools.reduce(operator.add, parts.values())
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        return {name: part.detach() for name, part in parts.items()}

    def update(self) -> None:
        """Updates the weights, and clears the gradients."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def __call__(self, x: Tensor, target: Any) -> None:
        """Takes a whole step with one batch; see :meth:`backward`."""
        self.backward(x, target)
        self.update()


def make_scaler(context: DeviceContext) -> torch.amp.GradScaler:
    """Returns a gradient scaler, enabled for fp16 only."""
    return torch.amp.GradScaler(context.device.type, enabled=context.dtype is torch.float16)


def seconds_per_iteration(
    iterate: Callable[[], None],
    seconds: float,
    synchronize: Callable[[], None],
    *,
    at_least: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the mean time of one iteration.

    Two untimed iterations come first: a warm-up, and one to estimate how many fill ``seconds``.

    Args:
        iterate: does one iteration.
        seconds: how long to time.
        synchronize: waits until the device has finished its work.
        at_least: the least number of iterations to time.
        clock: returns the time in seconds.
    """
    iterate()
    synchronize()
    start = clock()
    iterate()
    synchronize()
    count = max(at_least, math.ceil(seconds / max(clock() - start, 1e-6)))
    start = clock()
    for _ in range(count):
        iterate()
    synchronize()
    return (clock() - start) / count
