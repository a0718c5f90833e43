"""The network of a NetSpec, read from the top down: Network, Stem, Downsample, Block, layers.

Shapes are (N, channels, H, W) unless a comment says otherwise.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modernize import spec as s
from modernize.depthwise import DepthwiseConv2d
from modernize.layers import Layers, make_layer
from modernize.pointwise import PointwiseConv2d
from modernize.spec import NetSpec, OwnLayer


class Network(nn.Module):
    """Stem, stages of blocks, global average pooling, linear head.

    Images (N, in_channels, H, W) -> logits (N, num_classes). H and W should be multiples of
    ``spec.total_stride`` (32 on the roadmap); others work as far as strided convolutions round.

    Args:
        spec: which network.
        layers: where a field names a layer of one's own: the file that has it.
    """

    def __init__(self, spec: NetSpec, layers: Layers | None = None) -> None:
        super().__init__()
        self.spec, self.layers = spec, layers
        separate = spec.downsampling is s.Downsampling.SEPARATE
        self.stem = Stem(spec, layers)
        self.stages = nn.ModuleList()
        drop_paths = iter(spec.drop_path_rates)
        width = spec.narrow_widths[0]  # channels of the residual stream so far
        for stage, depth in enumerate(spec.depths):
            out = spec.stream_widths[stage]
            halve = stage > 0
            blocks = nn.Sequential()
            if halve and separate:
                blocks.append(Downsample(spec, width, out, layers))
                width, halve = out, False
            for rate in itertools.islice(drop_paths, depth):
                hidden, stride = spec.hidden_widths[stage], 2 if halve else 1
                blocks.append(Block(spec, width, hidden, out, stride, rate, layers))
                width, halve = out, False
            self.stages.append(blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = norm(spec, width, layers) if separate else nn.Identity()
        self.head = nn.Linear(width, spec.num_classes)
        initialise(self, spec.init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, in_channels, H, W) -> (N, C, H/s, W/s); s is 4, isotropic 16
        for stage in self.stages:
            x = stage(x)  # height and width halve at stages 2, 3, ...
        x = self.norm(self.pool(x)).flatten(1)  # (N, width of the last stage)
        logits: Tensor = self.head(x)
        return logits

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor: ...


class Stem(nn.Sequential):
    """The image (N, in_channels, H, W) -> (N, C, H/s, W/s) for the stem's stride s."""

    def __init__(self, spec: NetSpec, layers: Layers | None = None) -> None:
        width = spec.narrow_widths[0]
        if spec.stem is s.Stem.RESNET:
            super().__init__(
                nn.Conv2d(spec.in_channels, width, 7, stride=2, padding=3, bias=False),
                norm(spec, width, layers),
                activation(spec, layers),
                nn.MaxPool2d(3, stride=2, padding=1),
            )
        else:
            patch = spec.stem.stride
            super().__init__(nn.Conv2d(spec.in_channels, width, patch, stride=patch))
            # Separate downsampling brings its own norms, here as well; until then there is none,
            # and an isotropic network, which never downsamples, has none here.
            if spec.stem is s.Stem.PATCHIFY and spec.downsampling is s.Downsampling.SEPARATE:
                self.append(norm(spec, width, layers))


class Downsample(nn.Sequential):
    """Norm and 2x2/2 convolution between two stages."""

    def __init__(
        self, spec: NetSpec, in_width: int, out_width: int, layers: Layers | None = None
    ) -> None:
        super().__init__(norm(spec, in_width, layers), nn.Conv2d(in_width, out_width, 2, stride=2))


class Block(nn.Module):
    """A residual block: two 1x1 convolutions and one k x k convolution in the spec's order.

    What stands after each convolution is listed in the order it runs; the branch is scaled and
    dropped (Layer Scale, stochastic depth) before the addition.
    """

    def __init__(
        self,
        spec: NetSpec,
        in_width: int,
        hidden: int,
        out_width: int,
        stride: int,
        drop_path: float,
        layers: Layers | None = None,
    ) -> None:
        super().__init__()
        first = spec.spatial_position is s.SpatialPosition.FIRST
        spatial_width = in_width if first else hidden
        bias = spec.norm is not s.Norm.BATCH  # which would take a bias away again
        spatial = spatial_conv(spec, spatial_width, stride, bias, layers)
        expand = PointwiseConv2d(in_width, hidden, bias=bias)
        project = PointwiseConv2d(hidden, out_width, bias=bias)
        convs = [spatial, expand, project] if first else [expand, spatial, project]
        widths = {spatial: spatial_width, expand: hidden, project: out_width}

        every_norm = spec.norms is s.Placement.EVERY
        every_act = spec.activations is s.Placement.EVERY
        self.branch = nn.Sequential()
        for conv in convs:
            self.branch.append(conv)
            if every_norm or conv is spatial:
                self.branch.append(norm(spec, widths[conv], layers))
            if conv is not project and (every_act or conv is convs[1]):
                self.branch.append(activation(spec, layers))
        if spec.layer_scale:
            self.branch.append(LayerScale(out_width, spec.layer_scale))
        if drop_path:
            self.branch.append(DropPath(drop_path))

        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != out_width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_width, out_width, 1, stride, bias=False), norm(spec, out_width, layers)
            )
        self.last_activation = activation(spec, layers) if every_act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # (N, in_width, H, W) -> (N, out_width, H / stride, W / stride)
        out: Tensor = self.last_activation(self.branch(x) + self.shortcut(x))
        return out


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


def spatial_conv(
    spec: NetSpec, width: int, stride: int, bias: bool, layers: Layers | None = None
) -> nn.Module:
    """Returns the spec's k x k convolution from ``width`` to as many channels."""
    k = spec.kernel_size
    if isinstance(spec.spatial_conv, OwnLayer):
        return make_layer(layers, "spatial_conv", spec.spatial_conv, width, k, stride, bias)
    if spec.spatial_conv is s.SpatialConv.DEPTHWISE:
        return DepthwiseConv2d(width, k, stride, k // 2, bias=bias)
    return nn.Conv2d(width, width, k, stride, k // 2, bias=bias)


def norm(spec: NetSpec, width: int, layers: Layers | None = None) -> nn.Module:
    """Returns the spec's normalisation of ``width`` channels."""
    if isinstance(spec.norm, OwnLayer):
        return make_layer(layers, "norm", spec.norm, width)
    return nn.BatchNorm2d(width) if spec.norm is s.Norm.BATCH else LayerNorm2d(width, eps=1e-6)


def activation(spec: NetSpec, layers: Layers | None = None) -> nn.Module:
    """Returns the spec's activation function."""
    if isinstance(spec.activation, OwnLayer):
        return make_layer(layers, "activation", spec.activation)
    return nn.ReLU(inplace=True) if spec.activation is s.Activation.RELU else GELU()


@torch.no_grad()
def initialise(network: nn.Module, init: s.Init) -> None:
    """Draws fresh weights as ``init`` says; norms keep torch's 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if init is s.Init.KAIMING:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif init is s.Init.TRUNC_NORMAL:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and init is not s.Init.KAIMING:
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
