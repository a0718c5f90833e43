"""The network of a NetSpec, from the top down: Network, Stem, Stage, Block.

Shapes are (N, channels, H, W) unless a comment says otherwise.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from modernize import spec as s
from modernize.custom_layers import make_custom_layer
from modernize.ops import GELU, DepthwiseConv2d, DropPath, LayerNorm2d, LayerScale, PointwiseConv2d
from modernize.spec import CustomLayer, NetSpec


class Network(nn.Module):
    """Stem, stages of blocks, global average pooling, linear head.

    Images (N, in_channels, H, W) -> logits (N, num_classes), or the pooled features (N, C) if there
    are no classes. H and W should be multiples of ``spec.total_stride`` (32 on the roadmap); for
    others, strided convolutions round.

    Args:
        spec: which network; the files of its custom layers, if it has any, must be loaded.

    Attributes:
        feature_widths: channels of the map of each stage.
        feature_strides: pixels of the image's side per position of each map.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.feature_widths = spec.stream_widths
        self.feature_strides = spec.strides
        self.stem = Stem(spec)
        self.stages = nn.ModuleList(Stage(spec, index) for index in range(len(spec.depths)))
        width = spec.stream_widths[-1]
        separate = spec.downsampling is s.Downsampling.SEPARATE
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = norm(spec, width) if separate else nn.Identity()
        self.head = head(spec)
        initialise(self, spec.init)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)[-1]
        x = self.norm(self.pool(x)).flatten(1)  # (N, width of the last stage)
        logits: Tensor = self.head(x)
        return logits

    def features(self, x: Tensor) -> list[Tensor]:
        """Returns the map of each stage, (N, width, H / stride, W / stride), without the head."""
        x = self.stem(x)  # (N, in_channels, H, W) -> (N, C, H/s, W/s); s is 4, isotropic 16
        maps = []
        for stage in self.stages:
            x = stage(x)  # height and width halve at stages 2, 3, ...
            maps.append(x)
        return maps

    def reset_head(self, num_classes: int) -> None:
        """Replaces the head by one with fresh weights, on the same device and in the same dtype.

        Args:
            num_classes: logits of the head; 0: no head.

        Raises:
            SpecError: for an invalid number of classes.
        """
        self.spec = self.spec.replace(num_classes=num_classes)
        self.head = head(self.spec).to(next(self.parameters()))
        initialise(self.head, self.spec.init)

    if TYPE_CHECKING:

        def __call__(self, x: Tensor) -> Tensor: ...


class Stem(nn.Sequential):
    """The image (N, in_channels, H, W) -> (N, C, H/s, W/s) for the stem's stride s."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        if spec.stem is s.Stem.RESNET:
            self.conv = nn.Conv2d(spec.in_channels, spec.width, 7, stride=2, padding=3, bias=False)
            self.norm = norm(spec, spec.width)
            self.act = activation(spec)
            self.pool = nn.MaxPool2d(3, stride=2, padding=1)
            return
        self.conv = nn.Conv2d(spec.in_channels, spec.width, spec.stem.stride, spec.stem.stride)
        # Separate downsampling adds norms, one of them here; isotropic networks never downsample.
        if spec.stem is s.Stem.PATCHIFY and spec.downsampling is s.Downsampling.SEPARATE:
            self.norm = norm(spec, spec.width)


class Stage(nn.Module):
    """Blocks of one resolution; from stage 2 on, it halves the height and width of its input.

    Args:
        spec: the network.
        index: of the stage, from 0.
    """

    def __init__(self, spec: NetSpec, index: int) -> None:
        super().__init__()
        width = spec.stream_widths[index - 1] if index else spec.width  # of the input
        out, stride = spec.stream_widths[index], 2 if index else 1
        self.downsample: nn.Module = nn.Identity()
        if index and spec.downsampling is s.Downsampling.SEPARATE:
            self.downsample = nn.Sequential(
                OrderedDict(norm=norm(spec, width), conv=nn.Conv2d(width, out, 2, stride=2))
            )
            width, stride = out, 1
        self.blocks = nn.Sequential()
        first = sum(spec.depths[:index])
        for rate in spec.drop_path_rates[first : first + spec.depths[index]]:
            self.blocks.append(Block(spec, index, width, stride, rate))
            width, stride = out, 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.downsample(x))
        return out


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
        stage: its number, from 0, which decides the hidden width and the output's.
        in_width: channels of the input.
        stride: of `spatial`.
        rate: of stochastic depth.
    """

    def __init__(self, spec: NetSpec, stage: int, in_width: int, stride: int, rate: float) -> None:
        super().__init__()
        hidden, out_width = spec.hidden_widths[stage], spec.stream_widths[stage]
        spatial_first = spec.spatial_position is s.SpatialPosition.FIRST
        order = ["spatial", "expand"] if spatial_first else ["expand", "spatial"]
        every_norm = spec.norms is s.PerBlock.ALL
        every_act = spec.activations is s.PerBlock.ALL
        bias = spec.norm is not s.Norm.BATCH  # BatchNorm would subtract a bias again
        spatial_width = in_width if spatial_first else hidden
        widths = {"spatial": spatial_width, "expand": hidden, "project": out_width}
        convs = {
            "spatial": spatial_conv(spec, spatial_width, stride, bias),
            "expand": PointwiseConv2d(in_width, hidden, bias=bias),
            "project": PointwiseConv2d(hidden, out_width, bias=bias),
        }
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
        if rate:
            self.branch.add_module("drop", DropPath(rate))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_width != out_width:
            conv = nn.Conv2d(in_width, out_width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=norm(spec, out_width)))
        self.last_act = activation(spec) if every_act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last_act(self.branch(x) + self.shortcut(x))
        return out


def head(spec: NetSpec) -> nn.Module:
    """Returns the linear layer from pooled features to logits; the identity without classes."""
    if not spec.num_classes:
        return nn.Identity()
    return nn.Linear(spec.stream_widths[-1], spec.num_classes)


def spatial_conv(spec: NetSpec, width: int, stride: int, bias: bool) -> nn.Module:
    """Returns the spec's k x k convolution from ``width`` to ``width`` channels."""
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
    """Draws fresh weights of convolutions and linear layers; norms keep torch's 1 and 0."""
    kaiming = nn.Conv2d if init is s.Init.KAIMING else ()
    truncated = {s.Init.PYTORCH: (nn.Linear,), s.Init.TRUNC_NORMAL: (nn.Conv2d, nn.Linear)}
    for module in network.modules():
        if isinstance(module, kaiming):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, truncated.get(init, ())):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
