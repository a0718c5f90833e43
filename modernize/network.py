"""The network of a NetSpec, from the top down: Network, Stem, Stage, Downsample, Block.

Shapes are (N, channels, H, W) unless a comment says otherwise.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from modernize import spec as s
from modernize.custom_layers import make_custom_layer
from modernize.ops import GELU, DepthwiseConv2d, DropPath, LayerNorm2d, LayerScale, PointwiseConv2d
from modernize.spec import CustomLayer, NetSpec


class Network(nn.Module):
    """Stem, stages of blocks, global average pooling, linear head.

    Images (N, in_channels, H, W) -> logits (N, num_classes). H and W should be multiples of
    ``spec.total_stride`` (32 on the roadmap); for others, strided convolutions round.

    Args:
        spec: which network; the files of its custom layers, if it has any, must be loaded.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = Stem(spec)
        rates = iter(spec.drop_path_rates)
        self.stages = nn.ModuleList(
            Stage(spec, index, list(itertools.islice(rates, depth)))
            for index, depth in enumerate(spec.depths)
        )
        width = spec.stream_widths[-1]
        separate = spec.downsampling is s.Downsampling.SEPARATE
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = norm(spec, width) if separate else nn.Identity()
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

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        width = spec.narrow_widths[0]
        if spec.stem is s.Stem.RESNET:
            self.conv = nn.Conv2d(spec.in_channels, width, 7, stride=2, padding=3, bias=False)
            self.norm = norm(spec, width)
            self.act = activation(spec)
            self.pool = nn.MaxPool2d(3, stride=2, padding=1)
            return
        patch = spec.stem.stride
        self.conv = nn.Conv2d(spec.in_channels, width, patch, stride=patch)
        # Separate downsampling brings norms with it, one of them here. An isotropic network, which
        # never downsamples, has none.
        if spec.stem is s.Stem.PATCHIFY and spec.downsampling is s.Downsampling.SEPARATE:
            self.norm = norm(spec, width)


class Stage(nn.Module):
    """Blocks of one resolution; from stage 2 on, it halves the height and width it receives.

    Args:
        spec: the network.
        index: of the stage, from 0.
        drop_paths: stochastic-depth rate of each block.
    """

    def __init__(self, spec: NetSpec, index: int, drop_paths: list[float]) -> None:
        super().__init__()
        width = spec.stream_widths[index - 1] if index else spec.narrow_widths[0]  # it receives
        hidden, out = spec.hidden_widths[index], spec.stream_widths[index]
        stride = 2 if index else 1
        self.downsample: nn.Module = nn.Identity()
        if index and spec.downsampling is s.Downsampling.SEPARATE:
            self.downsample = Downsample(spec, width, out)
            width, stride = out, 1
        self.blocks = nn.Sequential()
        for rate in drop_paths:
            self.blocks.append(Block(spec, width, hidden, out, stride, rate))
            width, stride = out, 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.downsample(x))
        return out


class Downsample(nn.Sequential):
    """Norm and 2x2/2 convolution between two stages."""

    def __init__(self, spec: NetSpec, in_width: int, out_width: int) -> None:
        super().__init__()
        self.norm = norm(spec, in_width)
        self.conv = nn.Conv2d(in_width, out_width, 2, stride=2)


class Block(nn.Module):
    """A residual block, (N, in_width, H, W) -> (N, out_width, H / stride, W / stride).

    The branch has a k x k convolution (`spatial`) and two 1x1 ones, into the hidden width
    (`expand`) and out of it (`project`). Its parts keep their names. The two ends of the road::

        resnet                           downsample
        branch.expand        1x1         branch.spatial       depthwise 7x7
        branch.expand_norm   BatchNorm   branch.spatial_norm  LayerNorm
        branch.first_act     ReLU        branch.expand        1x1
        branch.spatial       3x3         branch.act           GELU
        branch.spatial_norm  BatchNorm   branch.project       1x1
        branch.act           ReLU        branch.scale         Layer Scale
        branch.project       1x1         branch.drop          stochastic depth
        branch.project_norm  BatchNorm
        last_act, after the addition of the shortcut

    Args:
        spec: the network.
        in_width, hidden, out_width: channels that it receives, has inside and hands on.
        stride: of `spatial`.
        drop_path: its stochastic-depth rate.
    """

    def __init__(
        self,
        spec: NetSpec,
        in_width: int,
        hidden: int,
        out_width: int,
        stride: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        first = spec.spatial_position is s.SpatialPosition.FIRST
        bias = spec.norm is not s.Norm.BATCH  # which would subtract a bias again
        widths = {"spatial": in_width if first else hidden, "expand": hidden, "project": out_width}
        convs = {
            "spatial": spatial_conv(spec, widths["spatial"], stride, bias),
            "expand": PointwiseConv2d(in_width, hidden, bias=bias),
            "project": PointwiseConv2d(hidden, out_width, bias=bias),
        }
        every_norm = spec.norms is s.PerBlock.ALL
        every_act = spec.activations is s.PerBlock.ALL
        order = ["spatial", "expand"] if first else ["expand", "spatial"]
        self.branch = nn.Sequential()
        for name in [*order, "project"]:
            self.branch.add_module(name, convs[name])
            if every_norm or name == "spatial":
                self.branch.add_module(f"{name}_norm", norm(spec, widths[name]))
            if name == order[0] and every_act:
                self.branch.add_module("first_act", activation(spec))
            if name == order[1]:
                self.branch.add_module("act", activation(spec))
        if spec.layer_scale:
            self.branch.add_module("scale", LayerScale(out_width, spec.layer_scale))
        if drop_path:
            self.branch.add_module("drop", DropPath(drop_path))

        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != out_width:
            self.shortcut = Projection(spec, in_width, out_width, stride)
        self.last_act = activation(spec) if every_act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last_act(self.branch(x) + self.shortcut(x))
        return out


class Projection(nn.Sequential):
    """1x1 convolution and norm: the shortcut of a block whose output has another shape."""

    def __init__(self, spec: NetSpec, in_width: int, out_width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, out_width, 1, stride, bias=False)
        self.norm = norm(spec, out_width)


def spatial_conv(spec: NetSpec, width: int, stride: int, bias: bool) -> nn.Module:
    """Returns the spec's k x k convolution from ``width`` to as many channels."""
    k = spec.kernel_size
    if isinstance(spec.spatial_conv, CustomLayer):
        return make_custom_layer("spatial_conv", spec.spatial_conv, width, k, stride, bias)
    if spec.spatial_conv is s.SpatialConv.DEPTHWISE:
        return DepthwiseConv2d(width, k, stride, k // 2, bias=bias)
    return nn.Conv2d(width, width, k, stride, k // 2, bias=bias)


def norm(spec: NetSpec, width: int) -> nn.Module:
    """Returns the spec's normalisation of ``width`` channels."""
    if isinstance(spec.norm, CustomLayer):
        return make_custom_layer("norm", spec.norm, width)
    return nn.BatchNorm2d(width) if spec.norm is s.Norm.BATCH else LayerNorm2d(width, eps=1e-6)


def activation(spec: NetSpec) -> nn.Module:
    """Returns the spec's activation function."""
    if isinstance(spec.activation, CustomLayer):
        return make_custom_layer("activation", spec.activation)
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
