"""Networks made ready to infer give the logits that they gave before."""

import copy

import pytest
import torch
from torch import nn

from modernize import STEPS, build
from modernize.fusion import fuse_for_inference
from modernize.network import LayerScale


def lived_in(step: str) -> nn.Module:
    """A network whose BatchNorms and Layer Scales are not as they began."""
    torch.manual_seed(0)
    network = build(step, regime="nano", num_classes=10)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_(std=0.2)
            elif isinstance(module, LayerScale):
                module.gamma.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("step", [step.key for step in STEPS])
def test_every_step_folds(step: str) -> None:
    network = lived_in(step)
    before = copy.deepcopy(network.state_dict())
    ready = fuse_for_inference(network)
    kinds = {type(module) for module in ready.modules()}
    assert not kinds & {nn.BatchNorm2d, LayerScale}
    assert not any(p.requires_grad for p in ready.parameters())
    x = torch.randn(4, 1 if network.spec.in_channels == 1 else 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ready(x), network.eval()(x), rtol=1e-4, atol=1e-5)
    for name, tensor in network.state_dict().items():  # which is left as it was
        assert torch.equal(tensor, before[name])


def test_weights_are_held_in_the_dtype_they_compute_in() -> None:
    network = lived_in("downsample")
    ready = fuse_for_inference(network, torch.bfloat16)
    x = torch.randn(4, 3, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        plain, fast = network.eval()(x), ready(x)
    for module in ready.modules():
        for parameter in module.parameters(recurse=False):
            product = isinstance(module, nn.Conv2d | nn.Linear)
            assert parameter.dtype == (torch.bfloat16 if product else torch.float32)
    assert (plain - fast).norm() < 0.03 * plain.norm()
