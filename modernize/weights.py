"""Reads and writes checkpoints of torchvision, timm, the official ConvNeXt, and this project.

:func:`read` reads a file of any of them, :func:`load` also builds the network, and :func:`write`
writes any layout. The names and shapes of the tensors determine the layout and the network; only
tensors and plain values are read. :mod:`modernize.layouts` has the tables of names.

Names and shapes determine the structure, but not the parts without tensors: a timm ConvNeXt with
another activation than GELU, or another epsilon, looks like any other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modernize.errors import CustomLayersError, UsageError, WeightsError
from modernize.layouts import OURS, Layout, NameRule, find_layout, find_rule
from modernize.recognition import (
    check_start,
    infer_spec,
    infer_start,
    recognise,
    strip_wrappers,
    unsupported_features,
)
from modernize.spec import NetSpec
from modernize.text import plural

if TYPE_CHECKING:
    from torch import Tensor

    from modernize.network import Network

_COUNTER = "num_batches_tracked"  # of a BatchNorm: not learned, and missing in old files
MAX_BLOCKS = 1000  # of a network that is inferred from a file
MAX_REASON = 500  # characters of the fault of a description
MAX_SHOWN = 5  # tensors that are named for each kind of fault

_STATISTICS = ("running_mean", "running_var", _COUNTER)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The tensors of one network under our names.

    Attributes:
        layout: of the file that they were read from.
        spec: their network.
        tensors: the state dict of ``Network(spec)``, complete.
    """

    layout: Layout
    spec: NetSpec
    tensors: Mapping[str, Tensor]

    @property
    def params(self) -> int:
        """Number of learned numbers, which running statistics are not."""
        return sum(
            tensor.numel()
            for name, tensor in self.tensors.items()
            if not name.endswith(_STATISTICS)
        )

    def digest(self) -> str:
        """Returns 64 hexadecimal digits that identify the tensors, in any layout of the file."""
        from modernize.weight_files import digest

        return digest(self.tensors)


@dataclasses.dataclass(frozen=True)
class MappedTensor:
    """One tensor: its name and shape in another implementation and in ours."""

    theirs: str
    their_shape: tuple[int, ...]
    ours: str
    our_shape: tuple[int, ...]


def read(path: Path | str, spec: NetSpec | None = None, *, ema: bool = False) -> Weights:
    """Returns the weights in a checkpoint, under our names, after all possible checks.

    Args:
        path: a ``torch.save`` file or safetensors, with any name: a state dict of torchvision's or
            timm's ResNet with bottleneck blocks or ConvNeXt, of the official ConvNeXt, or of any
            of our networks; alone, or under ``model``, ``state_dict`` or ``network``.
        spec: their network. By default it is read from the file, if :func:`write` wrote it, or
            inferred from the tensors, if they do not have our names.
        ema: whether to read the moving average of the weights in the file.

    Returns:
        Weights on the CPU, memory-mapped except in torch's old format.

    Raises:
        WeightsError: if the file cannot be read or its network is unknown; otherwise naming every
            tensor that is missing, unexpected, misshapen or of the wrong type.
        CustomLayersError: for a network whose custom layers are not loaded; a file of weights
            cannot load them.
    """
    from modernize.weight_files import read_file

    content = read_file(Path(path), ema=ema)
    if spec is None and content.spec is not None:
        spec = _spec_from(Path(path), content.spec)
    try:
        return from_state_dict(content.tensors, spec)
    except (WeightsError, CustomLayersError) as error:
        raise type(error)(f"{path}: {error}") from None


def _spec_from(path: Path, values: Any) -> NetSpec:
    """Returns the network that a file describes, from any values."""
    try:
        spec = NetSpec.from_dict(values)
        spec.text()  # which fails for integers that are too long to print
    except Exception as error:  # a forged description may lead to any
        said = str(error)[:MAX_REASON] if isinstance(error, UsageError) else type(error).__name__
        raise WeightsError(f"{path} does not describe a valid network: {said}") from error
    return spec


def load(path: Path | str, spec: NetSpec | None = None, *, ema: bool = False) -> Network:
    """Returns the network of a checkpoint, in training mode; arguments and errors as :func:`read`.

    Its parameters are in single precision, for any precision of the file.
    """
    return network_of(read(path, spec, ema=ema))


def read_start(path: Path | str, spec: NetSpec, *, ema: bool = False) -> Weights:
    """Returns weights for a network to start from; only input and classes may differ.

    A network for grey images can be the start of one for colour: its stem's weights are divided
    among the channels, so that a grey image in colour gives the same output.

    Args:
        path: as of :func:`read`.
        spec: the network that starts from them.
        ema: whether to read the moving average of the weights in the file.

    Raises:
        WeightsError: as :func:`read`; also if the file describes another network.
        CustomLayersError: as :func:`read`.
    """
    from modernize.weight_files import read_file

    content = read_file(Path(path), ema=ema)
    theirs = None if content.spec is None else _spec_from(Path(path), content.spec)
    grey = theirs is not None and theirs.in_channels == 1 < spec.in_channels
    wanted = spec.replace(in_channels=1) if grey else spec
    try:
        if theirs is not None:
            check_start(theirs, wanted)
        found = from_state_dict(content.tensors, wanted, any_classes=True)
    except (WeightsError, CustomLayersError) as error:
        raise type(error)(f"{path}: {error}") from None
    return _in_colour(found, spec.in_channels) if grey else found


def _in_colour(weights: Weights, channels: int) -> Weights:
    """Returns the weights of a network for grey images for one with more channels."""
    name = "stem.conv.weight"  # (width, 1, k, k)
    spread = weights.tensors[name].repeat(1, channels, 1, 1) / channels
    spec = weights.spec.replace(in_channels=channels)
    return dataclasses.replace(weights, spec=spec, tensors={**weights.tensors, name: spread})


def start_from(network: Network, weights: Weights, head_init_scale: float = 1.0) -> None:
    """Replaces the weights of a network; of other classes, all except those of its head.

    Args:
        network: with fresh weights.
        weights: as :func:`read_start` returns them for its spec.
        head_init_scale: factor of the head's fresh weights, if it keeps them.
    """
    import torch

    tensors = dict(weights.tensors)
    if weights.spec.num_classes != network.spec.num_classes:
        with torch.no_grad():
            for parameter in network.head.parameters():
                parameter.mul_(head_init_scale)
        tensors = {name: t for name, t in tensors.items() if not name.startswith("head.")}
        tensors.update(network.head.state_dict(prefix="head."))
    network.load_state_dict(tensors)


def network_of(weights: Weights) -> Network:
    """Returns the network with these weights, in single precision and in training mode.

    Args:
        weights: as returned by :func:`read`.
    """
    import torch

    from modernize.network import Network

    if weights.spec.custom_layers:  # which may have state that is not in the state dict
        network = Network(weights.spec)
    else:
        with torch.device("meta"):  # no initial weights, which would be overwritten
            network = Network(weights.spec)
        network.to_empty(device="cpu")
    network.load_state_dict(weights.tensors)
    return network


def write(weights: Weights | Network, path: Path | str, layout: str) -> None:
    """Writes weights in the layout of another implementation, or in ours.

    Args:
        weights: as returned by :func:`read`, or one of our networks.
        path: its suffix decides the format: ``.safetensors``, or ``.pth`` or ``.pt`` for torch's.
        layout: ``torchvision``, ``timm``, ``timm-conv-mlp``, ``official`` or ``ours``; the last one
            has every network, and its files describe the network.

    Raises:
        UnknownNameError: for an unknown layout.
        WeightsError: if that implementation has no network of this structure, with the reasons.
        UsageError: for another suffix, or a folder that does not exist.
        UnwritableFileError: if the file cannot be written; an old file does not change.
    """
    from modernize.weight_files import write_file

    chosen = find_layout(layout, weights.spec)
    spec = weights.spec.to_dict() if chosen is OURS else None
    write_file(Path(path), to_state_dict(weights, layout), chosen.wrapper, spec)


def from_state_dict(
    given: Mapping[str, Any], spec: NetSpec | None = None, *, any_classes: bool = False
) -> Weights:
    """Returns the weights of a state dict of any layout, under our names and in our shapes.

    A BatchNorm's counter of batches may be missing, as in old files; it is then 0.

    Args:
        given: tensors by name; they are not copied.
        spec: their network; inferred by default.
        any_classes: whether the weights are a start of the spec's network, which may have other
            classes; the result has those of the weights.

    Raises:
        WeightsError: if no layout has such names, or the layout has no such network; otherwise
            naming every tensor that is missing, unexpected, misshapen or of the wrong type.
    """
    import torch

    given = {plain: given[name] for name, plain in strip_wrappers(given).items()}
    shapes = {name: tuple(v.shape) for name, v in given.items() if isinstance(v, torch.Tensor)}
    layout = recognise(shapes)
    if spec is None:
        spec = infer_spec(layout, shapes)
    elif any_classes:
        spec = infer_start(layout, shapes, spec)
    mismatches = layout.mismatches(spec)
    if mismatches:
        raise WeightsError(f"these are weights of {layout.title}: {', '.join(mismatches)}.")
    _check_size(given, spec)
    wanted = map_tensors(layout, spec)
    faults = _faults(given, wanted)
    if faults:
        seems = "; ".join(unsupported_features(faults))
        raise WeightsError(
            f"these weights, read as {layout.title} with depths "
            f"{','.join(map(str, spec.depths))} and width {spec.width}, do not fit in "
            f"{plural(len(faults), 'tensor')}"
            + (f". The roadmap has no network with: {seems}" if seems else "")
            + ":\n  "
            + "\n  ".join(_first(faults))
        )
    tensors = {
        pair.ours: given[pair.theirs].reshape(pair.our_shape)
        if pair.theirs in given
        else torch.tensor(0)
        for pair in wanted
    }
    return Weights(layout, spec, tensors)


def to_state_dict(weights: Weights | Network, layout: str) -> dict[str, Tensor]:
    """Returns weights under another implementation's names and in its shapes, without copying.

    Raises:
        UnknownNameError: for an unknown layout.
        WeightsError: if that implementation has no network of this structure, with the reasons.
    """
    tensors = weights.tensors if isinstance(weights, Weights) else weights.state_dict()
    return {
        pair.theirs: tensors[pair.ours].reshape(pair.their_shape)
        for pair in map_tensors(find_layout(layout, weights.spec), weights.spec)
    }


def map_tensors(layout: Layout, spec: NetSpec) -> list[MappedTensor]:
    """Returns every tensor of a network in our order, with its name and shape in both layouts.

    Raises:
        WeightsError: if the layout's table does not have all tensors of the network.
    """
    rules = {rule.ours: rule for rule in layout.expand(spec.depths)}
    found, nameless = [], []
    for name, shape in _shapes(spec):
        rule = NameRule(name, name) if layout is OURS else find_rule(rules, name)
        if rule is None:
            nameless.append(name)
        else:
            found.append(MappedTensor(rule.theirs, rule.shape.of(shape), name, shape))
    if nameless:
        raise WeightsError(f"{layout.title} has no name for {', '.join(nameless)}.")
    return found


@functools.lru_cache(maxsize=8)
def _shapes(spec: NetSpec) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Returns the name and shape of every tensor of a network."""
    import torch

    from modernize.network import Network

    try:
        with torch.device("meta"):
            tensors = Network(spec).state_dict()
    except (RuntimeError, OverflowError) as error:  # sizes beyond torch's integers
        raise WeightsError(
            f"their network cannot be built: {str(error).splitlines()[0]}"
        ) from error
    return tuple((name, tuple(tensor.shape)) for name, tensor in tensors.items())


def _check_size(given: Mapping[str, Any], spec: NetSpec) -> None:
    """Checks, before it is built, that a network is not larger than its weights.

    Raises:
        WeightsError: if it is larger; with the size of the weights.
    """
    blocks, numbers = sum(spec.depths), sum(v.numel() for v in given.values() if _has_memory(v))
    if blocks <= min(MAX_BLOCKS, 4 * len(given)):  # an index in a name may be forged
        last = spec.narrow_widths[-1]  # the last block has two convolutions from it to 4 times it
        least = max(8 * last**2, last * spec.num_classes, spec.in_channels, spec.kernel_size**2)
        if least <= numbers:
            return
    raise WeightsError(
        f"these weights, {len(given):,} tensors with {numbers:,} numbers, are too small for "
        f"their network, or it has over {MAX_BLOCKS:,} blocks."
    )


def _first(faults: list[str]) -> list[str]:
    """Returns the first lines of each kind, and the number of the others."""
    kinds: dict[str, list[str]] = {}
    for fault in faults:
        kinds.setdefault(fault.partition(":")[0], []).append(fault)
    lines = []
    for kind, of_kind in kinds.items():
        lines += of_kind[:MAX_SHOWN]
        if len(of_kind) > MAX_SHOWN:
            lines.append(f"{kind}: {len(of_kind) - MAX_SHOWN:,} more")
    return lines


def _faults(given: Mapping[str, Any], wanted: list[MappedTensor]) -> list[str]:
    """Returns a line for every fault of a tensor."""
    known = {pair.theirs for pair in wanted}
    faults = [
        f"missing: {pair.theirs}"
        for pair in wanted
        if pair.theirs not in given and not pair.theirs.endswith(_COUNTER)
    ]
    faults += [f"unexpected: {name}" for name in given if name not in known]
    for pair in wanted:
        if pair.theirs in given:
            fault = _fault(given[pair.theirs], pair)
            faults += [fault] if fault else []
    return faults + _shared(given, wanted)


def _shared(given: Mapping[str, Any], wanted: list[MappedTensor]) -> list[str]:
    """Returns a line for every tensor that shares its memory with another one."""
    used: Counter[int] = Counter()
    tensors = {p.theirs: given[p.theirs] for p in wanted if _has_memory(given.get(p.theirs))}
    for tensor in tensors.values():
        used[tensor.untyped_storage().data_ptr()] += tensor.nbytes
    return [
        f"mistyped: {name} shares its memory with another tensor"
        for name, tensor in tensors.items()
        if used[tensor.untyped_storage().data_ptr()] > tensor.untyped_storage().nbytes()
    ]


def _fault(value: Any, pair: MappedTensor) -> str | None:
    """Returns the fault of one tensor; None if it has none."""
    import torch

    if not isinstance(value, torch.Tensor):
        return f"mistyped: {pair.theirs} is {type(value).__name__}, not a tensor"
    if tuple(value.shape) != pair.their_shape:
        return f"misshapen: {pair.theirs} is {tuple(value.shape)}, not {pair.their_shape}"
    if value.is_floating_point() == pair.theirs.endswith(_COUNTER) or value.is_complex():
        return f"mistyped: {pair.theirs} is {str(value.dtype).removeprefix('torch.')}"
    if not _has_memory(value):
        return f"mistyped: {pair.theirs} does not have memory for each of its values"
    if value.is_floating_point() and (bad := value.numel() - int(value.float().isfinite().sum())):
        return f"not finite: {pair.theirs} has {bad:,} values that are NaN or infinite"
    return None


def _has_memory(value: Any) -> bool:
    """Returns whether a tensor has memory for all its values; a small file could claim many."""
    import torch

    if not isinstance(value, torch.Tensor):
        return False
    if value.layout is not torch.strided or value.is_meta or value.is_quantized:
        return False
    return value.untyped_storage().nbytes() >= value.nbytes
