"""The paper's backbones that this project does not build, as sizes: Swin and ResNeXt-101.

Their costs are in closed form, as those of our networks; a test compares them with the networks of
timm and torchvision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from modernize.diagram import Architecture, Block, Layer, architecture
from modernize.heads.cost import DenseCost, Maps, Size, architecture_maps, backbone, conv, linear
from modernize.models import MODELS


class SizedBackbone(Protocol):
    """A backbone whose cost is known."""

    def maps(self, size: Size) -> Maps:
        """Returns its maps and its cost for images of this (height, width) in pixels."""


@dataclasses.dataclass(frozen=True)
class Ours:
    """A network of :data:`modernize.models.MODELS`."""

    name: str

    def maps(self, size: Size) -> Maps:
        """See :class:`SizedBackbone`."""
        return backbone(MODELS[self.name], size)


@dataclasses.dataclass(frozen=True)
class ResNeXt:
    """A ResNet whose 3x3 convolutions are wider and have groups; without output norms.

    Attributes:
        depths: blocks of each stage.
        groups: of the 3x3 convolutions.
        width: of a group in the first stage, in channels.
    """

    depths: tuple[int, ...]
    groups: int
    width: int

    def maps(self, size: Size) -> Maps:
        """See :class:`SizedBackbone`."""
        spec = MODELS["ResNet-50"].replace(depths=self.depths)
        network = architecture(spec)
        times = self.groups * self.width // spec.width
        stages = tuple(
            dataclasses.replace(
                stage, first=self._wider(stage.first, times), rest=self._wider(stage.rest, times)
            )
            for stage in network.stages
        )
        return architecture_maps(Architecture(network.stem, stages, ()), size)

    def _wider(self, block: Block, times: int) -> Block:
        first, *inside, project, last = block.branch
        changed = [
            dataclasses.replace(first, out_width=times * first.out_width),
            *(self._inner(layer, times) for layer in inside),
            dataclasses.replace(project, in_width=times * project.in_width),
            last,
        ]
        return dataclasses.replace(block, branch=tuple(changed))

    def _inner(self, layer: Layer, times: int) -> Layer:
        return dataclasses.replace(
            layer,
            in_width=times * layer.in_width,
            out_width=times * layer.out_width,
            groups=self.groups if layer.name == "spatial" else 1,
        )


@dataclasses.dataclass(frozen=True)
class Swin:
    """A Swin Transformer with a LayerNorm on each output; its windows are padded.

    Attributes:
        depths: blocks of each stage.
        width: channels of the first stage.
        heads: of attention in the first stage.
        window: height of a window, in positions.
    """

    depths: tuple[int, ...]
    width: int
    heads: int
    window: int = 7

    def maps(self, size: Size) -> Maps:
        """See :class:`SizedBackbone`."""
        height, wide = (-(-side // 4) for side in size)
        total = conv(3, self.width, 4, (height, wide)) + _norm(self.width, height * wide)
        widths, sizes = [], []
        for stage, depth in enumerate(self.depths):
            width = self.width << stage
            if stage:
                height, wide = (height + 1) // 2, (wide + 1) // 2
                positions = height * wide
                total += _norm(2 * width, positions) + linear(
                    2 * width, width, positions, bias=False
                )
            block = self._block(width, self.heads << stage, (height, wide))
            total = sum([block] * depth, total) + _norm(width, height * wide)
            widths.append(width)
            sizes.append((height, wide))
        return Maps(widths, sizes, total)

    def _block(self, width: int, heads: int, size: Size) -> DenseCost:
        positions = size[0] * size[1]
        window = self.window
        padded = (-(-size[0] // window) * window) * (-(-size[1] // window) * window)
        bias = heads * (2 * window - 1) ** 2
        attention = DenseCost(params=bias, attention=2 * padded * window**2 * width)
        attention += linear(width, 3 * width, padded) + linear(width, width, padded)
        mlp = linear(width, 4 * width, positions) + linear(4 * width, width, positions)
        norm = _norm(width, positions)
        return norm + attention + norm + mlp


def _norm(width: int, positions: int) -> DenseCost:
    """Returns the cost of a LayerNorm of torch."""
    return DenseCost(params=2 * width, other=2 * width * positions)


BACKBONES: Mapping[str, SizedBackbone] = {
    **{name: Ours(name) for name, spec in MODELS.items() if len(spec.depths) == 4},
    "X101-32": ResNeXt((3, 4, 23, 3), 32, 4),
    "X101-64": ResNeXt((3, 4, 23, 3), 64, 4),
    "Swin-T": Swin((2, 2, 6, 2), 96, 3),
    "Swin-S": Swin((2, 2, 18, 2), 96, 3),
    "Swin-B": Swin((2, 2, 18, 2), 128, 4),
    "Swin-L": Swin((2, 2, 18, 2), 192, 6),
}
"""Name in the paper's tables -> the backbone."""
