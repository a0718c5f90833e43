"""Layer-wise learning-rate decay: the groups by hand, for T and B, and of every network as text.

Refreshed by ``pytest tests/test_layer_decay.py --refresh-golden``.
"""

from collections.abc import Callable
from itertools import groupby

import pytest
import torch
from small_runs import CONTEXT, make_run, take_images

from ablations.recipe import load_preset
from ablations.training.state import initial_state, make_optimizer
from modernize.heads import build_detector, build_segmenter
from modernize.layer_decay import layer_groups, layer_scales, parameter_scales, stage_groups
from modernize.models import MODELS
from modernize.network import Network
from modernize.spec import NetSpec
from modernize.steps import REGIMES, until

CONVNEXT = [f"ConvNeXt-{size}" for size in ("T", "S", "B", "L", "XL")]


def on_meta(spec: NetSpec) -> Network:
    with torch.device("meta"):
        return Network(spec)


def by_hand(third: list[int], fourth: int) -> dict[str, int]:
    """The paper's groups, typed from its rule: of the third stage's blocks, of the last stage."""
    groups = {"stem": 0, "stages.1.downsample": 2, "stages.2.downsample": 3}
    groups |= {f"stages.0.blocks.{block}": 1 for block in range(3)}
    groups |= {f"stages.1.blocks.{block}": 2 for block in range(3)}
    groups |= {f"stages.2.blocks.{block}": group for block, group in enumerate(third)}
    groups |= {f"stages.3.blocks.{block}": fourth for block in range(3)}
    return groups | {"stages.3.downsample": fourth, "norm": fourth + 1, "head": fourth + 1}


LONG = [3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 11]
BY_HAND = {
    "ConvNeXt-T": by_hand([3, 3, 3, 4, 4, 4, 5, 5, 5], 6),
    **dict.fromkeys(CONVNEXT[1:], by_hand(LONG, 12)),
}


@pytest.mark.parametrize("model", CONVNEXT)
def test_every_parameter_of_convnext_has_the_papers_scale(model: str) -> None:
    groups = BY_HAND[model]
    found = parameter_scales(on_meta(MODELS[model]), 0.8)
    for name, scale in found.items():
        [part] = [part for part in groups if name.startswith(f"{part}.")]
        assert scale == 0.8 ** (groups["head"] - groups[part]), name
    assert {name.split(".")[0] for name in found} == {"stem", "stages", "norm", "head"}
    # A downsampling layer of the first stage would have parameters, if there were one.
    assert layer_groups(MODELS[model]) == {**groups, "stages.0.downsample": 1}


def test_scales_of_the_papers_downstream_recipes() -> None:
    """Stem and last stage, from the recipes of detection."""
    tiny, base = layer_scales(MODELS["ConvNeXt-T"], 0.95), layer_scales(MODELS["ConvNeXt-B"], 0.8)
    assert (tiny["stem"], tiny["stages.3.blocks.2"]) == (pytest.approx(0.95**7), 0.95)
    assert (base["stem"], base["stages.3.blocks.2"]) == (pytest.approx(0.8**13), 0.8)
    assert tiny["head"] == base["norm"] == 1


def test_scales_of_the_papers_semantic_segmentation() -> None:
    """Stage-wise: the published factors of the stem and of the last stage."""
    expected = {"ConvNeXt-T": (0.478, 0.729), "ConvNeXt-B": (0.254, 0.387)}
    for name, (stem, last) in expected.items():
        scales = layer_scales(MODELS[name], 0.9, stage_groups)
        assert round(scales["stem"], 3) == round(scales["stages.3.downsample"], 3) == stem
        assert round(scales["stages.3.blocks.0"], 3) == last
        assert scales["stages.2.blocks.0"] == scales["stages.2.blocks.8"]
        assert scales["head"] == 1


@pytest.mark.parametrize("build", [build_detector, build_segmenter])
@pytest.mark.parametrize("model", CONVNEXT)
def test_detectors_and_segmenters_have_the_backbones_groups(
    build: Callable[[NetSpec], torch.nn.Module], model: str
) -> None:
    groups = BY_HAND[model]
    with torch.device("meta"):
        built = build(MODELS[model])
    scales = parameter_scales(built, 0.7)
    assert [*scales] == [name for name, _ in built.named_parameters()]
    outside = set()
    for name, scale in scales.items():
        parts = [part for part in groups if name.startswith(f"backbone.{part}.")]
        assert scale == 0.7 ** (groups["head"] - groups[parts[0]] if parts else 0), name
        outside |= set() if parts else {".".join(name.split(".")[:2])}
    assert "backbone.norms" in outside
    assert not outside & {"backbone.stem", "backbone.stages"}


def text_of(network: Network, decay: float) -> list[str]:
    """The scales of all parameters, a line for each module outside of blocks, and each block."""
    scales = parameter_scales(network, decay)

    def place(name: str) -> tuple[str, float]:
        parts = name.split(".")
        return ".".join(parts[:4] if parts[2:3] == ["blocks"] else parts[:-1]), scales[name]

    return [
        f"  {scale:.8f}  {at}: {len(list(names))} parameters"
        for (at, scale), names in groupby(scales, key=place)
    ]


def networks() -> dict[str, dict[str, NetSpec]]:
    """File -> title -> network."""
    found = {"models": {name: MODELS[name] for name in MODELS}}
    for regime in REGIMES:
        found[regime] = {variant.key: variant.spec for variant in until("downsample", regime)}
    return found


@pytest.mark.integration
@pytest.mark.parametrize("name", networks())
def test_the_scales_of_every_network_are_what_they_were(
    name: str, golden: Callable[[str, str], None]
) -> None:
    lines = ["Learning-rate scales of all parameters with layer_decay 0.8."]
    shown: dict[tuple[str, ...], str] = {}
    for title, spec in networks()[name].items():
        scales = tuple(text_of(on_meta(spec), 0.8))
        lines += ["", f"{title}: as {shown[scales]}"] if scales in shown else ["", title, *scales]
        shown.setdefault(scales, title)
    golden(f"layer-decay/{name}", "\n".join(lines) + "\n")


def test_a_parameter_outside_the_known_parts_is_an_error() -> None:
    network = on_meta(MODELS["ConvNeXt-T"])
    network.extra = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"extra\.weight, extra\.bias"):
        parameter_scales(network, 0.8)


@pytest.mark.parametrize("step", ["resnet", "ln", "downsample"])
def test_the_optimizer_has_the_scales_and_keeps_weight_decay(step: str) -> None:
    images = take_images(64, 16)
    state = initial_state(make_run(images, "layer_decay=0.5", step=step), CONTEXT)
    names = {id(p): name for name, p in state.network.named_parameters()}
    scales = layer_scales(state.network.spec, 0.5)
    seen = []
    for group in state.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            [part] = [part for part in scales if name.startswith(f"{part}.")]
            assert group["lr_scale"] == scales[part], name
            assert bool(group["weight_decay"]) == (parameter.ndim >= 2), name
            seen.append(name)
    assert sorted(seen) == sorted(names.values())


def test_one_update_moves_each_part_by_its_scale() -> None:
    """AdamW's first update moves every weight by its learning rate, whatever the gradient."""
    recipe = load_preset("nano", ["layer_decay=0.5", "weight_decay=0"]).recipes.enhanced
    network = Network(make_run(take_images(64, 16), step="downsample").spec)
    optimizer = make_optimizer(network, recipe, parameter_scales(network, 0.5))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group["lr_scale"]
    optimizer.step()
    for name, scale in parameter_scales(network, 0.5).items():
        moved = (before[name] - dict(network.named_parameters())[name]).detach()
        assert torch.allclose(moved, torch.full_like(moved, 0.01 * scale), atol=1e-6), name
