"""Fuses BatchNorm and Layer Scale into the convolutions before them, for inference."""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from modernize.ops import LayerScale

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@torch.no_grad()
def fuse_for_inference(network: NetworkT, dtype: torch.dtype = torch.float32) -> NetworkT:
    """Returns a copy that computes the same logits, except for rounding, in less time.

    Each BatchNorm and each Layer Scale is fused into the convolution before it. A LayerNorm cannot
    be fused, because it depends on the image.

    Args:
        network: of this project, or a detector or segmenter on one; it does not change.
        dtype: in which convolutions and linear layers will compute, by autocast. Their weights are
            converted to it once; otherwise autocast would convert them for every batch.

    Returns:
        A network in evaluation mode, which cannot be trained.
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    for layers in [m for m in copied.modules() if isinstance(m, nn.Sequential)]:
        for number, (before, after) in enumerate(itertools.pairwise(list(layers))):
            if not isinstance(before, nn.Conv2d):
                continue
            if isinstance(after, nn.BatchNorm2d):
                layers[number] = fuse_conv_bn_eval(before, after)
            elif isinstance(after, LayerScale):
                before.weight.mul_(after.gamma.view(-1, 1, 1, 1))
                if before.bias is not None:
                    before.bias.mul_(after.gamma)
            else:
                continue
            layers[number + 1] = nn.Identity()
    for module in copied.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(dtype)
    return copied
