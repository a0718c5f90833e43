"""The description of networks, against the modules that built networks run; and differences."""

import pytest
import torch
from hypothesis import given, settings
from strategies import small_specs
from torch import nn

from modernize.diagram import Change, Kind, Layer, architecture, block, compare
from modernize.models import MODELS
from modernize.network import Network
from modernize.ops import DropPath, LayerScale
from modernize.spec import NetSpec, SpatialConv
from modernize.steps import REGIMES, STEPS, spec_of, until

ROAD = {(regime, v.key): v.spec for regime in REGIMES for v in until("downsample", regime)}
CUSTOM = {
    "one stage": NetSpec(depths=(2,), width=4),
    "wide kernel, dense, first": spec_of("move-up", "nano", spatial_conv="dense", kernel_size=13),
    "separate, BatchNorm": spec_of("downsample", "nano", norm="batch", layer_scale=0.0),
    "all norms, LayerNorm": spec_of("downsample", "nano", norms="all", activations="all"),
    "five stages": spec_of("ln", "nano", depths=(1, 2, 1, 1, 1), in_channels=1, num_classes=7),
    "stochastic depth": spec_of("downsample", "nano", drop_path=0.3),
    "one channel": NetSpec(depths=(1, 1), width=1, spatial_conv=SpatialConv.DEPTHWISE),
}
KINDS = {
    nn.Conv2d: Kind.CONV,
    nn.BatchNorm2d: Kind.NORM,
    nn.LayerNorm: Kind.NORM,
    nn.ReLU: Kind.ACTIVATION,
    nn.GELU: Kind.ACTIVATION,
    LayerScale: Kind.SCALE,
    nn.MaxPool2d: Kind.MAX_POOL,
    nn.AdaptiveAvgPool2d: Kind.GLOBAL_POOL,
    nn.Linear: Kind.LINEAR,
}


def executed(spec: NetSpec, image_size: int) -> list[tuple[str, Layer, int]]:
    """Path, description and height of the output of each layer that a built network runs."""
    with torch.device("meta"):
        network = Network(spec)
        image = torch.empty(2, spec.in_channels, image_size, image_size)
    paths = {module: path for path, module in network.named_modules()}
    found = []

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if any(module.children()) or isinstance(module, nn.Identity | DropPath):
            return
        kind = next(kind for known, kind in KINDS.items() if isinstance(module, known))
        values = {"kind": kind, "in_width": inputs[0].shape[1], "out_width": output.shape[1]}
        if kind in (Kind.NORM, Kind.ACTIVATION):
            values["type"] = type(module).__name__.removesuffix("2d")
        if kind in (Kind.CONV, Kind.MAX_POOL):
            for name, key in (("kernel_size", "kernel"), ("stride",) * 2, ("padding",) * 2):
                value = getattr(module, name)
                values[key] = value if isinstance(value, int) else value[0]
                assert isinstance(value, int) or set(value) == {value[0]}
        if kind is Kind.CONV:
            values["groups"] = module.groups
        if kind in (Kind.CONV, Kind.LINEAR):
            values["bias"] = module.bias is not None
        path = paths[module]
        side = output.shape[2] if output.ndim == 4 else 1
        found.append((path, Layer(name=path.rpartition(".")[2], **values), side))

    for module in network.modules():
        module.register_forward_hook(note)
    network(image)
    return found


def described(spec: NetSpec, image_size: int) -> list[tuple[str, Layer, int]]:
    """The same, from the description."""
    found = []

    def add(path: str, layers: tuple[Layer, ...], side: int) -> int:
        for layer in layers:
            side = layer.side(side)
            found.append((".".join(filter(None, [path, layer.name])), layer, side))
        return side

    network = architecture(spec)
    side = add("stem", network.stem, image_size)
    for number, stage in enumerate(network.stages):
        side = add(f"stages.{number}.downsample", stage.downsample, side)
        for index, part in enumerate(stage.blocks):
            path, before = f"stages.{number}.blocks.{index}", side
            side = add(f"{path}.branch", part.branch, before)
            add(f"{path}.shortcut", part.shortcut, before)
            add(path, part.after, side)
        assert network.sides(image_size)[number + 1] == side
    add("", network.head, side)
    return found


@pytest.mark.parametrize("spec", ROAD.values(), ids=map("-".join, ROAD))
def test_every_step_of_every_regime_is_described_as_it_runs(spec: NetSpec) -> None:
    assert described(spec, 64) == executed(spec, 64)


@pytest.mark.parametrize("spec", [*MODELS.values(), *CUSTOM.values()], ids=[*MODELS, *CUSTOM])
def test_the_papers_models_and_custom_networks_are_described_as_they_run(spec: NetSpec) -> None:
    assert described(spec, 75) == executed(spec, 75)


@settings(deadline=None, max_examples=60)
@given(spec=small_specs())
def test_any_network_is_described_as_it_runs(spec: NetSpec) -> None:
    size = spec.total_stride + 19
    assert described(spec, size) == executed(spec, size)


def changes(before: str, after: str) -> dict[str, Change]:
    found = compare(block(spec_of(before), 0).branch, block(spec_of(after), 0).branch)
    return {d.layer.name: d.change for d in found if d.change is not Change.SAME}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("recipe", "patchify", {}),
        ("patchify", "depthwise", {"spatial": "changed"}),
        ("depthwise", "width", dict.fromkeys(("expand", "spatial", "project"), "changed")),
        ("inverted", "move-up", {"spatial": "moved"}),
        ("kernel-7", "gelu", {"first_act": "changed", "act": "changed"}),
        ("gelu", "fewer-acts", {"first_act": "removed"}),
        ("fewer-acts", "fewer-norms", {"expand_norm": "removed", "project_norm": "removed"}),
        ("fewer-norms", "ln", {"spatial_norm": "changed"}),
        ("ln", "downsample", {"scale": "new"}),
        ("downsample", "ln", {"scale": "removed"}),
    ],
)
def test_differences_of_two_blocks(before: str, after: str, expected: dict[str, Change]) -> None:
    assert changes(before, after) == expected


def test_a_removed_layer_keeps_its_old_place() -> None:
    before, after = (block(spec_of(step), 0).branch for step in ("gelu", "fewer-acts"))
    names = [d.layer.name for d in compare(before, after)]
    assert names == [layer.name for layer in before]


def test_the_layers_after_a_moved_convolution_stay_with_it() -> None:
    before, after = (block(spec_of(step), 0).branch for step in ("resnet", "downsample"))
    assert [(d.layer.text, d.change) for d in compare(before, after)] == [
        ("depthwise 7x7, 96 → 96", "moved"), ("LayerNorm", "changed"), ("ReLU", "removed"),
        ("1x1, 96 → 384", "changed"), ("BatchNorm", "removed"), ("GELU", "changed"),
        ("1x1, 384 → 96", "changed"), ("BatchNorm", "removed"), ("Layer Scale", "new"),
    ]  # fmt: skip


def test_custom_layers_are_named() -> None:
    layer = f"dilated@{'0' * 16}"
    spec = spec_of("ln", spatial_conv=layer, activation=f"star-relu@{'0' * 16}")
    branch = block(spec, 1).branch
    assert [part.text for part in branch if part.custom] == [
        "dilated 7x7, 192 → 192",
        "star-relu",
    ]
    assert branch[0].type == layer


def test_the_road_has_all_steps() -> None:
    assert len(ROAD) == len(REGIMES) * len(STEPS)
