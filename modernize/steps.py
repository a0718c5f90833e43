"""The roadmap as data: what each step changes, and the regimes (sizes) in which it is applied.

A step is a row: its name, and the few fields of a :class:`~modernize.spec.NetSpec` that it changes.
:func:`apply_steps` applies rows one after the other; :func:`until` applies those of :data:`STEPS`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

from modernize.errors import SpecError, UnknownNameError
from modernize.spec import (
    Activation,
    Bottleneck,
    Downsampling,
    NetSpec,
    Norm,
    PerBlock,
    Role,
    SpatialConv,
    SpatialPosition,
    Stem,
)
from modernize.text import value_text

SHOWN_CHANGES = 2  # of a recipe; the values of more are not part of its name


class Training(enum.StrEnum):
    """Which of a preset's two recipes trains a network."""

    CLASSIC = "classic"
    ENHANCED = "enhanced"


@dataclasses.dataclass(frozen=True)
class Regime:
    """The sizes of the networks at the start and the end of a roadmap (Tables 10 and 11).

    Attributes:
        name: its name on the command line.
        start, end: names of its first and last network.
        reference: the Transformer that the paper compares it with; None: none.
        depths_before, depths: blocks per stage, before and from `stage-ratio` on.
        width_before, width_at_ratio, width: narrow width of stage 1 before `stage-ratio`, from it
            on, and from `width` on. The larger regime widens at both, to keep its FLOPs equal.
        image_size: height and width in pixels of its published FLOPs.
    """

    name: str
    start: str
    end: str
    reference: str | None
    depths_before: tuple[int, ...]
    depths: tuple[int, ...]
    width_before: int
    width_at_ratio: int
    width: int
    image_size: int

    def first(self) -> NetSpec:
        """Returns the first network of the roadmap."""
        return NetSpec(depths=self.depths_before, width=self.width_before)

    def fill_names(self, title: str) -> str:
        """Returns a title with ``{start}`` and ``{end}`` replaced by the names of those networks."""
        return title.replace("{start}", self.start).replace("{end}", self.end)


@dataclasses.dataclass(frozen=True)
class RegimeValue:
    """A placeholder in a row: the value of this attribute of the regime."""

    attribute: str


@dataclasses.dataclass(frozen=True)
class Step:
    """One row of the roadmap.

    Attributes:
        key: its name on the command line.
        title: its name in tables and charts.
        section: the part of the paper (Section 2) it belongs to.
        changes: NetSpec fields and their values from this step on.
        training: the recipe from this step on; None: the one before.
        adopted: False for a side branch, on which the next step does not build.
        recipe: keys of the recipe and their values from this step on, until a step with another
            ``training``.
    """

    key: str
    title: str
    section: str
    changes: Mapping[str, Any]
    training: Training | None = None
    adopted: bool = True
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# fmt: off
REGIMES: Mapping[str, Regime] = {regime.name: regime for regime in (
    Regime("resnet50",  "ResNet-50",  "ConvNeXt-T", "Swin-T",
           (3, 4, 6, 3),   (3, 3, 9, 3),  width_before=64, width_at_ratio=64, width=96,  image_size=224),
    Regime("resnet200", "ResNet-200", "ConvNeXt-B", "Swin-B",
           (3, 24, 36, 3), (3, 3, 27, 3), width_before=64, width_at_ratio=84, width=128, image_size=224),
    Regime("nano",      "ResNet-nano", "ConvNeXt-nano", None,
           (1, 1, 2, 1),   (1, 1, 3, 1),  width_before=16, width_at_ratio=16, width=24,  image_size=32),
)}

STEPS: tuple[Step, ...] = (
    Step("resnet",      "{start} (classic recipe)",  "Baseline",            {}, Training.CLASSIC),
    Step("recipe",      "{start} (enhanced recipe)", "Training techniques", {}, Training.ENHANCED),
    Step("stage-ratio", "stage ratio",               "Macro design",        {"depths": RegimeValue("depths"), "width": RegimeValue("width_at_ratio")}),
    Step("patchify",    "patchify stem",             "Macro design",        {"stem": Stem.PATCHIFY}),
    Step("depthwise",   "depthwise conv",            "ResNeXt-ify",         {"spatial_conv": SpatialConv.DEPTHWISE}),
    Step("width",       "increase width",            "ResNeXt-ify",         {"width": RegimeValue("width")}),
    Step("inverted",    "inverted bottleneck",       "Inverted bottleneck", {"bottleneck": Bottleneck.INVERTED}),
    Step("move-up",     "move up depthwise conv",    "Large kernel",        {"spatial_position": SpatialPosition.FIRST}),
    Step("kernel-5",    "kernel size 5",             "Large kernel",        {"kernel_size": 5}),
    Step("kernel-7",    "kernel size 7",             "Large kernel",        {"kernel_size": 7}),
    Step("kernel-9",    "kernel size 9",             "Large kernel",        {"kernel_size": 9}, adopted=False),
    Step("kernel-11",   "kernel size 11",            "Large kernel",        {"kernel_size": 11}, adopted=False),
    Step("gelu",        "ReLU to GELU",              "Micro design",        {"activation": Activation.GELU}),
    Step("fewer-acts",  "fewer activations",         "Micro design",        {"activations": PerBlock.ONE}),
    Step("fewer-norms", "fewer norms",               "Micro design",        {"norms": PerBlock.ONE}),
    Step("ln",          "BN to LN",                  "Micro design",        {"norm": Norm.LAYER}),
    Step("downsample",  "separate downsampling ({end})", "Micro design",    {"downsampling": Downsampling.SEPARATE, "layer_scale": 1e-6}),
)
# fmt: on


@dataclasses.dataclass(frozen=True)
class Variant:
    """One network to compare and its training, made by a row of the roadmap.

    Attributes:
        key, title, section, adopted: as in its :class:`Step`, with the regime's names filled in.
        parent: key of the step that it changes and is compared with; None for the first.
        spec: the network.
        training: the preset's recipe that trains it.
        recipe: keys of that recipe to which the variant gives other values, and these: numbers,
            text, Booleans, None or lists of them.
        start: the weights that its runs start from; None: fresh ones.
    """

    key: str
    title: str
    section: str
    adopted: bool
    parent: str | None
    spec: NetSpec
    training: Training
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    start: Mapping[str, Any] | None = dataclasses.field(default=None, hash=False)

    @property
    def recipe_name(self) -> str:
        """The recipe in a few words: its name and, if they are few, the values that differ."""
        if len(self.recipe) > SHOWN_CHANGES:
            return f"{self.training}, {len(self.recipe)} changes"
        return ", ".join(filter(None, [self.training, self.recipe_changes]))

    @property
    def recipe_changes(self) -> str:
        """The values that differ from those of the recipe ``training``; empty: none."""
        return ", ".join(f"{key} {value_text(value)}" for key, value in self.recipe.items())


def find_regime(name: str) -> Regime:
    """Returns the regime of that name.

    Raises:
        UnknownNameError: listing the regimes.
    """
    if name not in REGIMES:
        raise UnknownNameError("regime", name, REGIMES)
    return REGIMES[name]


def find_step(step: str | int) -> int:
    """Returns the index of a step of the road, given as its key or as its index (integer or text).

    Raises:
        UnknownNameError: listing the keys.
    """
    return find_key(step, [row.key for row in STEPS])


def find_key(step: str | int, keys: Sequence[str]) -> int:
    """Returns the index of a key, given as the key or as its index (integer or text).

    Raises:
        UnknownNameError: listing the keys.
    """
    indices = [str(index) for index in range(len(keys))]
    for names in (keys, indices):
        if str(step) in names:
            return names.index(str(step))
    raise UnknownNameError("step", step, [*keys, f"or an index from 0 to {len(keys) - 1}"])


def apply_steps(steps: Sequence[Step], regime: Regime) -> tuple[Variant, ...]:
    """Returns the variant that each row leads to, applied one after the other.

    Raises:
        SpecError: for a row that changes nothing, a key used twice, or an invalid network.
        UnknownNameError: for a row that changes a field that does not exist.
    """
    variants: list[Variant] = []
    spec, training, parent = regime.first(), Training.CLASSIC, None
    recipe: Mapping[str, Any] = {}
    for row in steps:
        if row.key in (v.key for v in variants):
            raise SpecError(
                f"the key {row.key!r} occurs twice in the list of steps; give each step a different key."
            )
        changes = {
            name: getattr(regime, value.attribute) if isinstance(value, RegimeValue) else value
            for name, value in row.changes.items()
        }
        new_spec, new_training = spec.replace(**changes), row.training or training
        new_recipe = {**({} if row.training else recipe), **row.recipe}
        if variants and (new_spec, new_training, new_recipe) == (spec, training, recipe):
            values = {**changes, **row.recipe}
            fields = (
                ", ".join(f"{k} is already {v}" for k, v in values.items()) or "it names no field"
            )
            raise SpecError(f"the step {row.key!r} changes nothing: {fields}; leave it out.")
        title = regime.fill_names(row.title)
        variants.append(
            Variant(
                row.key, title, row.section, row.adopted, parent, new_spec, new_training, new_recipe
            )
        )
        if row.adopted:
            spec, training, recipe, parent = new_spec, new_training, new_recipe, row.key
    return tuple(variants)


def until(step: str | int, regime: str = "resnet50") -> tuple[Variant, ...]:
    """Returns the roadmap's variants from the first up to and including this step.

    Raises:
        UnknownNameError: for an unknown step or regime, listing the valid ones.
    """
    return apply_steps(STEPS[: find_step(step) + 1], find_regime(regime))


def spec_of(step: str | int, regime: str = "resnet50", **fields: Any) -> NetSpec:
    """Returns the network of one step, with ``fields`` replaced.

    Raises:
        UnknownNameError: for an unknown step, regime or field, listing the valid ones.
        SpecError: for an invalid value of a field.
    """
    return until(step, regime)[-1].spec.replace(**fields)


def step_of(spec: NetSpec) -> str | None:
    """Returns the key of the step whose network has this structure; None if no step has it.

    Only the structure counts. Several steps have the same structure and other sizes (`resnet`,
    `stage-ratio`): then it is the one with these depths and this width in any of the regimes, or
    else the first.
    """
    alike = [
        variant
        for regime in REGIMES.values()
        for variant in apply_steps(STEPS, regime)
        if not spec.diff(variant.spec, ignoring=set(Role) - {Role.STRUCTURE})
    ]
    sized = [v for v in alike if (v.spec.depths, v.spec.width) == (spec.depths, spec.width)]
    return next((variant.key for variant in sized + alike), None)
