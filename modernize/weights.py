"""Checkpoints of other implementations, under the names of our networks.

A :class:`Layout` is a table that says what another implementation calls each part of a network, and
which of our networks it has at all. A row names a module (or a single tensor) in both, once for the
whole network, for a stage or for a block, by the placeholders that stand in it:

========== =====================================================================================
{stage}    our number of the stage, from 0
{from1}    the same, from 1
{odd}      place of the stage among stages and what stands between them: 1, 3, 5, ...
{even}     place of what stands before it: 0, 2, 4, ...; place 0 is the stem
{block}    number of the block within its stage, from 0
{at}       place of the block in ours, where the downsampling of a stage takes place 0 if separate
========== =====================================================================================

A row is used wherever our network has the tensors it names, so that a table can list what only some
stages or blocks have. Both directions follow from the same table.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from modernize.errors import WeightsError
from modernize.spec import Downsampling, NetSpec
from modernize.steps import spec_of

if TYPE_CHECKING:
    from torch import Tensor


class Shape(enum.Enum):
    """How the shape of a tensor in another implementation follows from ours."""

    SAME = enum.auto()
    MATRIX = (
        enum.auto()
    )  # a linear layer (out, in), where we have a 1x1 convolution (out, in, 1, 1)
    MAP = enum.auto()  # a map (C, 1, 1), where we have a vector (C,)

    def of(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the other implementation's shape of a tensor of ours."""
        if self is Shape.MATRIX and len(ours) == 4:  # its bias is a vector in both
            return ours[:2]
        return (*ours, 1, 1) if self is Shape.MAP else ours


@dataclasses.dataclass(frozen=True)
class Row:
    """One module or tensor: what it is called there and here, and how it is shaped there."""

    theirs: str
    ours: str
    shape: Shape = Shape.SAME


@dataclasses.dataclass(frozen=True)
class Layout:
    """What another implementation calls the parts of a network.

    Attributes:
        name: the network as its implementation calls it.
        like: a network of ours with the same structure.
        free: fields of NetSpec in which a network may differ from ``like``. Sizes are free even
            where the other implementation fixes them: a wrong one shows as tensors that do not fit.
        rows: the table.
    """

    name: str
    like: NetSpec
    free: frozenset[str]
    rows: tuple[Row, ...]

    def misfits(self, spec: NetSpec) -> list[str]:
        """Returns why the layout has no such network, field by field; nothing if it has."""
        faults = [
            f"{field} is {mine} where it has {theirs}"
            for field, (mine, theirs) in spec.diff(self.like).items()
            if field not in self.free
        ]
        if bool(spec.layer_scale) != bool(self.like.layer_scale):
            faults.append(f"it has {'a' if self.like.layer_scale else 'no'} Layer Scale")
        return faults


@dataclasses.dataclass(frozen=True)
class Pair:
    """One tensor: its name and shape in both implementations."""

    theirs: str
    their_shape: tuple[int, ...]
    ours: str
    our_shape: tuple[int, ...]


# Sizes, and what only training sees, are free; only whether there is a Layer Scale matters.
_SIZES = frozenset({"depths", "width", "kernel_size", "in_channels", "num_classes"})
_FREE = _SIZES | {"layer_scale", "drop_path", "init"}

# fmt: off
TORCHVISION: tuple[Layout, ...] = (
    Layout("torchvision's ResNet with bottleneck blocks", spec_of("resnet"), _FREE, (
        Row("conv1",                               "stem.0"),
        Row("bn1",                                 "stem.1"),
        Row("layer{from1}.{block}.conv1",          "stages.{stage}.{at}.branch.0"),
        Row("layer{from1}.{block}.bn1",            "stages.{stage}.{at}.branch.1"),
        Row("layer{from1}.{block}.conv2",          "stages.{stage}.{at}.branch.3"),
        Row("layer{from1}.{block}.bn2",            "stages.{stage}.{at}.branch.4"),
        Row("layer{from1}.{block}.conv3",          "stages.{stage}.{at}.branch.6"),
        Row("layer{from1}.{block}.bn3",            "stages.{stage}.{at}.branch.7"),
        Row("layer{from1}.{block}.downsample.0",   "stages.{stage}.{at}.shortcut.0"),
        Row("layer{from1}.{block}.downsample.1",   "stages.{stage}.{at}.shortcut.1"),
        Row("fc",                                  "head"),
    )),
    Layout("torchvision's ConvNeXt", spec_of("downsample"), _FREE, (
        Row("features.0.0",                        "stem.0"),
        Row("features.0.1",                        "stem.1"),
        Row("features.{even}.0",                   "stages.{stage}.0.0"),
        Row("features.{even}.1",                   "stages.{stage}.0.1"),
        Row("features.{odd}.{block}.block.0",      "stages.{stage}.{at}.branch.0"),
        Row("features.{odd}.{block}.block.2",      "stages.{stage}.{at}.branch.1"),
        Row("features.{odd}.{block}.block.3",      "stages.{stage}.{at}.branch.2", Shape.MATRIX),
        Row("features.{odd}.{block}.block.5",      "stages.{stage}.{at}.branch.4", Shape.MATRIX),
        Row("features.{odd}.{block}.layer_scale",  "stages.{stage}.{at}.branch.5.gamma", Shape.MAP),
        Row("classifier.0",                        "norm"),
        Row("classifier.2",                        "head"),
    )),
)
# fmt: on


def from_torchvision(state_dict: Mapping[str, Tensor], spec: NetSpec) -> dict[str, Tensor]:
    """Returns a torchvision state dict under our names and in our shapes.

    Args:
        state_dict: of a torchvision ResNet with bottleneck blocks, or ConvNeXt.
        spec: the network that the tensors are for.

    Returns:
        What ``Network(spec).load_state_dict`` takes; its tensors share memory with those given.

    Raises:
        WeightsError: if torchvision has no network of this structure, or else naming every missing,
            unexpected and misshapen tensor.
    """
    return _rename(state_dict, find_layout(TORCHVISION, spec), spec)


def find_layout(layouts: tuple[Layout, ...], spec: NetSpec) -> Layout:
    """Returns the layout that has a network of this structure.

    Raises:
        WeightsError: saying for each layout what keeps it from fitting.
    """
    for layout in layouts:
        if not layout.misfits(spec):
            return layout
    reasons = "".join(f"\n  {o.name}: {', '.join(o.misfits(spec))}" for o in layouts)
    raise WeightsError(f"no layout of weights fits this network:{reasons}")


def pairs(layout: Layout, spec: NetSpec) -> list[Pair]:
    """Returns every tensor of a network in our order, with its name and shape in both layouts.

    Raises:
        WeightsError: if the layout's table does not name all of the network's tensors.
    """
    import torch

    from modernize.network import Network

    with torch.device("meta"):
        tensors = Network(spec).state_dict()
    rows = {row.ours: row for row in _expand(layout, spec)}
    found, nameless = [], []
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        shape = tuple(tensor.shape)
        if name in rows:
            theirs, row = rows[name].theirs, rows[name]
        elif module in rows:
            theirs, row = f"{rows[module].theirs}.{leaf}", rows[module]
        else:
            nameless.append(name)
            continue
        found.append(Pair(theirs, row.shape.of(shape), name, shape))
    if nameless:
        raise WeightsError(f"{layout.name} has no name for {', '.join(nameless)}.")
    return found


def _expand(layout: Layout, spec: NetSpec) -> Iterator[Row]:
    """Writes every row out for the stages and blocks of a network."""
    for row in layout.rows:
        for place in _places(spec):
            yield Row(row.theirs.format_map(place), row.ours.format_map(place), row.shape)


def _places(spec: NetSpec) -> Iterator[dict[str, Any]]:
    """Gives the placeholders of every block of a network."""
    separate = spec.downsampling is Downsampling.SEPARATE
    for stage, depth in enumerate(spec.depths):
        for block in range(depth):
            yield {
                "stage": stage,
                "from1": stage + 1,
                "odd": 2 * stage + 1,
                "even": 2 * stage,
                "block": block,
                "at": block + (1 if separate and stage else 0),
            }


def _rename(given: Mapping[str, Tensor], layout: Layout, spec: NetSpec) -> dict[str, Tensor]:
    """Takes their tensors by name and returns ours; refuses unless every single one fits."""
    wanted = pairs(layout, spec)
    faults = [f"missing: {pair.theirs}" for pair in wanted if pair.theirs not in given]
    known = {pair.theirs for pair in wanted}
    faults += [f"unexpected: {name}" for name in given if name not in known]
    faults += [
        f"misshapen: {pair.theirs} is {tuple(given[pair.theirs].shape)}, not {pair.their_shape}"
        for pair in wanted
        if pair.theirs in given and tuple(given[pair.theirs].shape) != pair.their_shape
    ]
    if faults:
        listed = "\n  ".join(faults)
        raise WeightsError(f"these weights, read as {layout.name}, do not fit:\n  {listed}")
    return {pair.ours: given[pair.theirs].reshape(pair.our_shape) for pair in wanted}
