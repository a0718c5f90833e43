"""The column of a Swin Transformer in a table of architectures, from torchvision's network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ablations.costs.reference_costs import reference_cost
from ablations.costs.reference_models import find_reference
from ablations.diagrams.table import Column, Group, Part
from modernize import cache
from modernize.errors import UsageError


@dataclasses.dataclass(frozen=True)
class SwinSizes:
    """The numbers that a Swin consists of.

    Attributes:
        patch: height of a patch, in pixels.
        width: channels of stage 1; they double at each stage.
        heads: of attention in stage 1; they double, too.
        window: height of a window, in positions.
        hidden: channels inside the MLP in stage 1.
        depth1, depth2, depth3, depth4: blocks of each stage.
        classes: logits.
    """

    patch: int
    width: int
    heads: int
    window: int
    hidden: int
    depth1: int
    depth2: int
    depth3: int
    depth4: int
    classes: int

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of each stage."""
        return self.depth1, self.depth2, self.depth3, self.depth4


def swin_column(model: str, image_size: int) -> Column:
    """Returns the column of a Swin.

    The network is built only once; its sizes and its cost are then in the cache on disk.

    Args:
        model: its name in the paper's tables: "Swin-T".
        image_size: height and width of the image in pixels.

    Raises:
        UnknownNameError: if there is no such model for this image size.
        UsageError: if torchvision does not have it.
    """
    reference = find_reference(model, image_size)
    if reference.library != "torchvision":
        raise UsageError(
            f"the column of {model} is read from torchvision's network, and torchvision has no "
            f"{model} for images of {image_size} x {image_size}; leave it out."
        )
    here = Path(__file__)
    path = cache.cache_folder() / f"swin-{cache.fingerprint([here], ['torchvision'])}.json"

    def read() -> SwinSizes:
        import torch

        with torch.device("meta"):
            return swin_sizes(reference.build())

    sizes = cache.cached(path, reference.name, SwinSizes, read)
    cost = reference_cost(reference, image_size)
    side = image_size // sizes.patch
    stem = f"{sizes.patch}x{sizes.patch}, {sizes.width}, stride {sizes.patch}"
    parts = [Part("stem", side, (Group((stem,)),))]
    for stage, depth in enumerate(sizes.depths):
        width = sizes.width << stage
        merging = Group((f"patch merging, {width}",))
        block = Group(
            (
                f"1x1, {width}x3",
                f"MSA, w{sizes.window}x{sizes.window}, H={sizes.heads << stage}",
                f"1x1, {width}",
                f"1x1, {sizes.hidden << stage}",
                f"1x1, {width}",
            ),
            depth,
        )
        groups = (merging, block) if stage else (block,)
        side = -(-side // 2) if stage else side  # an odd side is padded
        parts.append(Part(f"stage {stage + 1}", side, groups))
    parts.append(Part("head", 1, (Group(("average pool", f"linear, {sizes.classes}")),)))
    parts.append(Part("block", None, (Group(("2 LayerNorm", "1 GELU")),)))
    note = (
        f"{model}: a block has two residual branches: attention in windows (MSA; H: heads), with "
        "the 1x1 convolutions (linear layers) around it, and the other two. FLOPs are those of "
        "convolutions and linear layers, without the two products of attention."
    )
    return Column(model, image_size, cost.flops, cost.params, tuple(parts), (note,))


def swin_sizes(network: Any) -> SwinSizes:
    """Returns the sizes of torchvision's Swin.

    Raises:
        UsageError: if its stages are not as :class:`SwinSizes` describes them.
    """
    stages = network.features[1::2]
    conv, first = network.features[0][0], stages[0][0]
    sizes = SwinSizes(
        patch=conv.kernel_size[0],
        width=conv.out_channels,
        heads=first.attn.num_heads,
        window=first.attn.window_size[0],
        hidden=first.mlp[0].out_features,
        depth1=len(stages[0]),
        depth2=len(stages[1]),
        depth3=len(stages[2]),
        depth4=len(stages[3]),
        classes=network.head.out_features,
    )
    for stage, blocks in enumerate(stages):
        width, heads = sizes.width << stage, sizes.heads << stage
        for block in blocks:
            found = (block.attn.qkv.in_features, block.attn.qkv.out_features, block.attn.num_heads)
            wanted = (width, 3 * width, heads)
            inside = (block.mlp[0].out_features, *block.attn.window_size)
            if found != wanted or inside != (sizes.hidden << stage, sizes.window, sizes.window):
                raise UsageError("torchvision's Swin has other stages than this table can show.")
    return sizes
