"""Recognises a state dict: its layout from the names, its NetSpec from names and shapes.

This module does not import torch: here, a tensor is a name and a shape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from modernize.errors import SpecError, WeightsError
from modernize.layouts import LAYOUTS, OURS, Layout, find_rule
from modernize.spec import NetSpec, Role
from modernize.text import few

Shapes = Mapping[str, tuple[int, ...]]

_OUR_BLOCK = re.compile(r"stages\.\d+\.blocks\.\d+\.branch\.")
_INSERTED = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_PREFIXES = frozenset(("module", "model", "network", "net"))
_AVERAGED = "n_averaged"  # the counter of torch's AveragedModel
_SHOWN = 3  # names that are quoted from an unknown file
_DIGITS = 6  # at most, of the index of a block

# Faults by which similar networks are recognised, and the part that makes them different.
_UNSUPPORTED = (
    (r"unexpected: .*\.grn\.", "Global Response Normalization (ConvNeXt V2)"),
    (r"unexpected: conv1\.\d", "a stem of several convolutions (ResNet-C and -D)"),
    (r"unexpected: .*\.se\.", "squeeze and excitation"),
    (r"missing: layer\d+\.\d+\.conv3\.", "basic blocks (ResNet-18 and -34)"),
    (r"misshapen: layer\d+\.\d+\.conv2\.", "grouped or wider 3x3 convolutions (as ResNeXt)"),
    (r"misshapen: (stem|features|downsample_layers)\.0(\.0)?\.weight", "another stem"),
    (r"unexpected: (norm_pre|head\.pre_logits)\.", "another head"),
    (r"missing: (fc|head|head\.fc|classifier\.2)\.weight", "no classifier"),
)


def strip_wrappers(names: Iterable[str]) -> dict[str, str]:
    """Returns each name without the parts that wrappers of a network add.

    Wrappers are torch.compile, DataParallel, FSDP, moving averages, Lightning and similar ones:
    they add a first part to all names, or a part of their own anywhere. The counter of a moving
    average is left out.

    Raises:
        WeightsError: if two names are then equal.
    """
    plain = {
        name: ".".join(part for part in name.split(".") if part not in _INSERTED)
        for name in names
        if name != _AVERAGED
    }
    while len(first := {name.partition(".")[0] for name in plain.values()}) == 1:
        if not first <= _PREFIXES or not all("." in name for name in plain.values()):
            break
        plain = {name: inner.partition(".")[2] for name, inner in plain.items()}
    if len(set(plain.values())) < len(plain):
        twice = [name for name, n in Counter(plain.values()).items() if n > 1]
        raise WeightsError(f"two tensors have the same name: {few(twice)}.")
    return plain


def recognise(shapes: Shapes) -> Layout:
    """Returns the layout that has most of the names.

    Args:
        shapes: the shape of each tensor by its name in the file.

    Raises:
        WeightsError: if no layout has more than half of them, quoting some.
    """
    if any(map(_OUR_BLOCK.match, shapes)):
        return OURS
    foreign = [layout for layout in LAYOUTS if layout is not OURS]
    best = max(foreign, key=lambda layout: len(_known(layout, shapes)))
    if 2 * len(_known(best, shapes)) > len(shapes):
        return best
    titles = "; ".join(layout.title for layout in LAYOUTS)
    quoted = ", ".join(sorted(shapes)[:_SHOWN]) or "none"
    raise WeightsError(
        f"these are not weights of a known network: {len(shapes)} tensors, such as {quoted}. "
        f"Known are: {titles}."
    )


def infer_spec(layout: Layout, shapes: Shapes) -> NetSpec:
    """Returns the network of another implementation that has tensors of these shapes.

    If tensors disagree about a size, the majority decides; the others are then misshapen.

    Args:
        layout: of another implementation.
        shapes: the shape of each tensor by its name there.

    Raises:
        WeightsError: if no network has these sizes.
    """
    if layout.reference is None:
        raise WeightsError(
            "these weights have our own names, which do not determine the network; name "
            "the run's folder instead of the file, or pass its NetSpec."
        )
    ours = _known(layout, shapes)
    stem = [shape for name, shape in ours.items() if name.startswith("stem.")]
    kernels = [shape[-1] for name, shape in ours.items() if ".branch." in name and len(shape) == 4]
    like = layout.reference
    unscaled = layout.scale_optional and not any(name.endswith(".gamma") for name in ours)
    try:
        return like.replace(
            depths=_depths(layout, shapes),
            width=_majority((shape[0] for shape in stem if shape), like.width),
            kernel_size=_majority((k for k in kernels if k > 1), like.kernel_size),
            in_channels=_majority((s[1] for s in stem if len(s) == 4), like.in_channels),
            num_classes=_majority(
                (s[0] for name, s in ours.items() if name.startswith("head.") and s),
                like.num_classes,
            ),
            layer_scale=0.0 if unscaled else like.layer_scale,
        )
    except SpecError as error:
        raise WeightsError(f"read as {layout.title}: {error}") from None


def infer_start(layout: Layout, shapes: Shapes, spec: NetSpec) -> NetSpec:
    """Returns a network with the number of classes of weights that it starts from.

    Args:
        layout: of the weights.
        shapes: the shape of each tensor by its name there.
        spec: the network, except for its classes.

    Raises:
        WeightsError: if they are of another network, with the differences.
    """
    if layout is not OURS:
        theirs = infer_spec(layout, shapes)
        check_start(theirs, spec)
        return spec.replace(num_classes=theirs.num_classes)
    head = shapes.get("head.weight")
    try:
        return spec.replace(num_classes=head[0] if head else 0)
    except SpecError as error:
        raise WeightsError(str(error)) from None


def check_start(theirs: NetSpec, spec: NetSpec) -> None:
    """Checks that weights can be the start of a network; their classes may differ.

    Raises:
        WeightsError: if they are of another network, with the differences.
    """
    if differs := theirs.diff(spec, (Role.HEAD, Role.INITIAL, Role.TRAINING)):
        listed = "; ".join(f"{name} is {a}, not {b}" for name, (a, b) in differs.items())
        raise WeightsError(f"these are the weights of another network: {listed}.")


def unsupported_features(faults: Iterable[str]) -> list[str]:
    """Returns the features that the network seems to have and ours do not, from its faults."""
    lines = list(faults)
    return [name for pattern, name in _UNSUPPORTED if any(re.match(pattern, f) for f in lines)]


def _known(layout: Layout, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of those tensors that the layout has, by our names."""
    rules = {rule.theirs: rule for rule in layout.expand(_depths(layout, shapes))}
    found = {}
    for name, shape in shapes.items():
        rule = find_rule(rules, name)
        if rule is not None and rule.shape.allows(len(shape)):
            found[rule.ours] = shape
    return found


def _depths(layout: Layout, names: Iterable[str]) -> tuple[int, ...]:
    """Returns the number of blocks of each stage: one more than the highest index in a name."""
    listed = list(names)
    depths = []
    for stage in range(len(layout.reference.depths) if layout.reference else 0):
        prefix = layout.block_prefix(stage)
        after = (name[len(prefix) :] for name in listed if name.startswith(prefix))
        numbers = (rest.partition(".")[0] for rest in after)
        blocks = [int(n) + 1 for n in numbers if n.isdecimal() and len(n) <= _DIGITS]
        # A file has more tensors than blocks: a forged index cannot lead to a huge network.
        depths.append(min(max(blocks, default=1), len(listed)))
    return tuple(depths)


def _majority(votes: Iterable[int], default: int) -> int:
    """Returns the most frequent value, the first one if there are several."""
    counted = Counter(votes).most_common(1)
    return counted[0][0] if counted else default
