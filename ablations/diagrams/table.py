"""The architectures of networks as columns of a table, as in the paper's Table 9."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from modernize.closed_form import quick_cost
from modernize.diagram import Architecture, Kind, Layer, architecture
from modernize.spec import NetSpec


@dataclasses.dataclass(frozen=True)
class Group:
    """Layers of a cell that follow each other.

    Attributes:
        lines: their texts.
        blocks: the number of blocks that consist of these layers; None: they are no block.
    """

    lines: tuple[str, ...]
    blocks: int | None = None


@dataclasses.dataclass(frozen=True)
class Part:
    """A cell: a part of one network.

    Attributes:
        name: of the row.
        side: height of the part's output in positions; None for other rows.
        groups: its content.
    """

    name: str
    side: int | None
    groups: tuple[Group, ...]


@dataclasses.dataclass(frozen=True)
class Column:
    """One network of a table.

    Attributes:
        title: its name.
        image_size: height and width of the image in pixels.
        flops, params: its cost.
        parts: its cells, in order.
        notes: about the network.
    """

    title: str
    image_size: int
    flops: int
    params: int
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()

    def part(self, name: str) -> Part | None:
        """Returns the cell of this row; None if the network has none."""
        return next((part for part in self.parts if part.name == name), None)


def column(title: str, spec: NetSpec, image_size: int) -> Column:
    """Returns the column of a network.

    Args:
        title: its name.
        spec: the network.
        image_size: height and width of the image in pixels.

    Raises:
        UsageError: for an image too small for the network.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    network = architecture(spec)
    stem, *sides = network.sides(image_size)
    cost = quick_cost(spec, image_size)
    parts = [Part("stem", stem, (Group(_lines(network.stem)),))]
    for number, (stage, side) in enumerate(zip(network.stages, sides, strict=True), 1):
        block, before = Group(_lines(stage.rest.branch), stage.depth), _lines(stage.downsample)
        groups = (Group(before), block) if before else (block,)
        parts.append(Part(f"stage {number}", side, groups))
    head = [("head", 1, _lines(network.head)), ("block", None, _in_a_block(network))]
    parts += [Part(name, side, (Group(lines),)) for name, side, lines in head]
    return Column(title, image_size, cost.flops, cost.params, tuple(parts), _notes(title, network))


def _lines(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Returns the texts of the layers that Table 9 prints."""
    return tuple(filter(None, map(_line, layers)))


def _line(layer: Layer) -> str:
    stride = f", stride {layer.stride}" if layer.stride > 1 else ""
    size = f"{layer.kernel}x{layer.kernel}"
    match layer.kind:
        case Kind.CONV:
            kind = f"{layer.type.partition('@')[0]} " if layer.custom else "d" * layer.depthwise
            return f"{kind}{size}, {layer.out_width}{stride}"
        case Kind.MAX_POOL:
            return f"{size} max pool{stride}"
        case Kind.GLOBAL_POOL:
            return "average pool"
        case Kind.LINEAR:
            return f"linear, {layer.out_width}"
    return ""


def _in_a_block(network: Architecture) -> tuple[str, ...]:
    """Returns the numbers of norms, activations and Layer Scales of a block."""
    block = network.stages[-1].rest
    others = [layer.text for layer in (*block.branch, *block.after) if layer.kind is not Kind.CONV]
    return tuple(f"{count} {name}" for name, count in Counter(others).items())


def _notes(title: str, network: Architecture) -> tuple[str, ...]:
    strided = [
        layer
        for stage in network.stages[1:2]
        for layer in stage.first.branch
        if layer.stride > 1
    ]  # fmt: skip
    if not strided:
        return ()
    line = _line(strided[0]).partition(",")[0]
    return (f"{title}: in the first block of a stage from 2 on, {line} has stride 2.",)
