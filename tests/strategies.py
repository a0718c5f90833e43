"""Hypothesis strategies that several test files share."""

from hypothesis import strategies as st

from modernize import spec as s
from modernize.layouts import OURS
from modernize.spec import CUSTOM_LAYER_FIELDS, CustomLayer, NetSpec

CHOICES = {
    "stem": s.Stem,
    "spatial_conv": s.SpatialConv,
    "bottleneck": s.Bottleneck,
    "spatial_position": s.SpatialPosition,
    "activation": s.Activation,
    "activations": s.PerBlock,
    "norm": s.Norm,
    "norms": s.PerBlock,
    "downsampling": s.Downsampling,
    "layer_scale": (0.0, 1e-6),
    "init": s.Init,
}
"""Every field that has few values, with them."""

SMALL_SIZES = {
    "depths": st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple),
    "width": st.integers(1, 9),
    "kernel_size": st.sampled_from((1, 3, 5, 7, 9, 11)),
    "drop_path": st.sampled_from((0.0, 0.2)),
    "in_channels": st.integers(1, 4),
    "num_classes": st.integers(1, 12),
}
VALID_SIZES = {
    "depths": st.lists(st.integers(1, s.MAX_BLOCKS), min_size=1, max_size=s.MAX_STAGES).map(tuple),
    "width": st.integers(1, s.MAX_WIDTH),
    "kernel_size": st.integers(0, s.MAX_KERNEL // 2).map(lambda half: 2 * half + 1),
    "layer_scale": st.floats(0, 1000),
    "drop_path": st.floats(0, 1, exclude_max=True),
    "in_channels": st.integers(1, 1024),
    "num_classes": st.integers(1, s.MAX_CLASSES),
}

custom_layers = st.builds(
    CustomLayer,
    st.from_regex(r"[a-z][a-z0-9-]*", fullmatch=True),
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
)


def _specs(sizes, *, custom):
    choices = {name: st.sampled_from(list(values)) for name, values in CHOICES.items()}
    for name in CUSTOM_LAYER_FIELDS if custom else ():
        choices[name] |= custom_layers
    return st.builds(NetSpec, **{**choices, **sizes})


def small_specs():
    """Networks of every structure, small enough to build within milliseconds."""
    return _specs(SMALL_SIZES, custom=False)


def valid_specs():
    """Every valid network, of any size, with custom layers too."""
    return _specs(VALID_SIZES, custom=True)


def specs_of(layout):
    """Small networks that a layout of weights has."""
    if layout is OURS:
        return small_specs()
    sizes = {name: SMALL_SIZES[name] for name in ("width", "drop_path", "in_channels")}
    stages = len(layout.reference.depths)
    sizes["depths"] = st.lists(st.integers(1, 3), min_size=stages, max_size=stages).map(tuple)
    sizes["num_classes"] = st.integers(1, 12)
    if layout.scale_optional:
        sizes["layer_scale"] = st.sampled_from((0.0, layout.reference.layer_scale))
    return st.builds(layout.reference.replace, **sizes)
