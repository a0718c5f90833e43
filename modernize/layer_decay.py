"""Layer-wise learning-rate decay: the group of each part of a network, and its scale.

Groups go by position in the network, as in the paper's fine-tuning (Appendix A), never by the names
of parameters. This module does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modernize.spec import NetSpec

if TYPE_CHECKING:
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


def layer_scales(spec: NetSpec, decay: float) -> dict[str, float]:
    """Returns ``{part of the network: factor of its learning rate}``: 1 for the head.

    Args:
        spec: the network.
        decay: the factor from each group to the one before it.
    """
    groups = layer_groups(spec)
    return {part: decay ** (groups["head"] - group) for part, group in groups.items()}


def parameter_scales(network: Network, decay: float) -> dict[str, float]:
    """Returns ``{parameter: factor of its learning rate}`` for every parameter of a network.

    Args:
        network: the network; its custom layers may have any parameters.
        decay: the factor from each group to the one before it.

    Raises:
        ValueError: for a parameter that is in no part of :func:`layer_groups`.
    """
    scales = {
        f"{part}.{name}": scale
        for part, scale in layer_scales(network.spec, decay).items()
        for name, _ in network.get_submodule(part).named_parameters()
    }
    names = [name for name, _ in network.named_parameters()]
    if outside := [name for name in names if name not in scales]:
        raise ValueError(f"parameters in no layer group: {', '.join(outside)}")
    return {name: scales[name] for name in names}
