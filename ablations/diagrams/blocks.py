"""The content of a block's diagram: its layers, the rest of the network, and what changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablations.units import flops, integer
from modernize.closed_form import ClosedFormCost, quick_cost
from modernize.diagram import (
    Architecture,
    Block,
    Change,
    Difference,
    Layer,
    architecture,
    compare,
)
from modernize.errors import UsageError
from modernize.steps import Variant


@dataclasses.dataclass(frozen=True)
class Fact:
    """Something about the network outside the block.

    Attributes:
        name: such as "stem".
        lines: the texts that describe it.
        before: those of the network compared with, if they differ; else None.
    """

    name: str
    lines: tuple[str, ...]
    before: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class BlockDiagram:
    """A block beside that of another network.

    Attributes:
        key, title: of the network.
        against: key of the network that it is compared with; None if with none.
        stage: number of the block's stage, from 0.
        first: whether it is the first block of that stage.
        in_width, out_width: channels of the block's input and output.
        branch, shortcut, after: its layers, with their changes.
        facts: about the rest of the network.
    """

    key: str
    title: str
    against: str | None
    stage: int
    first: bool
    in_width: int
    out_width: int
    branch: tuple[Difference, ...]
    shortcut: tuple[Difference, ...]
    after: tuple[Difference, ...]
    facts: tuple[Fact, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The texts of the block's layers."""
        return tuple(d.layer.text for d in self.differences if d.change is not Change.REMOVED)

    @property
    def changed(self) -> bool:
        """Whether a layer of the block differs, or it is compared with none."""
        return not self.against or any(d.change is not Change.SAME for d in self.differences)

    @property
    def place(self) -> str:
        """The block that is drawn, in words."""
        which = "first block" if self.first else "block"
        return f"{which} of stage {self.stage + 1}"

    @property
    def differences(self) -> tuple[Difference, ...]:
        """All layers of the block, with their changes."""
        return (*self.branch, *self.shortcut, *self.after)

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row of values for each layer, in order."""
        return [
            {
                "step": self.key,
                "against": self.against,
                "stage": self.stage + 1,
                "part": part,
                "change": str(difference.change),
                "text": difference.layer.text,
                "before": difference.before.text if difference.before else None,
                **dataclasses.asdict(difference.layer),
            }
            for part in ("branch", "shortcut", "after")
            for difference in getattr(self, part)
        ]


def was(difference: Difference) -> str:
    """Returns the differing part of a changed layer's old text: "was 3x3"; or nothing."""
    layer, before = difference.layer, difference.before
    if before is None or before.text == layer.text or difference.change is Change.REMOVED:
        return ""
    old, new = before.text.split(", "), layer.text.split(", ")
    if len(old) == len(new):
        old = [part for part, other in zip(old, new, strict=True) if part != other]
    return f"was {', '.join(old)}"


def block_diagrams(
    pairs: Sequence[tuple[Variant, Variant | None]],
    image_size: int,
    *,
    stage: int | None = None,
    first: bool = False,
    count: Callable[[Variant, int], tuple[int, int]] | None = None,
) -> list[BlockDiagram]:
    """Returns the diagrams of networks' blocks.

    Args:
        pairs: the networks, each with the one that it is compared with.
        image_size: height and width in pixels of the images whose FLOPs are counted.
        stage: number of the block's stage, from 0; by default the first one in which all these
            networks have more than a first block.
        first: whether it is the first block of the stage, which may change width and resolution; a
            stage of one block has no other.
        count: returns the parameters and FLOPs of a network; by default, :func:`quick_cost`.

    Raises:
        UsageError: if a network does not have this stage, or for an image too small for it.
        CustomLayersError: if its custom layers are not loaded, or fail.
    """
    variants = {v.key: v for pair in pairs for v in pair if v}
    if stage is None:
        depths = zip(*(v.spec.depths for v in variants.values()), strict=False)
        stage = next((number for number, found in enumerate(depths) if min(found) > 1), 0)
    count = count or (lambda variant, size: quick_cost(variant.spec, size))
    costs = {key: ClosedFormCost(*count(v, image_size)) for key, v in variants.items()}
    return [_diagram(variant, against, stage, first, costs) for variant, against in pairs]


def _diagram(
    variant: Variant,
    against: Variant | None,
    stage: int,
    first: bool,
    costs: Mapping[str, ClosedFormCost],
) -> BlockDiagram:
    network = architecture(variant.spec)
    old = block = _block(variant, network, stage, first)
    known = facts = _facts(variant, network, costs[variant.key])
    if against is not None:
        before = architecture(against.spec)
        old = _block(against, before, min(stage, len(before.stages) - 1), first)
        known = _facts(against, before, costs[against.key])
    return BlockDiagram(
        key=variant.key,
        title=variant.title,
        against=against.key if against else None,
        stage=stage,
        first=block is network.stages[stage].first,
        in_width=block.in_width,
        out_width=block.out_width,
        branch=tuple(compare(old.branch, block.branch)),
        shortcut=tuple(compare(old.shortcut, block.shortcut)),
        after=tuple(compare(old.after, block.after)),
        facts=tuple(
            Fact(name, lines, known[name][0] if known[name][1] != compared else None)
            for name, (lines, compared) in facts.items()
        ),
    )


def _block(variant: Variant, network: Architecture, stage: int, first: bool) -> Block:
    if stage >= len(network.stages):
        raise UsageError(
            f"{variant.key} has no stage {stage + 1}; its stages are 1 to {len(network.stages)}."
        )
    chosen = network.stages[stage]
    return chosen.first if first or chosen.depth == 1 else chosen.rest


_Lines = tuple[str, ...]


def _facts(
    variant: Variant, network: Architecture, cost: ClosedFormCost
) -> dict[str, tuple[_Lines, _Lines]]:
    """Returns name -> lines, and the texts that decide whether it changed, outside the block."""
    spec = variant.spec
    facts = {
        "recipe": (variant.recipe_name,),
        "stages": (f"{_list(spec.depths)} blocks", f"{_list(spec.stream_widths)} channels"),
        "first blocks": (_first_blocks(network),),
        "downsampling": _downsampling(network),
        "cost": (flops(cost.flops), f"{integer(cost.params)} parameters"),
    }
    found = {name: (lines, lines) for name, lines in facts.items()}
    for name, layers in (("stem", network.stem), ("head", network.head)):
        # Their widths are those of the stages.
        found[name] = (tuple(layer.text for layer in layers), tuple(map(_kind, layers)))
    order = ("recipe", "stem", "stages", "first blocks", "downsampling", "head", "cost")
    return {name: found[name] for name in order}


def _first_blocks(network: Architecture) -> str:
    """Returns the layers on the shortcut of those first blocks that change width or resolution."""
    stages = [n for n, stage in enumerate(network.stages, 1) if stage.first.shortcut]
    if not stages:
        return "as all others"
    types = [_kind(layer) for layer in network.stages[stages[-1] - 1].first.shortcut]
    where = f"stage {stages[0]}" if len(stages) == 1 else f"stages {stages[0]} to {stages[-1]}"
    return f"{', '.join(types)} on the shortcut in {where}"


def _downsampling(network: Architecture) -> _Lines:
    """Returns how stages from the second on halve the resolution."""
    if len(network.stages) == 1:
        return ("none",)
    if layers := network.stages[1].downsample:
        return tuple(f"{_kind(x)}, stride {x.stride}" if x.stride > 1 else _kind(x) for x in layers)
    return ("stride 2 in the first block",)


def _kind(layer: Layer) -> str:
    """Returns a layer without its widths, which differ between stages."""
    return layer.text.partition(",")[0]


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)
