"""How other implementations name and shape the tensors of our networks: tables, without torch.

A :class:`Layout` is a table that says what another implementation calls each part of a network, and
which of our networks it has at all. A row names a module (or a single tensor) in both, once for the
whole network, for a stage or for a block, by the placeholders that stand in it:

========== =====================================================================================
{stage}    our number of the stage, from 0
{from1}    the same, from 1
{odd}      place of the stage among stages and what stands between them: 1, 3, 5, ...
{even}     place of what stands before it: 0, 2, 4, ...; place 0 is the stem
{block}    number of the block within its stage, from 0
{at}       our name of the block
========== =====================================================================================

A row is used wherever our network has the tensors it names, so that a table can list what only some
stages or blocks have. Both directions follow from the same table.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from typing import Any

from modernize.errors import UnknownNameError, WeightsError
from modernize.models import MODELS
from modernize.spec import NetSpec, Role
from modernize.steps import spec_of
from modernize.text import plural


class Shape(enum.Enum):
    """How the shape of a tensor in another implementation follows from ours."""

    SAME = enum.auto()
    MATRIX = enum.auto()  # a linear layer (out, in) for our 1x1 convolution (out, in, 1, 1)
    MAP = enum.auto()  # a map (C, 1, 1) for our vector (C,)

    def of(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the other implementation's shape of a tensor of ours."""
        if self is Shape.MATRIX and len(ours) == 4:  # its bias is a vector in both
            return ours[:2]
        return (*ours, 1, 1) if self is Shape.MAP else ours

    def has(self, dimensions: int) -> bool:
        """Tells whether a tensor of so many dimensions may stand in such a row."""
        if self is Shape.SAME:
            return True
        return dimensions == 3 if self is Shape.MAP else dimensions <= 2


@dataclasses.dataclass(frozen=True)
class Row:
    """One module or tensor: what it is called there and here, and how it is shaped there."""

    theirs: str
    ours: str
    shape: Shape = Shape.SAME


@dataclasses.dataclass(frozen=True)
class Layout:
    """What one implementation calls the parts of a network.

    Attributes:
        title: whose network it is, for people.
        names: what it is called where a layout is asked for.
        like: a network of ours with the same structure; None: it has every network of ours, under
            the very names that we use.
        rows: the table.
        scale_optional: whether it has the network without Layer Scale as well as with it.
        wrapper: under which key of a ``torch.save`` file the tensors stand; None: they are all.
    """

    title: str
    names: tuple[str, ...]
    like: NetSpec | None
    rows: tuple[Row, ...] = ()
    scale_optional: bool = False
    wrapper: str | None = None

    def misfits(self, spec: NetSpec) -> list[str]:
        """Returns why the layout has no such network, field by field; nothing if it has.

        Sizes are free, kernel size included, even if the other implementation fixes them: a wrong
        one shows as tensors that do not fit. Of Layer Scale, only its presence counts.
        """
        if self.like is None:
            return []
        faults = [
            f"{field} is {mine} where it has {theirs}"
            for field, (mine, theirs) in spec.diff(self.like, set(Role) - {Role.STRUCTURE}).items()
            if field != "kernel_size"
        ]
        if len(spec.depths) != len(self.like.depths):
            faults.append(f"it has {plural(len(self.like.depths), 'stage')}")
        if not self.scale_optional and bool(spec.layer_scale) != bool(self.like.layer_scale):
            faults.append(f"it has {'a' if self.like.layer_scale else 'no'} Layer Scale")
        return faults

    def expand(self, depths: tuple[int, ...]) -> Iterator[Row]:
        """Writes every row out for the stages and blocks of a network; some rows come twice."""
        for stage, depth in enumerate(depths):
            for block in range(depth):
                at = f"stages.{stage}.blocks.{block}"
                place = {**_places(stage), "block": block, "at": at}
                for row in self.rows:
                    yield Row(row.theirs.format_map(place), row.ours.format_map(place), row.shape)

    def block_prefix(self, stage: int) -> str:
        """Returns what stands before the number of a block in the names of a stage."""
        row = next(row for row in self.rows if "{block}" in row.theirs)
        return row.theirs.partition("{block}")[0].format_map(_places(stage))


def _places(stage: int) -> dict[str, Any]:
    return {"stage": stage, "from1": stage + 1, "odd": 2 * stage + 1, "even": 2 * stage}


# fmt: off
_RESNET = (
    Row("conv1",                               "stem.conv"),
    Row("bn1",                                 "stem.norm"),
    Row("layer{from1}.{block}.conv1",          "{at}.branch.expand"),
    Row("layer{from1}.{block}.bn1",            "{at}.branch.expand_norm"),
    Row("layer{from1}.{block}.conv2",          "{at}.branch.spatial"),
    Row("layer{from1}.{block}.bn2",            "{at}.branch.spatial_norm"),
    Row("layer{from1}.{block}.conv3",          "{at}.branch.project"),
    Row("layer{from1}.{block}.bn3",            "{at}.branch.project_norm"),
    Row("layer{from1}.{block}.downsample.0",   "{at}.shortcut.conv"),
    Row("layer{from1}.{block}.downsample.1",   "{at}.shortcut.norm"),
    Row("fc",                                  "head"),
)
_TORCHVISION_CONVNEXT = (
    Row("features.0.0",                        "stem.conv"),
    Row("features.0.1",                        "stem.norm"),
    Row("features.{even}.0",                   "stages.{stage}.downsample.norm"),
    Row("features.{even}.1",                   "stages.{stage}.downsample.conv"),
    Row("features.{odd}.{block}.block.0",      "{at}.branch.spatial"),
    Row("features.{odd}.{block}.block.2",      "{at}.branch.spatial_norm"),
    Row("features.{odd}.{block}.block.3",      "{at}.branch.expand", Shape.MATRIX),
    Row("features.{odd}.{block}.block.5",      "{at}.branch.project", Shape.MATRIX),
    Row("features.{odd}.{block}.layer_scale",  "{at}.branch.scale.gamma", Shape.MAP),
    Row("classifier.0",                        "norm"),
    Row("classifier.2",                        "head"),
)
_TIMM_CONVNEXT = (
    Row("stem.0",                                 "stem.conv"),
    Row("stem.1",                                 "stem.norm"),
    Row("stages.{stage}.downsample.0",            "stages.{stage}.downsample.norm"),
    Row("stages.{stage}.downsample.1",            "stages.{stage}.downsample.conv"),
    Row("stages.{stage}.blocks.{block}.conv_dw",  "{at}.branch.spatial"),
    Row("stages.{stage}.blocks.{block}.norm",     "{at}.branch.spatial_norm"),
    Row("stages.{stage}.blocks.{block}.mlp.fc1",  "{at}.branch.expand", Shape.MATRIX),
    Row("stages.{stage}.blocks.{block}.mlp.fc2",  "{at}.branch.project", Shape.MATRIX),
    Row("stages.{stage}.blocks.{block}.gamma",    "{at}.branch.scale.gamma"),
    Row("head.norm",                              "norm"),
    Row("head.fc",                                "head"),
)
_OFFICIAL_CONVNEXT = (
    Row("downsample_layers.0.0",               "stem.conv"),
    Row("downsample_layers.0.1",               "stem.norm"),
    Row("downsample_layers.{stage}.0",         "stages.{stage}.downsample.norm"),
    Row("downsample_layers.{stage}.1",         "stages.{stage}.downsample.conv"),
    Row("stages.{stage}.{block}.dwconv",       "{at}.branch.spatial"),
    Row("stages.{stage}.{block}.norm",         "{at}.branch.spatial_norm"),
    Row("stages.{stage}.{block}.pwconv1",      "{at}.branch.expand", Shape.MATRIX),
    Row("stages.{stage}.{block}.pwconv2",      "{at}.branch.project", Shape.MATRIX),
    Row("stages.{stage}.{block}.gamma",        "{at}.branch.scale.gamma"),
    Row("norm",                                "norm"),
    Row("head",                                "head"),
)
_OFFICIAL_ISOTROPIC = (
    Row("stem",                                "stem.conv"),
    Row("blocks.{block}.dwconv",               "{at}.branch.spatial"),
    Row("blocks.{block}.norm",                 "{at}.branch.spatial_norm"),
    Row("blocks.{block}.pwconv1",              "{at}.branch.expand", Shape.MATRIX),
    Row("blocks.{block}.pwconv2",              "{at}.branch.project", Shape.MATRIX),
    Row("blocks.{block}.gamma",                "{at}.branch.scale.gamma"),
    Row("norm",                                "norm"),
    Row("head",                                "head"),
)
# fmt: on

_CONVNEXT = spec_of("downsample")
OURS = Layout("a network of this project", ("ours",), None, wrapper="network")
LAYOUTS: tuple[Layout, ...] = (
    Layout("torchvision's or timm's ResNet", ("torchvision", "timm"), spec_of("resnet"), _RESNET),
    Layout("torchvision's ConvNeXt", ("torchvision",), _CONVNEXT, _TORCHVISION_CONVNEXT),
    Layout("timm's ConvNeXt", ("timm",), _CONVNEXT, _TIMM_CONVNEXT, scale_optional=True),
    Layout(
        "timm's ConvNeXt with conv_mlp",
        ("timm-conv-mlp",),
        _CONVNEXT,
        tuple(dataclasses.replace(row, shape=Shape.SAME) for row in _TIMM_CONVNEXT),
        scale_optional=True,
    ),
    Layout(
        "the official ConvNeXt",
        ("official",),
        _CONVNEXT,
        _OFFICIAL_CONVNEXT,
        scale_optional=True,
        wrapper="model",
    ),
    Layout(
        "the official isotropic ConvNeXt",
        ("official",),
        MODELS["ConvNeXt-L (iso.)"],
        _OFFICIAL_ISOTROPIC,
        scale_optional=True,
        wrapper="model",
    ),
    OURS,
)
NAMES = tuple(dict.fromkeys(name for layout in LAYOUTS for name in layout.names))


def find_layout(name: str, spec: NetSpec) -> Layout:
    """Returns the layout of this name that has a network of this structure.

    Raises:
        UnknownNameError: for a name that no layout has, listing :data:`NAMES`.
        WeightsError: where the implementation has no such network, saying what keeps it from it.
    """
    named = [layout for layout in LAYOUTS if name in layout.names]
    if not named:
        raise UnknownNameError("layout", name, NAMES)
    for layout in named:
        if not layout.misfits(spec):
            return layout
    reasons = "".join(f"\n  {layout.title}: {', '.join(layout.misfits(spec))}" for layout in named)
    raise WeightsError(
        f"the layout {name!r} has no network of this structure; 'ours' has all:{reasons}"
    )
