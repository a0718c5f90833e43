import pytest
import torch
from torch import nn

from modernize.network import GELU
from modernize.pointwise import WIDE, PointwiseConv2d


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("width", [8, WIDE])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_in_mixed_precision_are_those_of_torch(
    bias: bool, width: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    ours = PointwiseConv2d(width, 2 * width, bias=bias)
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
