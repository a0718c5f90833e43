"""NetSpec: the complete description of one network, without torch.

Every network of the roadmap, and every variation of one, is a value of :class:`NetSpec`. The fields
are independent of each other, so that a step can be left out or moved.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Self, get_args, get_origin, get_type_hints

from modernize.errors import SpecError, UnknownNameError, UsageError
from modernize.text import shortened, value_text

# Limits far above any use, and low enough that counting takes neither minutes nor gigabytes.
MAX_STAGES = 8
MAX_BLOCKS = 1_000  # per stage
MAX_WIDTH = 16_384
MAX_KERNEL = 255
MAX_CLASSES = 1_000_000


class Stem(enum.StrEnum):
    """The layers that turn an image into the first feature map."""

    RESNET = "resnet"  # 7x7/2 convolution, norm, activation, 3x3/2 max pool
    PATCHIFY = "patchify"  # one 4x4/4 convolution
    PATCHIFY_16 = "patchify-16"  # one 16x16/16 convolution, for isotropic networks (one stage)

    @property
    def stride(self) -> int:
        """Pixels of an image's side per position of the first feature map."""
        return 16 if self is Stem.PATCHIFY_16 else 4


class SpatialConv(enum.StrEnum):
    """The k x k convolution of a block."""

    DENSE = "dense"
    DEPTHWISE = "depthwise"


class Bottleneck(enum.StrEnum):
    """Which is wide (4C): the residual stream or the inside of the block."""

    CLASSIC = "classic"  # 4C -> C -> 4C
    INVERTED = "inverted"  # C -> 4C -> C


class SpatialPosition(enum.StrEnum):
    """The position of the k x k convolution relative to the two 1x1 convolutions."""

    MIDDLE = "middle"
    FIRST = "first"


class Activation(enum.StrEnum):
    """The activation function, in the blocks and in the ResNet stem."""

    RELU = "relu"
    GELU = "gelu"


class Norm(enum.StrEnum):
    """The normalisation layer, in the whole network."""

    BATCH = "batch"  # BatchNorm, eps 1e-5
    LAYER = "layer"  # LayerNorm over the channels of each position, eps 1e-6


class PerBlock(enum.StrEnum):
    """How many layers of a kind (norms, activations) a block has."""

    # As in ResNet: norms after all three convolutions; activations after the first, the second and
    # the addition.
    ALL = "all"
    ONE = "one"  # one norm, after the k x k convolution; one activation, before the last 1x1


class Downsampling(enum.StrEnum):
    """How a stage halves the height and width of its input."""

    BLOCK = "block"  # a strided first block with a projection shortcut
    # Norm and 2x2/2 convolution before the blocks; norms also after the 4x4/4 stem and after global
    # pooling.
    SEPARATE = "separate"


class Init(enum.StrEnum):
    """Initial weights of convolutions; those of linear layers are truncated normal, std 0.02."""

    PYTORCH = "pytorch"  # torch's default for convolutions (Kaiming uniform)
    KAIMING = "kaiming"  # as torchvision's ResNet: Kaiming normal, fan-out; linear: torch's default
    TRUNC_NORMAL = "trunc-normal"  # as the released ConvNeXt: truncated normal, std 0.02


class Role(enum.Enum):
    """The role of a NetSpec's field; each field states its own in its metadata."""

    STRUCTURE = enum.auto()  # which layers, in which order; a field's role unless it says otherwise
    SIZE = enum.auto()  # how many blocks, how wide
    INPUT = enum.auto()  # decided by the images
    HEAD = enum.auto()  # decided by the images' classes
    INITIAL = enum.auto()  # an initial value that training changes
    TRAINING = enum.auto()  # used only by training, and decided by its recipe


_SIZE, _INPUT, _HEAD, _INITIAL, _TRAINING = (
    {"role": role} for role in (Role.SIZE, Role.INPUT, Role.HEAD, Role.INITIAL, Role.TRAINING)
)


@dataclasses.dataclass(frozen=True, slots=True)
class CustomLayer:
    """A layer that a Python file of the user defines; see ``modernize.custom_layers``.

    Attributes:
        name: its name in the file.
        digest: 16 hexadecimal digits that identify the file's content.
    """

    name: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}"


_CUSTOM_LAYER = re.compile(r"([a-z][a-z0-9-]*)@([0-9a-f]{16})")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NetSpec:
    """One network: a stem, stages of residual blocks, global average pooling and a linear head.

    Attributes:
        depths: blocks in each stage.
        width: channels C of the narrow side of a block in stage 1; doubles at each stage.
        stem, spatial_conv, bottleneck, spatial_position, kernel_size: the convolutions.
        activation, activations, norm, norms: the layers between them.
        downsampling: how stages 2 and later halve height and width.
        layer_scale: initial value of the per-channel scale of each block's branch; 0: no scale.
        drop_path: stochastic-depth rate of the last block; it rises linearly from 0 at the first.
        init: initial weights of the convolutions.
        in_channels: channels of the images.
        num_classes: logits of the head; 0: no head.

    Fields whose type includes :class:`CustomLayer` accept a custom layer.

    Raises:
        SpecError: naming every field with an invalid value.
    """

    depths: tuple[int, ...] = dataclasses.field(metadata=_SIZE)
    width: int = dataclasses.field(metadata=_SIZE)
    stem: Stem = Stem.RESNET
    spatial_conv: SpatialConv | CustomLayer = SpatialConv.DENSE
    bottleneck: Bottleneck = Bottleneck.CLASSIC
    spatial_position: SpatialPosition = SpatialPosition.MIDDLE
    kernel_size: int = 3
    activation: Activation | CustomLayer = Activation.RELU
    activations: PerBlock = PerBlock.ALL
    norm: Norm | CustomLayer = Norm.BATCH
    norms: PerBlock = PerBlock.ALL
    downsampling: Downsampling = Downsampling.BLOCK
    layer_scale: float = dataclasses.field(default=0.0, metadata=_INITIAL)
    drop_path: float = dataclasses.field(default=0.0, metadata=_TRAINING)
    init: Init = dataclasses.field(default=Init.PYTORCH, metadata=_TRAINING)
    in_channels: int = dataclasses.field(default=3, metadata=_INPUT)
    num_classes: int = dataclasses.field(default=1000, metadata=_HEAD)

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {shortened(repr(getattr(self, name)))}; it must be {_wanted(kind)}"
            for name, kind in field_types().items()
            if not _is_a(getattr(self, name), kind)
        ]
        faults = faults or [
            f"{name} is {shortened(repr(getattr(self, name)))}; it must be {wanted}"
            for name, good, wanted in (
                (
                    "depths",
                    0 < len(self.depths) <= MAX_STAGES
                    and all(0 < depth <= MAX_BLOCKS for depth in self.depths),
                    f"1 to {MAX_BLOCKS:,} blocks for each of 1 to {MAX_STAGES} stages",
                ),
                ("width", 0 < self.width <= MAX_WIDTH, f"from 1 to {MAX_WIDTH:,}"),
                (
                    "kernel_size",
                    0 < self.kernel_size <= MAX_KERNEL and self.kernel_size % 2,
                    f"odd, from 1 to {MAX_KERNEL}",
                ),
                ("layer_scale", 0 <= self.layer_scale <= 1000, "from 0 (none) to 1000"),
                ("drop_path", 0 <= self.drop_path < 1, "at least 0 and below 1"),
                ("in_channels", 0 < self.in_channels <= 1024, "from 1 to 1,024"),
                (
                    "num_classes",
                    0 <= self.num_classes <= MAX_CLASSES,
                    f"from 0 (no head) to {MAX_CLASSES:,}",
                ),
            )
            if not good
        ]
        if faults:
            raise SpecError("this network is not valid: " + "; ".join(faults) + ".")

    def replace(self, **changes: Any) -> Self:
        """Returns this spec with other values; enums and tuples may be given as strings and lists.

        Raises:
            UnknownNameError: for a field that does not exist.
            SpecError: for an invalid value of a field.
        """
        types = field_types()
        for name in changes:
            if name not in types:
                raise UnknownNameError("field of a network", name, types)
        return dataclasses.replace(
            self, **{name: _parse(value, types[name]) for name, value in changes.items()}
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns numbers, strings and lists by field, in field order, for :meth:`from_dict`."""
        return {name: _plain(getattr(self, name), kind) for name, kind in field_types().items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Returns the spec with these values, in the form of :meth:`to_dict`."""
        return cls(depths=(1,), width=1).replace(**values)

    def text(self) -> str:
        """Returns the canonical text: one ``field: value`` line per field, in field order."""
        return "".join(f"{name}: {value_text(v)}\n" for name, v in self.to_dict().items())

    def digest(self) -> str:
        """Returns 16 hexadecimal digits that identify this network."""
        canonical = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def diff(self, other: NetSpec, ignoring: Iterable[Role] = ()) -> dict[str, tuple[Any, Any]]:
        """Returns ``{field: (this value, the other's value)}`` for the fields that differ.

        Args:
            other: the other network.
            ignoring: roles of the fields that do not count.
        """
        mine, theirs = self.to_dict(), other.to_dict()
        names = [name for name in mine if name not in fields_with(*ignoring)]
        return {name: (mine[name], theirs[name]) for name in names if mine[name] != theirs[name]}

    def without_training(self) -> Self:
        """Returns this spec with the default values of the fields that only training uses."""
        training = fields_with(Role.TRAINING)
        defaults = {f.name: f.default for f in dataclasses.fields(self) if f.name in training}
        return self.replace(**defaults)

    # -- derived from the fields -----------------------------------------------------------------

    @property
    def custom_layers(self) -> dict[str, CustomLayer]:
        """Field -> custom layer, for the fields that have one."""
        values = {name: getattr(self, name) for name in CUSTOM_LAYER_FIELDS}
        return {name: value for name, value in values.items() if isinstance(value, CustomLayer)}

    @property
    def narrow_widths(self) -> tuple[int, ...]:
        """C of each stage."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))

    @property
    def stream_widths(self) -> tuple[int, ...]:
        """Channels of each stage's output, the residual stream."""
        times = 4 if self.bottleneck is Bottleneck.CLASSIC else 1
        return tuple(times * width for width in self.narrow_widths)

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Channels between the two 1x1 convolutions of a stage's blocks."""
        times = 4 if self.bottleneck is Bottleneck.INVERTED else 1
        return tuple(times * width for width in self.narrow_widths)

    @property
    def drop_path_rates(self) -> tuple[float, ...]:
        """Stochastic-depth rate of each block of the network, rising linearly from 0."""
        last = max(sum(self.depths) - 1, 1)
        return tuple(self.drop_path * block / last for block in range(sum(self.depths)))

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of an image's side per position of each stage's feature map."""
        return tuple(self.stem.stride << stage for stage in range(len(self.depths)))

    @property
    def total_stride(self) -> int:
        """Pixels of an image's side per position of the last feature map."""
        return self.strides[-1]

    def check_image_size(self, image_size: int) -> None:
        """Raises an error if images are too small for the last feature map to have a position.

        Args:
            image_size: height and width in pixels.

        Raises:
            UsageError: naming the size and the smallest valid one.
        """
        if image_size < self.total_stride:
            raise UsageError(
                f"image size {image_size} is too small for a network of {len(self.depths)} stages; "
                f"it must be at least {self.total_stride} pixels."
            )


@functools.cache
def field_types() -> dict[str, Any]:
    """Returns ``{field of NetSpec: its type}``, in field order."""
    return get_type_hints(NetSpec)


def fields_with(*roles: Role) -> frozenset[str]:
    """Returns the fields of NetSpec that have one of these roles."""
    return frozenset(
        f.name
        for f in dataclasses.fields(NetSpec)
        if f.metadata.get("role", Role.STRUCTURE) in roles
    )


CUSTOM_LAYER_FIELDS = tuple(
    name for name, kind in field_types().items() if isinstance(kind, types.UnionType)
)


def _is_a(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_a(v, get_args(kind)[0]) for v in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _wanted(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "a list of integers"
    if isinstance(kind, types.UnionType):
        return f"{_wanted(get_args(kind)[0])}, or a custom layer"
    if issubclass(kind, enum.Enum):
        return "one of " + ", ".join(kind)
    return "an integer" if kind is int else "a number"


def _parse(value: Any, kind: Any) -> Any:
    """Returns a text or list as the field's type, if it is a valid value, else unchanged."""
    if get_origin(kind) is tuple:
        return tuple(value) if isinstance(value, list) else value
    if isinstance(kind, types.UnionType):
        custom = _CUSTOM_LAYER.fullmatch(value) if isinstance(value, str) else None
        return CustomLayer(*custom.groups()) if custom else _parse(value, get_args(kind)[0])
    if isinstance(value, str) and issubclass(kind, enum.Enum):
        return kind(value) if value in list(kind) else value
    return value


def _plain(value: Any, kind: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, enum.Enum | CustomLayer) else kind(value)
