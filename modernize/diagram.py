"""A network as data: the layers of its stem, its blocks and its head, in order, without torch.

:func:`block` describes one block, :func:`architecture` the whole network. Both are derived from a
NetSpec, and so need no network. Each layer has the name of its module in the built network, and a
test compares them with the modules that a built network runs. Text, pictures, tables and
:mod:`modernize.closed_form` all read them. :func:`compare` marks the differences of two lists of
layers.

Stochastic depth is left out: it is part of training, and its rate differs from block to block.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from modernize.spec import (
    Activation,
    CustomLayer,
    Downsampling,
    NetSpec,
    Norm,
    PerBlock,
    SpatialConv,
    SpatialPosition,
    Stem,
)

_Key = TypeVar("_Key", bound=str)


class Kind(enum.StrEnum):
    """The kind of a layer."""

    CONV = "convolution"
    NORM = "norm"
    ACTIVATION = "activation"
    SCALE = "Layer Scale"
    MAX_POOL = "max pool"
    GLOBAL_POOL = "global average pool"
    LINEAR = "linear"


DEPTHWISE = "depthwise"
"""The word before the size of a convolution, in a layer's text."""

_NORMS = {Norm.BATCH: "BatchNorm", Norm.LAYER: "LayerNorm"}
_ACTIVATIONS = {Activation.RELU: "ReLU", Activation.GELU: "GELU"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One layer, (N, in_width, H, W) -> (N, out_width, H / stride, W / stride).

    Attributes:
        name: of its module, in the part of the network that the layer belongs to.
        kind: which kind of layer.
        type: of a norm or an activation: "LayerNorm", "GELU"; for a custom layer, its name and
            digest; otherwise empty.
        in_width, out_width: channels of the input and of the output.
        kernel, stride, padding: of a convolution or pool, in positions.
        groups: of a convolution; ``in_width``: depthwise.
        bias: whether a convolution has a bias.
    """

    name: str
    kind: Kind
    in_width: int
    out_width: int
    type: str = ""
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = False

    @property
    def custom(self) -> bool:
        """Whether it is a custom layer, whose inside is unknown."""
        return "@" in self.type

    @property
    def depthwise(self) -> bool:
        """Whether it is a convolution with a group for each channel."""
        return self.kind is Kind.CONV and 1 < self.groups == self.in_width

    @property
    def text(self) -> str:
        """The layer in a few words: "depthwise 7x7, 96 → 96", "LayerNorm"."""
        size = f"{self.kernel}x{self.kernel}"
        widths = f"{self.in_width:,} → {self.out_width:,}"
        stride = f", stride {self.stride}" if self.stride != 1 else ""
        match self.kind:
            case Kind.CONV:
                words = [self.type.partition("@")[0], DEPTHWISE if self.depthwise else "", size]
                return f"{' '.join(filter(None, words))}, {widths}{stride}"
            case Kind.MAX_POOL:
                return f"{size} {self.kind}{stride}"
            case Kind.LINEAR:
                return f"{self.kind}, {widths}"
        return self.type.partition("@")[0] or str(self.kind)

    def side(self, side: int) -> int:
        """Returns the height of the output for an input of this height, in positions."""
        if self.kind in (Kind.GLOBAL_POOL, Kind.LINEAR):
            return 1
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


Layers = tuple[Layer, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A residual block.

    Attributes:
        branch: the layers of the residual branch, in order.
        shortcut: the layers of the shortcut; empty: the identity.
        after: the layers after the addition of the two.
    """

    branch: Layers
    shortcut: Layers
    after: Layers

    @property
    def in_width(self) -> int:
        """Channels of the input."""
        return self.branch[0].in_width

    @property
    def out_width(self) -> int:
        """Channels of the output."""
        return self.branch[-1].out_width


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """The blocks of one resolution.

    Attributes:
        downsample: the layers before the blocks, in order.
        first: the first block, which may change the width and the resolution.
        rest: each of the other blocks.
        depth: the number of blocks.
    """

    downsample: Layers
    first: Block
    rest: Block
    depth: int

    @property
    def blocks(self) -> Iterator[Block]:
        """All blocks, in order."""
        yield self.first
        for _ in range(self.depth - 1):
            yield self.rest


@dataclasses.dataclass(frozen=True, slots=True)
class Architecture:
    """A whole network.

    Attributes:
        stem, head: their layers, in order.
        stages: in order.
    """

    stem: Layers
    stages: tuple[Stage, ...]
    head: Layers

    def sides(self, image_size: int) -> list[int]:
        """Returns the heights of the outputs of the stem and of each stage, in positions.

        Args:
            image_size: height of the image in pixels.
        """
        sides = [side_after(self.stem, image_size)]
        for stage in self.stages:
            side = side_after(stage.downsample, sides[-1])
            sides.append(side_after(stage.first.branch, side))
        return sides


def side_after(layers: Sequence[Layer], side: int) -> int:
    """Returns the height of the output of layers for an input of this height, in positions."""
    for layer in layers:
        side = layer.side(side)
    return side


def architecture(spec: NetSpec) -> Architecture:
    """Returns the layers of a network."""
    separate = spec.downsampling is Downsampling.SEPARATE
    stages = []
    width = spec.width
    for index, depth in enumerate(spec.depths):
        out, stride, downsample = spec.stream_widths[index], 2 if index else 1, _Layers(spec, width)
        if index and separate:
            downsample.norm("norm").conv("conv", out, kernel=2, stride=2, bias=True)
            width, stride = out, 1
        first, rest = block(spec, index, width, stride), block(spec, index)
        stages.append(Stage(downsample.layers, first, rest, depth))
        width = out
    head = _Layers(spec, width).add("pool", Kind.GLOBAL_POOL)
    if separate:
        head.norm("norm")
    head.add("head", Kind.LINEAR, spec.num_classes, bias=True)
    return Architecture(_stem(spec), tuple(stages), head.layers)


def block(spec: NetSpec, stage: int, in_width: int | None = None, stride: int = 1) -> Block:
    """Returns the layers of a block.

    Args:
        spec: the network.
        stage: number of the block's stage, from 0.
        in_width: channels of the input; by default, those of the output.
        stride: of the k x k convolution.
    """
    hidden, out = spec.hidden_widths[stage], spec.stream_widths[stage]
    start = in_width = out if in_width is None else in_width
    order = ["spatial", "expand", "project"]
    if spec.spatial_position is SpatialPosition.MIDDLE:
        order[:2] = ["expand", "spatial"]
    every_act = spec.activations is PerBlock.ALL
    bias = spec.norm is not Norm.BATCH  # BatchNorm would subtract a bias again
    branch = _Layers(spec, start)
    for number, name in enumerate(order):
        if name == "spatial":
            branch.spatial(stride, bias)
        else:
            branch.conv(name, hidden if name == "expand" else out, bias=bias)
        if name == "spatial" or spec.norms is PerBlock.ALL:
            branch.norm(f"{name}_norm")
        if number == 0 and every_act:
            branch.activation("first_act")
        if number == 1:
            branch.activation("act")
    if spec.layer_scale:
        branch.add("scale", Kind.SCALE)
    shortcut = _Layers(spec, start)
    if stride != 1 or in_width != out:
        shortcut.conv("conv", out, stride=stride).norm("norm")
    after = _Layers(spec, out)
    if every_act:
        after.activation("last_act")
    return Block(branch.layers, shortcut.layers, after.layers)


def _stem(spec: NetSpec) -> Layers:
    layers = _Layers(spec, spec.in_channels)
    if spec.stem is Stem.RESNET:
        layers.conv("conv", spec.width, kernel=7, stride=2, padding=3).norm("norm")
        layers.activation("act").add("pool", Kind.MAX_POOL, kernel=3, stride=2, padding=1)
        return layers.layers
    layers.conv("conv", spec.width, kernel=spec.stem.stride, stride=spec.stem.stride, bias=True)
    if spec.stem is Stem.PATCHIFY and spec.downsampling is Downsampling.SEPARATE:
        layers.norm("norm")
    return layers.layers


class _Layers:
    """Layers in order, each of which takes the channels of the one before."""

    def __init__(self, spec: NetSpec, width: int) -> None:
        self.spec, self.width = spec, width
        self.layers: Layers = ()

    def add(self, name: str, kind: Kind, out: int = 0, **how: int | bool | str) -> Self:
        """Appends a layer; ``out``: its channels, by default those of its input."""
        out = out or self.width
        layer = Layer(name=name, kind=kind, in_width=self.width, out_width=out, **how)  # type: ignore[arg-type]
        self.layers = (*self.layers, layer)
        self.width = out
        return self

    def conv(self, name: str, out: int, **how: int | bool) -> Self:
        return self.add(name, Kind.CONV, out, **how)

    def spatial(self, stride: int, bias: bool) -> Self:
        conv, kernel = self.spec.spatial_conv, self.spec.kernel_size
        custom = isinstance(conv, CustomLayer)
        return self.add(
            "spatial", Kind.CONV, type=str(conv) if custom else "", kernel=kernel, stride=stride,
            padding=kernel // 2, groups=self.width if conv is SpatialConv.DEPTHWISE else 1,
            bias=bias,
        )  # fmt: skip

    def norm(self, name: str) -> Self:
        return self.add(name, Kind.NORM, type=_type(self.spec.norm, _NORMS))

    def activation(self, name: str) -> Self:
        return self.add(name, Kind.ACTIVATION, type=_type(self.spec.activation, _ACTIVATIONS))


def _type(value: enum.StrEnum | CustomLayer, names: Mapping[Any, str]) -> str:
    return str(value) if isinstance(value, CustomLayer) else names[value]


# -- differences ---------------------------------------------------------------------------------


class Change(enum.StrEnum):
    """The difference of a layer from the same layer in another list."""

    SAME = "same"
    NEW = "new"
    CHANGED = "changed"
    MOVED = "moved"
    REMOVED = "removed"


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A layer beside the same layer in another list.

    Attributes:
        layer: the layer, or the removed one.
        change: how it differs.
        before: the same layer in the other list; None for a new one.
    """

    layer: Layer
    change: Change
    before: Layer | None


def compare(before: Sequence[Layer], layers: Sequence[Layer]) -> list[Difference]:
    """Returns the layers of a list with their changes, and the removed ones at their old places.

    Convolutions are the same if they have the same name, and other layers if they are of the same
    kind and follow the same convolution. The same layers differ if their texts do; biases do not
    count. A layer at another place is moved, even if it also differs; with a convolution move the
    layers after it.

    Args:
        before: the layers of the other list.
        layers: the layers.
    """
    old, new = _groups(before), _groups(layers)
    found: list[Difference] = []
    for name, moved in _aligned(old, new):
        was, now = old.get(name, {}), new.get(name, {})
        for kind, change in _aligned(was, now):
            layer = now.get(kind) or was[kind]
            if change is Change.SAME and kind is Kind.CONV:
                change = moved
            if change is Change.SAME and layer.text != was[kind].text:
                change = Change.CHANGED
            found.append(Difference(layer, change, was.get(kind)))
    return found


def _groups(layers: Sequence[Layer]) -> dict[str, dict[Kind, Layer]]:
    """Returns the layers by the convolution that they are or follow, and by their kind."""
    groups: dict[str, dict[Kind, Layer]] = {}
    conv = ""
    for layer in layers:
        conv = layer.name if layer.kind is Kind.CONV else conv
        groups.setdefault(conv, {})[layer.kind] = layer
    return groups


def _aligned(old: Iterable[_Key], new: Iterable[_Key]) -> list[tuple[_Key, Change]]:
    """Returns the keys of a list with their changes, and the removed ones at their old places."""
    before, after = list(old), list(new)
    found: list[tuple[_Key, Change]] = []
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, a, b, c, d in matcher.get_opcodes():
        found += [(key, Change.REMOVED) for key in before[a:b] if key not in after]
        if tag == "equal":
            found += [(key, Change.SAME) for key in after[c:d]]
        else:
            found += [(k, Change.MOVED if k in before else Change.NEW) for k in after[c:d]]
    return found
