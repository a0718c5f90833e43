"""Names and shapes of our networks' tensors in other implementations: tables, without torch.

A :class:`Layout` is a table of the names that another implementation gives to the parts of a
network, with the structure of the networks that it has. Each rule has the names of a module (or of
a single tensor) in both implementations, with placeholders for stages and blocks:

========== =====================================================================================
{stage}    index of the stage, from 0
{from1}    the same, from 1
{odd}      position of the stage among stages and the downsampling between them: 1, 3, 5, ...
{even}     position of the stem or downsampling before it: 0, 2, 4, ...
{block}    index of the block within its stage, from 0
{at}       our name of the block
========== =====================================================================================

A rule applies wherever our network has the tensors it names, so that a table may have rules for
parts that only some stages or blocks have. The same table serves both directions.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any

from modernize.errors import UnknownNameError, WeightsError
from modernize.models import MODELS
from modernize.spec import NetSpec, Role
from modernize.steps import spec_of
from modernize.text import plural


class Shape(enum.Enum):
    """The relation between the shape of a tensor in another implementation and in ours."""

    SAME = enum.auto()
    MATRIX = enum.auto()  # a linear layer (out, in) for our 1x1 convolution (out, in, 1, 1)
    MAP = enum.auto()  # a map (C, 1, 1) for our vector (C,)

    def of(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the other implementation's shape of a tensor of ours."""
        if self is Shape.MATRIX and len(ours) == 4:  # its bias is a vector in both
            return ours[:2]
        return (*ours, 1, 1) if self is Shape.MAP else ours

    def allows(self, dimensions: int) -> bool:
        """Returns whether a tensor with this number of dimensions can have this relation."""
        if self is Shape.SAME:
            return True
        return dimensions == 3 if self is Shape.MAP else dimensions <= 2


@dataclasses.dataclass(frozen=True)
class NameRule:
    """One module or tensor: its name there and here, and its shape there."""

    theirs: str
    ours: str
    shape: Shape = Shape.SAME


def find_rule(rules: Mapping[str, NameRule], name: str) -> NameRule | None:
    """Returns the rule of a tensor: its own, or one made of its module's; None if neither exists.

    Args:
        rules: by the names of modules and tensors in one of the implementations.
        name: of the tensor in that implementation.
    """
    module, _, leaf = name.rpartition(".")
    if name not in rules and (rule := rules.get(module)):
        return NameRule(f"{rule.theirs}.{leaf}", f"{rule.ours}.{leaf}", rule.shape)
    return rules.get(name)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names and shapes of one implementation.

    Attributes:
        title: the implementation and its network, for messages.
        names: accepted by :func:`find_layout`.
        reference: our network with the same structure; None: it has all our networks, under our
            names.
        rules: the table.
        scale_optional: whether it has the network both with and without Layer Scale.
        wrapper: key of the state dict in a ``torch.save`` file; None: the file is the state dict.
    """

    title: str
    names: tuple[str, ...]
    reference: NetSpec | None
    rules: tuple[NameRule, ...] = ()
    scale_optional: bool = False
    wrapper: str | None = None

    def mismatches(self, spec: NetSpec) -> list[str]:
        """Returns the reasons, field by field, why the layout does not have such a network.

        Sizes and the kernel size may differ, even if the other implementation fixes them: a wrong
        one leads to tensors that do not fit. Of Layer Scale, only its presence counts.
        """
        if self.reference is None:
            return []
        faults = [
            f"{field} is {mine}, not {theirs}"
            for field, (mine, theirs) in spec.diff(
                self.reference, set(Role) - {Role.STRUCTURE}
            ).items()
            if field != "kernel_size"
        ]
        if len(spec.depths) != len(self.reference.depths):
            faults.append(f"it has {plural(len(self.reference.depths), 'stage')}")
        if not self.scale_optional and bool(spec.layer_scale) != bool(self.reference.layer_scale):
            faults.append(f"it has {'a' if self.reference.layer_scale else 'no'} Layer Scale")
        return faults

    def expand(self, depths: tuple[int, ...]) -> Iterator[NameRule]:
        """Yields the rules for all stages and blocks of a network; some occur more than once."""
        for stage, depth in enumerate(depths):
            for block in range(depth):
                at = f"stages.{stage}.blocks.{block}"
                values = {**_indices(stage), "block": block, "at": at}
                for rule in self.rules:
                    yield NameRule(
                        rule.theirs.format_map(values), rule.ours.format_map(values), rule.shape
                    )

    def block_prefix(self, stage: int) -> str:
        """Returns the part of their names before the index of a block, for one stage."""
        rule = next(rule for rule in self.rules if "{block}" in rule.theirs)
        return rule.theirs.partition("{block}")[0].format_map(_indices(stage))


def _indices(stage: int) -> dict[str, Any]:
    return {"stage": stage, "from1": stage + 1, "odd": 2 * stage + 1, "even": 2 * stage}


# fmt: off
_RESNET = (
    NameRule("conv1",                               "stem.conv"),
    NameRule("bn1",                                 "stem.norm"),
    NameRule("layer{from1}.{block}.conv1",          "{at}.branch.expand"),
    NameRule("layer{from1}.{block}.bn1",            "{at}.branch.expand_norm"),
    NameRule("layer{from1}.{block}.conv2",          "{at}.branch.spatial"),
    NameRule("layer{from1}.{block}.bn2",            "{at}.branch.spatial_norm"),
    NameRule("layer{from1}.{block}.conv3",          "{at}.branch.project"),
    NameRule("layer{from1}.{block}.bn3",            "{at}.branch.project_norm"),
    NameRule("layer{from1}.{block}.downsample.0",   "{at}.shortcut.conv"),
    NameRule("layer{from1}.{block}.downsample.1",   "{at}.shortcut.norm"),
    NameRule("fc",                                  "head"),
)
_TORCHVISION_CONVNEXT = (
    NameRule("features.0.0",                        "stem.conv"),
    NameRule("features.0.1",                        "stem.norm"),
    NameRule("features.{even}.0",                   "stages.{stage}.downsample.norm"),
    NameRule("features.{even}.1",                   "stages.{stage}.downsample.conv"),
    NameRule("features.{odd}.{block}.block.0",      "{at}.branch.spatial"),
    NameRule("features.{odd}.{block}.block.2",      "{at}.branch.spatial_norm"),
    NameRule("features.{odd}.{block}.block.3",      "{at}.branch.expand", Shape.MATRIX),
    NameRule("features.{odd}.{block}.block.5",      "{at}.branch.project", Shape.MATRIX),
    NameRule("features.{odd}.{block}.layer_scale",  "{at}.branch.scale.gamma", Shape.MAP),
    NameRule("classifier.0",                        "norm"),
    NameRule("classifier.2",                        "head"),
)
_TIMM_CONVNEXT = (
    NameRule("stem.0",                                 "stem.conv"),
    NameRule("stem.1",                                 "stem.norm"),
    NameRule("stages.{stage}.downsample.0",            "stages.{stage}.downsample.norm"),
    NameRule("stages.{stage}.downsample.1",            "stages.{stage}.downsample.conv"),
    NameRule("stages.{stage}.blocks.{block}.conv_dw",  "{at}.branch.spatial"),
    NameRule("stages.{stage}.blocks.{block}.norm",     "{at}.branch.spatial_norm"),
    NameRule("stages.{stage}.blocks.{block}.mlp.fc1",  "{at}.branch.expand", Shape.MATRIX),
    NameRule("stages.{stage}.blocks.{block}.mlp.fc2",  "{at}.branch.project", Shape.MATRIX),
    NameRule("stages.{stage}.blocks.{block}.gamma",    "{at}.branch.scale.gamma"),
    NameRule("head.norm",                              "norm"),
    NameRule("head.fc",                                "head"),
)
_OFFICIAL_CONVNEXT = (
    NameRule("downsample_layers.0.0",               "stem.conv"),
    NameRule("downsample_layers.0.1",               "stem.norm"),
    NameRule("downsample_layers.{stage}.0",         "stages.{stage}.downsample.norm"),
    NameRule("downsample_layers.{stage}.1",         "stages.{stage}.downsample.conv"),
    NameRule("stages.{stage}.{block}.dwconv",       "{at}.branch.spatial"),
    NameRule("stages.{stage}.{block}.norm",         "{at}.branch.spatial_norm"),
    NameRule("stages.{stage}.{block}.pwconv1",      "{at}.branch.expand", Shape.MATRIX),
    NameRule("stages.{stage}.{block}.pwconv2",      "{at}.branch.project", Shape.MATRIX),
    NameRule("stages.{stage}.{block}.gamma",        "{at}.branch.scale.gamma"),
    NameRule("norm",                                "norm"),
    NameRule("head",                                "head"),
)
_OFFICIAL_ISOTROPIC = (
    NameRule("stem",                                "stem.conv"),
    NameRule("blocks.{block}.dwconv",               "{at}.branch.spatial"),
    NameRule("blocks.{block}.norm",                 "{at}.branch.spatial_norm"),
    NameRule("blocks.{block}.pwconv1",              "{at}.branch.expand", Shape.MATRIX),
    NameRule("blocks.{block}.pwconv2",              "{at}.branch.project", Shape.MATRIX),
    NameRule("blocks.{block}.gamma",                "{at}.branch.scale.gamma"),
    NameRule("norm",                                "norm"),
    NameRule("head",                                "head"),
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
        tuple(dataclasses.replace(rule, shape=Shape.SAME) for rule in _TIMM_CONVNEXT),
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
LAYOUT_NAMES = tuple(dict.fromkeys(name for layout in LAYOUTS for name in layout.names))


def find_layout(name: str, spec: NetSpec) -> Layout:
    """Returns the layout with this name that has a network of this structure.

    Raises:
        UnknownNameError: for an unknown name, listing :data:`LAYOUT_NAMES`.
        WeightsError: if the implementation has no such network, naming the reasons.
    """
    named = [layout for layout in LAYOUTS if name in layout.names]
    if not named:
        raise UnknownNameError("layout", name, LAYOUT_NAMES)
    for layout in named:
        if not layout.mismatches(spec):
            return layout
    reasons = "".join(
        f"\n  {layout.title}: {', '.join(layout.mismatches(spec))}" for layout in named
    )
    raise WeightsError(
        f"the layout {name!r} has no network of this structure; 'ours' has all networks:{reasons}"
    )
