"""What a set of named tensors is: its layout from the names, its NetSpec from names and shapes.

Nothing here imports torch: a tensor is a name and a shape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from modernize.errors import SpecError, WeightsError
from modernize.layouts import LAYOUTS, OURS, Layout, Row
from modernize.spec import NetSpec
from modernize.text import few

Shapes = Mapping[str, tuple[int, ...]]

_OUR_BLOCK = re.compile(r"stages\.\d+\.blocks\.\d+\.branch\.")
_INSERTED = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
_PREFIXES = frozenset(("module", "model", "network", "net"))
_AVERAGED = "n_averaged"  # what torch's AveragedModel counts
_SHOWN = 3  # names quoted from a file that is nothing we know
_DIGITS = 6  # of the number of a block; more are no number of a block

# What networks that only look alike give themselves away by, in the lines that say what is wrong.
_LOOKALIKES = (
    (r"unexpected: .*\.grn\.", "Global Response Normalization (ConvNeXt V2)"),
    (r"unexpected: conv1\.\d", "a stem of several convolutions (ResNet-C and -D)"),
    (r"unexpected: .*\.se\.", "squeeze and excitation"),
    (r"missing: layer\d+\.\d+\.conv3\.", "basic blocks (ResNet-18 and -34)"),
    (r"misshapen: layer\d+\.\d+\.conv2\.", "grouped or wider 3x3 convolutions (as ResNeXt)"),
    (r"misshapen: (stem|features|downsample_layers)\.0(\.0)?\.weight", "another stem"),
    (r"unexpected: (norm_pre|head\.pre_logits)\.", "another head"),
    (r"missing: (fc|head|head\.fc|classifier\.2)\.weight", "no classifier"),
)


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Returns each name without what programs that wrap a network add to it.

    These are torch.compile, DataParallel, FSDP, moving averages, Lightning and the like: one word
    before all names, or one of theirs anywhere. The counter of a moving average is left out.

    Raises:
        WeightsError: for two names that are then the same.
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
        raise WeightsError(f"there are two tensors of the same name: {few(twice)}.")
    return plain


def recognise(shapes: Shapes) -> Layout:
    """Returns the layout that knows most of the names.

    Args:
        shapes: the shape of each tensor by its name in the file.

    Raises:
        WeightsError: where no layout knows even half of them, quoting some.
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
        f"these are weights of no network known here: tensors such as {quoted}, "
        f"{len(shapes)} in all. Known are: {titles}."
    )


def infer_spec(layout: Layout, shapes: Shapes) -> NetSpec:
    """Returns the network of another implementation that tensors of these shapes are for.

    Where tensors disagree about a size, most of them decide; the others are then misshapen.

    Args:
        layout: of another implementation.
        shapes: the shape of each tensor by its name there.

    Raises:
        WeightsError: where the sizes are those of no network.
    """
    if layout.like is None:
        raise WeightsError(
            "these weights have our own names, which do not say what network they are for; name "
            "the run's folder in place of the file, or pass its NetSpec."
        )
    ours = _known(layout, shapes)
    stem = [shape for name, shape in ours.items() if name.startswith("stem.")]
    kernels = [shape[-1] for name, shape in ours.items() if ".branch." in name and len(shape) == 4]
    like = layout.like
    unscaled = layout.scale_optional and not any(name.endswith(".gamma") for name in ours)
    try:
        return like.replace(
            depths=_depths(layout, shapes),
            width=_most((shape[0] for shape in stem if shape), like.width),
            kernel_size=_most((k for k in kernels if k > 1), like.kernel_size),
            in_channels=_most((s[1] for s in stem if len(s) == 4), like.in_channels),
            num_classes=_most(
                (s[0] for name, s in ours.items() if name.startswith("head.") and s),
                like.num_classes,
            ),
            layer_scale=0.0 if unscaled else like.layer_scale,
        )
    except SpecError as error:
        raise WeightsError(f"read as {layout.title}: {error}") from None


def lookalikes(faults: Iterable[str]) -> list[str]:
    """Returns what the network seems to have that ours have not, from the list of its faults."""
    lines = list(faults)
    return [what for pattern, what in _LOOKALIKES if any(re.match(pattern, f) for f in lines)]


def _known(layout: Layout, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of those tensors that the layout knows, by our names."""
    rows = {row.theirs: row for row in layout.expand(_depths(layout, shapes))}
    found = {}
    for name, shape in shapes.items():
        ours = _our_name(rows, name)
        if ours is not None and ours[1].shape.has(len(shape)):
            found[ours[0]] = shape
    return found


def _our_name(rows: Mapping[str, Row], name: str) -> tuple[str, Row] | None:
    """Returns what we call a tensor, and the row that says so."""
    module, _, leaf = name.rpartition(".")
    if name in rows:
        return rows[name].ours, rows[name]
    return (f"{rows[module].ours}.{leaf}", rows[module]) if module in rows else None


def _depths(layout: Layout, names: Iterable[str]) -> tuple[int, ...]:
    """Returns the number of blocks of each stage: one more than the highest number in a name."""
    listed = list(names)
    depths = []
    for stage in range(len(layout.like.depths) if layout.like else 0):
        prefix = layout.block_prefix(stage)
        after = (name[len(prefix) :] for name in listed if name.startswith(prefix))
        numbers = (rest.partition(".")[0] for rest in after)
        blocks = [int(n) + 1 for n in numbers if n.isdecimal() and len(n) <= _DIGITS]
        # A file has more tensors than blocks: no forged number makes us build a giant.
        depths.append(min(max(blocks, default=1), len(listed)))
    return tuple(depths)


def _most(votes: Iterable[int], default: int) -> int:
    """Returns the most frequent value, the first one of several."""
    counted = Counter(votes).most_common(1)
    return counted[0][0] if counted else default
