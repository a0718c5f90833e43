"""The cost of a backbone with custom layers, which no formula covers: counted on the built one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from modernize.cost import count_module
from modernize.custom_layers import running
from modernize.heads.backbone import Backbone
from modernize.heads.cost import DenseCost, Maps, Size
from modernize.spec import NetSpec

# Operations of a module for each number that it reads or writes, by the rules of mmcv's counter.
_ON_INPUT: Mapping[type[nn.Module], int] = {
    nn.MaxPool2d: 1, nn.AvgPool2d: 1, nn.AdaptiveMaxPool2d: 1, nn.AdaptiveAvgPool2d: 1,
}  # fmt: skip
_ON_OUTPUT: Mapping[type[nn.Module], int] = {
    nn.ReLU: 1, nn.ReLU6: 1, nn.LeakyReLU: 1, nn.PReLU: 1, nn.ELU: 1,
    nn.BatchNorm2d: 2, nn.GroupNorm: 2, nn.InstanceNorm2d: 2, nn.LayerNorm: 2,
}  # fmt: skip


@functools.lru_cache(maxsize=256)
def counted_backbone(spec: NetSpec, size: Size) -> Maps:
    """Returns the maps and the cost of a network, with output norms if it has LayerNorm.

    fvcore counts the MACs. The other operations of mmcv's counter are those of modules; what a
    custom layer computes by functions is not among them, as in mmcv. Arguments and errors are those
    of :func:`modernize.heads.cost.backbone`.
    """
    model = Backbone(spec).eval()
    image = torch.zeros(1, spec.in_channels, *size)
    other = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal other
        kind = type(module)
        other += _ON_INPUT.get(kind, 0) * inputs[0].numel()
        other += _ON_OUTPUT.get(kind, 0) * output.numel()
        # A 1x1 convolution is a linear layer in the authors' blocks, whose bias is not counted.
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            other += (module.bias is not None) * output.numel()

    what = f"be run on an image of {size[1]} x {size[0]} pixels"
    leaves = [module for module in model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    with running(spec, what), torch.no_grad():
        maps = model(image)
    for handle in handles:
        handle.remove()
    counted = count_module(model, image, spec, what)
    return Maps(
        [each.shape[1] for each in maps],
        [(each.shape[2], each.shape[3]) for each in maps],
        DenseCost(params=counted.params, macs=counted.flops, other=other),
    )
