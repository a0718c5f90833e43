"""Every step as a part of other programs: feature maps, heads, and what PyTorch does to modules."""

import copy
import functools
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modernize import build, spec_of
from modernize.errors import UnknownNameError, UsageError
from modernize.models import ALIASES, MODELS
from modernize.network import Network
from modernize.ops import FORMS, Forms, PointwiseConv2d
from modernize.steps import STEPS

every_step = pytest.mark.parametrize("step", [step.key for step in STEPS])
# The compilers ask for modules and functions of torch and of their own that are deprecated.
ignoring_deprecations = pytest.mark.filterwarnings("ignore")


@functools.cache
def shared(step: str) -> Network:
    """A small network of a step for inference, in which every weight has an effect."""
    torch.manual_seed(0)
    network = build(step, "nano", num_classes=10, depths=(1, 2), width=8, drop_path=0.1).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.requires_grad_(False)


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def assert_same(run: Callable[[Tensor], Tensor], step: str) -> None:
    """Compares with the network itself, on another number of images than it was traced with."""
    x = images(5)
    torch.testing.assert_close(run(x), shared(step)(x), rtol=1e-5, atol=1e-5)


# -- feature maps and heads ----------------------------------------------------------------------


@every_step
def test_features_are_the_maps_of_the_stages(step: str) -> None:
    network = build(step, "nano", num_classes=10).eval()
    maps: list[Tensor] = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _stage, _inputs, out: maps.append(out))
    found = network.features(images())
    assert len(found) == len(maps) == 4
    assert all(map(torch.equal, found, maps))
    assert [x.shape[1] for x in found] == list(network.feature_widths)
    assert [64 // x.shape[2] for x in found] == list(network.feature_strides) == [4, 8, 16, 32]


def test_widths_are_those_of_the_usual_backbones() -> None:
    with torch.device("meta"):
        assert build("resnet").feature_widths == (256, 512, 1024, 2048)
        assert build("convnext_tiny").feature_widths == (96, 192, 384, 768)
        assert build("ConvNeXt-S (iso.)").feature_strides == (16,)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("step", "name"), [("resnet", "resnet50"), ("downsample", "convnext_tiny")]
)
def test_features_are_those_of_timm(step: str, name: str) -> None:
    import timm

    from modernize.weights import from_state_dict, network_of

    torch.manual_seed(0)
    theirs = timm.create_model(name).eval()
    ours = network_of(from_state_dict(theirs.state_dict())).eval()
    maps = timm.create_model(name, features_only=True, out_indices=(-4, -3, -2, -1)).eval()
    state = theirs.state_dict()
    if step == "downsample":  # whose names timm changes for features
        state = {re.sub("^(stem|stages)[.]", r"\1_", key): value for key, value in state.items()}
    assert not maps.load_state_dict(state, strict=False).missing_keys
    with torch.no_grad():
        for mine, their in zip(ours.features(images()), maps(images()), strict=True):
            torch.testing.assert_close(mine, their, rtol=1e-4, atol=1e-5)
        pooled = Network(ours.spec.replace(num_classes=0)).eval()
        pooled.load_state_dict(ours.state_dict(), strict=False)
        theirs.reset_classifier(0)
        torch.testing.assert_close(pooled(images()), theirs(images()), rtol=1e-4, atol=1e-5)


@every_step
def test_without_a_head_and_with_another(step: str) -> None:
    network = build(step, "nano", num_classes=0)
    width = network.feature_widths[-1]
    assert network(images()).shape == (3, width)
    network.double().reset_head(7)
    assert network.spec == spec_of(step, "nano", num_classes=7)
    assert network(images().double()).shape == (3, 7)
    assert 0.01 < network.head.weight.std() < 0.03
    network.reset_head(0)
    assert not list(network.head.parameters())


def test_weights_start_a_network_without_a_head(tmp_path: Path) -> None:
    from modernize.weights import write

    network = build("ln", "nano", num_classes=10).eval()
    write(network, tmp_path / "ours.pt", "ours")
    headless = build("ln", "nano", weights=tmp_path / "ours.pt", num_classes=0).eval()
    for mine, their in zip(headless.features(images()), network.features(images()), strict=True):
        assert torch.equal(mine, their)
    write(headless, tmp_path / "headless.pt", "ours")
    again = build("ln", "nano", weights=tmp_path / "headless.pt").eval()
    assert torch.equal(again(images()), headless(images()))
    assert (
        build("ln", "nano", weights=tmp_path / "headless.pt", num_classes=3).spec.num_classes == 3
    )


def test_networks_by_their_names() -> None:
    with torch.device("meta"):
        for name in ("ConvNeXt-T", "convnext_tiny"):
            assert build(name).spec == spec_of("downsample")
        assert build("convnext_small", num_classes=5).spec.depths == (3, 3, 27, 3)
    assert set(ALIASES.values()) == set(MODELS)
    with pytest.raises(UsageError, match="nano"):
        build("convnext_tiny", "nano")
    with pytest.raises(UnknownNameError, match=r"convnext_tinny.*downsample.*ConvNeXt-T"):
        build("convnext_tinny")


# -- tracing and exporting -----------------------------------------------------------------------


@every_step
def test_fx(step: str) -> None:
    assert_same(torch.fx.symbolic_trace(shared(step)), step)


@pytest.mark.parametrize("forms", FORMS.values())
@every_step
def test_a_traced_network_keeps_the_fast_forms(step: str, forms: Forms) -> None:
    """Under autocast it computes what the network does, and its gradients, to the last bit."""
    torch.manual_seed(0)
    network = build(step, "nano", num_classes=10, depths=(1, 1)).to(
        memory_format=torch.channels_last
    )
    for module in network.modules():
        if isinstance(module, PointwiseConv2d):
            module.product = True
        if hasattr(module, "gradient"):
            module.gradient, module.has_form = forms.depthwise_gradient, True
    traced = torch.fx.symbolic_trace(network)
    x = images().contiguous(memory_format=torch.channels_last)
    results = []
    for module in (network, traced):
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = module(x)
        logits.float().square().sum().backward()
        results.append([logits, *(p.grad.clone() for p in module.parameters())])
    assert all(map(torch.equal, *results))


@every_step
def test_torchvisions_feature_extractor(step: str) -> None:
    from torchvision.models.feature_extraction import create_feature_extractor

    network = shared(step)
    extractor = create_feature_extractor(network, {"stages.0": "early", "stages.1": "late"})
    found = extractor(images())
    for name, own in zip(("early", "late"), network.features(images()), strict=True):
        torch.testing.assert_close(found[name], own)


@pytest.mark.integration
@ignoring_deprecations
@every_step
def test_torchscript(step: str) -> None:
    scripted = torch.jit.script(shared(step))
    assert_same(scripted, step)
    for mine, own in zip(scripted.features(images()), shared(step).features(images()), strict=True):
        torch.testing.assert_close(mine, own)
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    assert_same(torch.jit.load(file), step)


@functools.cache
def exported(step: str) -> torch.export.ExportedProgram:
    """The program of a step's network for any number of images."""
    batch = ({0: torch.export.Dim("images")},)
    return torch.export.export(shared(step), (images(),), dynamic_shapes=batch)


@pytest.mark.integration
@ignoring_deprecations
@every_step
def test_export_with_any_number_of_images(step: str) -> None:
    assert_same(exported(step).module(), step)


@pytest.mark.slow
@ignoring_deprecations
@every_step
def test_onnx(step: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(exported(step), dynamo=True, verbose=False)
    assert program is not None
    session = runtime.InferenceSession(program.model_proto.SerializeToString())
    [given] = session.get_inputs()
    assert_same(lambda x: torch.from_numpy(session.run(None, {given.name: x.numpy()})[0]), step)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.integration
@pytest.mark.usefixtures("fresh_compiler")
@ignoring_deprecations
@every_step
def test_compile_up_to_the_code(step: str) -> None:
    """The captured and decomposed graph, without generated code."""
    assert_same(torch.compile(shared(step), backend="aot_eager", fullgraph=True), step)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.usefixtures("fresh_compiler")
@ignoring_deprecations
@pytest.mark.parametrize("step", ["resnet", "ln", "downsample"])  # all kinds of layers
def test_compile(step: str) -> None:
    assert_same(torch.compile(shared(step)), step)


# -- numbers of lower precision ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_step
def test_lower_precision(step: str, dtype: torch.dtype) -> None:
    x, network = images(), shared(step)
    logits = copy.deepcopy(network).to(dtype)(x.to(dtype))
    assert logits.dtype == dtype
    true = network(x)
    assert (logits.float() - true).norm() / true.norm() < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("step", [step.key for step in STEPS])
@ignoring_deprecations
def test_dynamic_quantisation(step: str) -> None:
    network = shared(step)
    quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear})
    assert not isinstance(quantised.head, nn.Linear)
    logits, true = quantised(images()), network(images())
    assert 0 < (logits - true).norm() / true.norm() < 0.05
