"""Parameters and MACs of the reference models.

Torch's counter counts them on tensors that have a shape but no content, which takes a second even
for a Swin-L. fvcore, which counts this project's networks, would have to compute all of them. For
networks that both can count, they agree.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.costs.reference_models import ReferenceModel
from modernize import cache

if TYPE_CHECKING:
    from torch import nn

_PACKAGES = ("torch", "torchvision", "timm")
# Torch's names: a linear layer is a product of two matrices. All other counted operators are
# products of two batches of matrices, and only attention has those.
_CONV_AND_LINEAR = ("convolution", "addmm", "mm")


@dataclasses.dataclass(frozen=True)
class ProductCost:
    """The cost of one image in a network that may have attention.

    Attributes:
        params: learned numbers.
        flops: MACs of convolutions and linear layers.
        attention: MACs of attention's two matrix products: queries by keys, and the resulting
            weights by values.
    """

    params: int
    flops: int
    attention: int


def reference_cost(reference: ReferenceModel, image_size: int) -> ProductCost:
    """Returns a reference model's cost: from the cache on disk, or else counted now.

    Args:
        reference: the network.
        image_size: height and width of the image in pixels.
    """

    def count() -> ProductCost:
        import torch

        with torch.device("meta"):
            return count_products(reference.build(), image_size)

    path = cache.cache_folder() / f"reference-{_fingerprint()}.json"
    return cache.cached(
        path, f"{reference.library}-{reference.name}-{image_size}", ProductCost, count
    )


def count_products(network: nn.Module, image_size: int) -> ProductCost:
    """Returns the cost of a network on the meta device, for one image of three channels."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.empty(1, 3, image_size, image_size, device="meta")
    network.eval()
    # A fused attention would be one operator; this backend splits it into its products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image)
    counted = {
        operator.__name__: flops // 2  # torch counts a multiply and its add as two
        for operator, flops in counter.get_flop_counts()["Global"].items()
    }
    flops = sum(counted.get(name, 0) for name in _CONV_AND_LINEAR)
    return ProductCost(
        params=sum(p.numel() for p in network.parameters()),
        flops=flops,
        attention=sum(counted.values()) - flops,
    )


@functools.cache
def _fingerprint() -> str:
    here = Path(__file__)
    return cache.fingerprint([here, here.with_name("reference_models.py")], _PACKAGES)
