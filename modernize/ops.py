"""Layers of the networks: standard ones in a form that is faster on a CPU, and two small ones.

Each fast form is the same function of the same parameters as the torch layer it stands for.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

WIDE = 384  # channels


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution, (N, in_width, H, W) -> (N, out_width, H, W).

    The same function and the same parameters as ``nn.Conv2d(in_width, out_width, 1)``. Under
    autocast on a CPU, on a channels-last tensor, it is computed as the product of matrices that it
    is, which oneDNN does faster than the convolution: by up to a half in forward and backward in
    the shapes of ResNet-50. But where there is a bias, which a product adds in a pass of its own,
    only the wide layers of the last stages gain; narrow ones would take twice as long.
    """

    def __init__(self, in_width: int, out_width: int, *, bias: bool) -> None:
        super().__init__(in_width, out_width, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        product = (
            x.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
            and (self.bias is None or min(self.in_channels, self.out_channels) >= WIDE)
            and x.is_contiguous(memory_format=torch.channels_last)
        )
        if not product:
            return super().forward(x)
        rows = x.permute(0, 2, 3, 1)  # (N, H, W, in_width), a view
        return F.linear(rows, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution, (N, width, H, W) -> (N, width, H / stride, W / stride).

    The same function and the same parameters as ``nn.Conv2d(..., groups=width)``. Under autocast
    on a CPU, where oneDNN's bfloat16 gradient of the weights takes two to three times as long as
    its float32 one, only that gradient is computed in float32.
    """

    def __init__(
        self, width: int, kernel_size: int, stride: int = 1, padding: int = 0, *, bias: bool
    ) -> None:
        super().__init__(width, width, kernel_size, stride, padding, groups=width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        here = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not (here and self.training and torch.is_grad_enabled()):
            return super().forward(x)
        x = x.to(torch.get_autocast_dtype("cpu"))
        convolve: Any = _Depthwise.apply  # untyped
        y: Tensor = convolve(x, self.weight, self.bias, self.stride, self.padding)
        return y


class _Depthwise(torch.autograd.Function):
    """The convolution in the dtype of ``x``; gradients of weight and bias in the weight's."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_shape = None if bias is None else list(bias.shape)
        ctx.geometry = stride, padding, (1, 1), False, (0, 0), len(weight)
        bias = None if bias is None else bias.to(x.dtype)
        return F.conv2d(x, weight.to(x.dtype), bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        bias, geometry = ctx.bias_shape, ctx.geometry
        gradients = torch.ops.aten.convolution_backward
        grad_x = None
        if ctx.needs_input_grad[0]:
            asked = [True, False, False]
            grad_x, *_ = gradients(grad, x, weight.to(x.dtype), bias, *geometry, asked)
        wide, asked = weight.dtype, [False, True, bias is not None]
        _, *own = gradients(grad.to(wide), x.to(wide), weight, bias, *geometry, asked)
        return grad_x, *own, None, None


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each position of (N, C, H, W).

    The two permutes are views, and free where the tensor is channels-last in memory; then this is
    one call of torch's fused kernel, which fvcore counts (a hand-written one it would not).
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class GELU(nn.GELU):
    """The exact GELU, of a tensor taken in the order of its memory.

    torch has oneDNN's, on a CPU two thirds of the time of its own, for contiguous tensors alone;
    with the channels last in shape as well as in memory, a tensor is one.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """A learned factor per channel, small at first."""

    def __init__(self, width: int, init: float) -> None:
        super().__init__()
        # One-dimensional, so that it is spared weight decay by its shape.
        self.gamma = nn.Parameter(torch.full((width,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(-1, 1, 1)


class DropPath(nn.Module):
    """Stochastic depth: in training, zeroes the whole branch of an image with this probability."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1 - self.rate
        mask = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep)
        return x * mask.div_(keep)  # the branch's expectation stays as it is

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"
