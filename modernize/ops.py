"""Layers of the networks: standard layers in a form that is faster on a CPU, and two small ones.

Each fast form is the same function of the same parameters as the torch layer that it replaces.
Under autocast on a CPU, the capabilities of the processor decide which form is used
(:data:`FORMS`); ``tests/benchmarks/layers.py`` times every form against torch's layer.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class DepthwiseGradient(enum.Enum):
    """How a depthwise convolution's gradients are computed under autocast on a CPU."""

    TORCH = "torch"  # as torch does
    FLOAT32 = "float32"  # the gradient of the weights in float32
    PRODUCTS = "products"  # the gradient of the weights from products of matrices


@dataclasses.dataclass(frozen=True)
class Forms:
    """Which form each layer takes under autocast on a CPU. By default they are torch's.

    Attributes:
        product_from: a 1x1 convolution without bias is computed as a product of matrices if both
            its widths have at least this many channels.
        biased_product_from: the same, of one with a bias.
        depthwise_gradient: of a depthwise convolution.
    """

    product_from: float = math.inf
    biased_product_from: float = math.inf
    depthwise_gradient: DepthwiseGradient = DepthwiseGradient.TORCH


FORMS: Mapping[str, Forms] = {
    # Measured on Intel Xeon (Sapphire Rapids).
    "amx_bf16": Forms(0, 384, DepthwiseGradient.FLOAT32),
    # Measured on AMD EPYC (Zen 4), which has no AMX.
    "avx512_bf16": Forms(256, 512, DepthwiseGradient.PRODUCTS),
}
"""Capability of the processor, as in ``torch.cpu.get_capabilities()`` -> the fastest forms.

The first that the processor has decides. For a processor with neither the forms are torch's:
there ``precision: auto`` is float32.
"""


def choose_forms(capabilities: Mapping[str, Any]) -> Forms:
    """Returns the forms for a processor with these capabilities."""
    return next((forms for name, forms in FORMS.items() if capabilities.get(name)), Forms())


# Older versions of torch do not tell the capabilities.
HERE = choose_forms(getattr(torch.cpu, "get_capabilities", dict)())
"""The forms for this processor."""


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution, (N, in_width, H, W) -> (N, out_width, H, W).

    The same function and the same parameters as ``nn.Conv2d(in_width, out_width, 1)``. Under
    autocast on a CPU, for a channels-last tensor, a wide one is computed as a product of matrices.
    """

    def __init__(self, in_width: int, out_width: int, *, bias: bool, forms: Forms = HERE) -> None:
        super().__init__(in_width, out_width, 1, bias=bias)
        least = forms.biased_product_from if bias else forms.product_from
        self.product = min(in_width, out_width) >= least

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting() and self.product:  # type: ignore[attr-defined]
            return _pointwise(x, self.weight, self.bias)
        out: Tensor = self._conv_forward(x, self.weight, self.bias)
        return out


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not (_is_mixed_on_cpu(x) and x.is_contiguous(memory_format=torch.channels_last)):
        return F.conv2d(x, weight, bias)
    rows = x.permute(0, 2, 3, 1)  # (N, H, W, in_width), a view
    return F.linear(rows, weight.flatten(1), bias).permute(0, 3, 1, 2)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution, (N, width, H, W) -> (N, width, H / stride, W / stride).

    The same function and the same parameters as ``nn.Conv2d(..., groups=width)``. Under autocast
    on a CPU the gradients may be computed in another way, because oneDNN's bfloat16 gradient of the
    weights takes several times as long as the convolution.
    """

    def __init__(
        self,
        width: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        bias: bool,
        forms: Forms = HERE,
    ) -> None:
        super().__init__(width, width, kernel_size, stride, padding, groups=width, bias=bias)
        self.geometry = stride, padding, width
        self.gradient = forms.depthwise_gradient
        self.has_form = self.gradient is not DepthwiseGradient.TORCH
        # Products need as many positions in the output as in the input.
        same = stride == 1 and 2 * padding + 1 == kernel_size
        self.products = same and self.gradient is DepthwiseGradient.PRODUCTS

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting() and self.has_form:  # type: ignore[attr-defined]
            how = self.products, self.training
            return _depthwise(x, self.weight, self.bias, self.geometry, *how)
        out: Tensor = self._conv_forward(x, self.weight, self.bias)
        return out


def _depthwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: tuple[int, int, int],
    products: bool,
    training: bool,
) -> Tensor:
    stride, padding, width = geometry
    if not (training and torch.is_grad_enabled() and _is_mixed_on_cpu(x)):
        return F.conv2d(x, weight, bias, stride, padding, groups=width)
    x = x.to(torch.get_autocast_dtype("cpu"))
    products = products and not torch.compiler.is_compiling()  # inductor: not for dynamic sizes
    convolve: Any = _Depthwise.apply  # untyped
    y: Tensor = convolve(x, weight, bias, (stride, stride), (padding, padding), products)
    return y


def _is_mixed_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu")


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
        products: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_shape = None if bias is None else list(bias.shape)
        ctx.geometry = stride, padding, (1, 1), False, (0, 0), len(weight)
        ctx.products = products
        bias = None if bias is None else bias.to(x.dtype)
        return F.conv2d(x, weight.to(x.dtype), bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        bias, geometry = ctx.bias_shape, ctx.geometry
        grad_x = grad_bias = None
        if ctx.products:
            if ctx.needs_input_grad[0]:
                turned = weight.to(x.dtype).flip(2, 3)
                grad_x = F.conv2d(grad, turned, None, 1, geometry[1], groups=len(weight))
            if bias is not None:
                grad_bias = grad.sum((0, 2, 3), dtype=weight.dtype)
            grad_weight = _weight_gradient(x, grad, weight.shape[-1]).to(weight.dtype)
            return grad_x, grad_weight, grad_bias, None, None, None
        gradients = torch.ops.aten.convolution_backward
        if ctx.needs_input_grad[0]:
            wanted = [True, False, False]
            grad_x, *_ = gradients(grad, x, weight.to(x.dtype), bias, *geometry, wanted)
        wide, wanted = weight.dtype, [False, True, bias is not None]
        _, *own = gradients(grad.to(wide), x.to(wide), weight, bias, *geometry, wanted)
        return grad_x, *own, None, None, None


TILE = 7  # positions: larger tiles compute more pairs that are not needed, smaller ones copy more


def _weight_gradient(x: Tensor, grad: Tensor, size: int) -> Tensor:
    """Returns the gradient of a depthwise convolution's weights, (C, 1, size, size) in float32.

    One product of matrices for each channel multiplies every position of a tile of ``grad`` by
    every position of the patch of ``x`` below it, and sums over images and tiles. The pairs of
    positions with the same offset belong to the same weight.

    Args:
        x: the input, (N, C, H, W), of a convolution of stride 1 and padding ``size // 2``.
        grad: the gradient of its output, (N, C, H, W).
        size: of the kernel.
    """
    channels, height, width = x.shape[1:]
    # One tile for each image would give products with too few terms.
    rows = 1 if height <= TILE else _divide(height)
    columns = _divide(width)
    pad, bottom, right = size // 2, -height % rows, -width % columns
    x = F.pad(x.permute(0, 2, 3, 1), (0, 0, pad, pad + right, pad, pad + bottom))
    grad = grad.permute(0, 2, 3, 1)
    if bottom or right:
        grad = F.pad(grad, (0, 0, 0, right, 0, bottom))
    high, wide = rows + size - 1, columns + size - 1
    # (C, N, tiles down, tiles across, rows, columns)
    patches = x.permute(3, 0, 1, 2).unfold(2, high, rows).unfold(3, wide, columns)
    tiles = grad.permute(3, 0, 1, 2).unfold(2, rows, rows).unfold(3, columns, columns)
    tiles = tiles.reshape(channels, -1, rows * columns).transpose(1, 2)
    pairs = torch.bmm(tiles, patches.reshape(channels, -1, high * wide))
    line, area = high * wide, rows * columns * high * wide
    by_weight = pairs.as_strided(
        (channels, size, size, rows, columns), (area, wide, 1, columns * line + wide, line + 1)
    )
    return by_weight.sum((3, 4), dtype=torch.float32).unsqueeze(1)


def _divide(length: int) -> int:
    """Returns the length of the parts if a length is divided evenly into parts of up to a tile."""
    return math.ceil(length / math.ceil(length / TILE))


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each position of (N, C, H, W).

    The two permutes are views. For a channels-last tensor this is one call of torch's fused kernel,
    which fvcore can count.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class GELU(nn.GELU):
    """The exact GELU, computed in the order of the tensor's memory.

    On a CPU torch uses oneDNN's GELU, which takes half to two thirds of the time of torch's own,
    only for contiguous tensors. A channels-last tensor with its channels as the last dimension is
    contiguous.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """A learned factor per channel, small at first."""

    def __init__(self, width: int, init: float) -> None:
        super().__init__()
        # One-dimensional: such parameters have no weight decay.
        self.gamma = nn.Parameter(torch.full((width,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.view(-1, 1, 1)


class DropPath(nn.Module):
    """Stochastic depth: in training, zeroes the branch of each image with this probability."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return _drop_path(x, self.rate, self.training)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"


def _drop_path(x: Tensor, rate: float, training: bool) -> Tensor:
    if not training:
        return x
    keep = 1 - rate
    mask = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep)
    return x * mask.div_(keep)  # does not change the branch's expectation


# torch.fx does not trace into these functions: a traced network takes the same forms.
for _name in ("_pointwise", "_depthwise", "_drop_path"):
    torch.fx.wrap(_name)
