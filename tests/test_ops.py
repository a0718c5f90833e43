import pytest
import torch
from torch import nn

from modernize import build
from modernize.ops import (
    FORMS,
    GELU,
    DepthwiseConv2d,
    DepthwiseGradient,
    Forms,
    PointwiseConv2d,
    choose_forms,
)


def test_the_first_capability_that_a_processor_has_decides() -> None:
    intel = {"avx2": True, "amx_bf16": True, "avx512_bf16": True}
    assert choose_forms(intel) == FORMS["amx_bf16"]
    assert choose_forms(intel | {"amx_bf16": False}) == FORMS["avx512_bf16"]
    plain = choose_forms({"avx2": True})
    assert plain == choose_forms({}) == Forms()
    assert not PointwiseConv2d(4096, 4096, bias=False, forms=plain).product
    assert DepthwiseConv2d(8, 3, bias=True, forms=plain).gradient is DepthwiseGradient.TORCH


@pytest.mark.parametrize("gradient", DepthwiseGradient)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "width"),
    [(7, 1, 3, 14), (7, 2, 3, 14), (3, 1, 1, 70), (5, 1, 2, 33), (3, 1, 0, 9), (7, 1, 3, 5)],
)
def test_depthwise_gradients_in_mixed_precision_are_those_of_torch(
    kernel: int, stride: int, padding: int, width: int, bias: bool, gradient: DepthwiseGradient
) -> None:
    torch.manual_seed(0)
    forms = Forms(depthwise_gradient=gradient)
    ours = DepthwiseConv2d(8, kernel, stride, padding, bias=bias, forms=forms)
    theirs = nn.Conv2d(8, 8, kernel, stride, padding, groups=8, bias=bias)
    assert theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 8, 14, width).contiguous(memory_format=torch.channels_last)
    results = []
    for conv, dtype in [(ours, torch.bfloat16), (theirs, torch.bfloat16), (theirs, None)]:
        conv.zero_grad()
        image = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            y = conv(image)
        y.float().square().sum().backward()
        results.append([y, image.grad, *(p.grad for p in conv.parameters())])
    mixed, torchs, exact = results
    assert mixed[0].dtype == torchs[0].dtype == torch.bfloat16
    assert torch.equal(mixed[0], torchs[0])
    for got, reference, true in zip(mixed, torchs, exact, strict=True):
        assert got.float().isfinite().all()
        assert got.dtype == reference.dtype
        off = (got.float() - true).norm() / true.norm()
        assert off <= 1.05 * (reference.float() - true).norm() / true.norm() + 1e-6
        assert off < 0.01


@pytest.mark.parametrize("gradient", DepthwiseGradient)
def test_frozen_parts_and_evaluation_in_mixed_precision(gradient: DepthwiseGradient) -> None:
    conv = DepthwiseConv2d(4, 3, 1, 1, bias=True, forms=Forms(depthwise_gradient=gradient))
    x = torch.randn(2, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16  # of an input that needs no gradient
        conv(x).float().sum().backward()
        assert conv.weight.grad is not None
        with torch.no_grad():
            free = conv(x)
        assert torch.equal(free, conv.eval()(x))


@pytest.mark.integration
def test_a_network_trains_the_same_with_torchs_own() -> None:
    """Ten steps of a depthwise network in bf16 stay as near to float32 as torch's own do."""

    def losses(swap: bool, mixed: bool) -> torch.Tensor:
        torch.manual_seed(0)
        net = build("downsample", regime="nano")
        if swap:
            for block in [b for b in net.modules() if hasattr(b, "branch")]:
                conv = block.branch.spatial
                plain = nn.Conv2d(*conv.weight.shape[:1] * 2, 7, padding=3, groups=len(conv.weight))
                plain.load_state_dict(conv.state_dict())
                block.branch.spatial = plain
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        x, y = torch.randn(16, net.spec.in_channels, 32, 32), torch.arange(16) % 10
        seen = []
        for _ in range(10):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
                logits = net(x)
            loss = nn.functional.cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(loss.detach())
        return torch.stack(seen)

    true = losses(swap=False, mixed=False)
    torch.testing.assert_close(losses(swap=True, mixed=False), true, rtol=1e-5, atol=1e-5)
    ours, theirs = losses(swap=False, mixed=True), losses(swap=True, mixed=True)
    assert true[-1] < true[0]
    torch.testing.assert_close(ours, true, rtol=0.02, atol=0.02)
    torch.testing.assert_close(theirs, true, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("width", [8, 384])
@pytest.mark.parametrize("forms", [Forms(), Forms(0, 0), *FORMS.values()])
@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_gradients_in_mixed_precision_are_those_of_torch(
    bias: bool, forms: Forms, width: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    ours = PointwiseConv2d(width, 2 * width, bias=bias, forms=forms)
    theirs = nn.Conv2d(width, 2 * width, 1, bias=bias)
    assert theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, width, 7, 7).contiguous(memory_format=layout)
    results = []
    for conv, mixed in [(ours, True), (theirs, True), (theirs, False)]:
        conv.zero_grad()
        image = x.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            y = conv(image)
        y.float().square().sum().backward()
        results.append([y, image.grad, *(p.grad for p in conv.parameters())])
    assert results[0][0].is_contiguous(memory_format=layout)
    for got, reference, true in zip(*results, strict=True):
        assert got.dtype == reference.dtype
        assert got.shape == true.shape
        off = (got.float() - true).norm() / true.norm()
        assert off <= 1.1 * (reference.float() - true).norm() / true.norm() + 1e-6
        assert off < 0.01


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gelu_is_torchs(layout: torch.memory_format) -> None:
    x = torch.linspace(-6, 6, 2 * 3 * 8 * 8).view(2, 3, 8, 8).contiguous(memory_format=layout)
    results = []
    for gelu in (GELU(), nn.GELU()):
        image = x.clone().requires_grad_()
        y = gelu(image)
        y.sum().backward()
        results.append((y, image.grad))
        assert y.is_contiguous(memory_format=layout)
    for got, reference in zip(*results, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-5, atol=1e-6)
