"""Layer-wise learning-rate decay: the group of each part of a network, and its scale.

Groups go by position in the network, as in the paper's fine-tuning (Appendix A), never by the names
of parameters. This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modernize.spec import NetSpec

if TYPE_CHECKING:
    from torch import nn

    from modernize.heads.detector import Detector
    from modernize.heads.segmenter import Segmenter
    from modernize.network import Network

SPLIT_STAGE = 2  # index of the stage that has several groups: the long one of ResNet and ConvNeXt
BLOCKS = 3  # of one group in that stage


def layer_groups(spec: NetSpec) -> dict[str, int]:
    """Returns ``{part of the network: its group}``, from the stem, which is group 0, to the head.

    For ConvNeXt-S, B, L and XL these are the paper's groups. Each stage is one group; only the
    third, or the last of fewer stages, has one for every three of its blocks, the last of which may
    have fewer. A separate downsampling layer belongs to the first group of its stage. Before the
    step `downsample`, a strided first block with its shortcut does the same, and its group is that
    of its blocks. The final norm and the head are one group, the last.

    So the last group is 13 for 27 blocks in the third stage and 7 for 9 (ConvNeXt-T). The paper's
    groups of T in fine-tuning from ImageNet-22K are not public; those here are the ones of T in its
    object detection. They follow the number of blocks: `resnet`, with 6, has 6 as its last group.

    Args:
        spec: the network.
    """
    groups, last = {"stem": 0}, 0
    split = min(SPLIT_STAGE, len(spec.depths) - 1)
    for stage, depth in enumerate(spec.depths):
        first = last + 1
        groups[f"stages.{stage}.downsample"] = first
        for block in range(depth):
            last = first + (block // BLOCKS if stage == split else 0)
            groups[f"stages.{stage}.blocks.{block}"] = last
    return {**groups, "norm": last + 1, "head": last + 1}


def stage_groups(spec: NetSpec) -> dict[str, int]:
    """Returns the groups of the paper's semantic segmentation, in the form of :func:`layer_groups`.

    The stem and all separate downsampling layers are group 0, the blocks of stage s (from 1) group
    s. The last group has the number that it has in :func:`layer_groups`, so that there are groups
    in between without parameters: with 27 blocks in the third stage, the last stage has the
    learning rate of the head times the ninth power of the decay.

    Args:
        spec: the network.
    """
    last = layer_groups(spec)["head"]
    groups = {"stem": 0}
    for stage, depth in enumerate(spec.depths):
        groups[f"stages.{stage}.downsample"] = 0
        groups.update({f"stages.{stage}.blocks.{block}": stage + 1 for block in range(depth)})
    return {**groups, "norm": last, "head": last}


Groups = Callable[[NetSpec], dict[str, int]]


def layer_scales(spec: NetSpec, decay: float, groups: Groups = layer_groups) -> dict[str, float]:
    """Returns ``{part of the network: factor of its learning rate}``: 1 for the head.

    Args:
        spec: the network.
        decay: the factor from each group to the one before it.
        groups: how parts are grouped.
    """
    numbers = groups(spec)
    return {part: decay ** (numbers["head"] - group) for part, group in numbers.items()}


def parameter_scales(
    model: Network | Detector | Segmenter, decay: float, groups: Groups = layer_groups
) -> dict[str, float]:
    """Returns ``{parameter: factor of its learning rate}`` for every parameter of a model.

    Args:
        model: a network, whose custom layers may have any parameters; or a detector or segmenter,
            in which everything but the stem and the stages is in the last group.
        decay: the factor from each group to the one before it.
        groups: how parts are grouped.

    Raises:
        ValueError: for a parameter of a network that is in no part of ``groups``.
    """
    root: nn.Module = getattr(model, "backbone", model)
    prefix = "" if root is model else "backbone."
    parts = dict(root.named_modules())
    found = {
        f"{prefix}{part}.{name}": scale
        for part, scale in layer_scales(model.spec, decay, groups).items()
        if part in parts
        for name, _ in parts[part].named_parameters()
    }
    names = [name for name, _ in model.named_parameters()]
    if root is model and (outside := [name for name in names if name not in found]):
        raise ValueError(f"parameters in no layer group: {', '.join(outside)}")
    return {name: found.get(name, 1.0) for name in names}
