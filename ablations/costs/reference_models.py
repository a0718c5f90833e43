"""Reference models: networks of torchvision and timm, as data.

They are built with random weights, so nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modernize.errors import UnknownNameError
from modernize.libraries import library

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class ReferenceModel:
    """One network of another library.

    Attributes:
        model: its name in the paper's tables.
        library: ``"torchvision"`` or ``"timm"``.
        name: what the library calls it.
        image_sizes: heights and widths in pixels that it is for; empty: any.
    """

    model: str
    library: str
    name: str
    image_sizes: tuple[int, ...] = ()

    def takes(self, image_size: int) -> bool:
        """Returns whether it is for images of this height and width in pixels."""
        return not self.image_sizes or image_size in self.image_sizes

    def build(self) -> nn.Module:
        """Returns the network, from images (N, 3, H, W) to logits (N, 1000), in training mode."""
        create = (
            library("timm").create_model
            if self.library == "timm"
            else library("torchvision.models").get_model
        )
        network: nn.Module = create(self.name)
        return network

    def fetch(self, weights: str) -> Mapping[str, Tensor]:
        """Returns trained weights, which torchvision downloads or has in its cache.

        Args:
            weights: torchvision's name for them, such as ``"IMAGENET1K_V1"``.

        Raises:
            OSError: if there is no connection.
            RuntimeError: if a file does not match its checksum.
        """
        models = library("torchvision.models")
        known = models.get_model_weights(self.name)
        state: Mapping[str, Tensor] = known[weights].get_state_dict(progress=True, check_hash=True)
        return state


# fmt: off
REFERENCE_MODELS: Sequence[ReferenceModel] = (
    ReferenceModel("ResNet-50",   "torchvision", "resnet50"),
    ReferenceModel("ResNet-50",   "timm",        "resnet50"),
    ReferenceModel("ConvNeXt-T",  "torchvision", "convnext_tiny"),
    ReferenceModel("ConvNeXt-T",  "timm",        "convnext_tiny"),
    ReferenceModel("ConvNeXt-S",  "torchvision", "convnext_small"),
    ReferenceModel("ConvNeXt-S",  "timm",        "convnext_small"),
    ReferenceModel("ConvNeXt-B",  "torchvision", "convnext_base"),
    ReferenceModel("ConvNeXt-B",  "timm",        "convnext_base"),
    ReferenceModel("ConvNeXt-L",  "torchvision", "convnext_large"),
    ReferenceModel("ConvNeXt-XL", "timm",        "convnext_xlarge"),
    # A Swin is made for one image size: at 384 its windows are 12 wide instead of 7.
    ReferenceModel("Swin-T",      "torchvision", "swin_t", (224,)),
    ReferenceModel("Swin-T",      "timm",        "swin_tiny_patch4_window7_224", (224,)),
    ReferenceModel("Swin-S",      "torchvision", "swin_s", (224,)),
    ReferenceModel("Swin-S",      "timm",        "swin_small_patch4_window7_224", (224,)),
    ReferenceModel("Swin-B",      "torchvision", "swin_b", (224,)),
    ReferenceModel("Swin-B",      "timm",        "swin_base_patch4_window7_224", (224,)),
    ReferenceModel("Swin-B",      "timm",        "swin_base_patch4_window12_384", (384,)),
    ReferenceModel("Swin-L",      "timm",        "swin_large_patch4_window7_224", (224,)),
    ReferenceModel("Swin-L",      "timm",        "swin_large_patch4_window12_384", (384,)),
)
# fmt: on


def find_reference(model: str, image_size: int) -> ReferenceModel:
    """Returns the first reference model of that name for images of that size.

    Args:
        model: its name in the paper's tables.
        image_size: height and width in pixels.

    Raises:
        UnknownNameError: listing the networks that there are.
    """
    for reference in REFERENCE_MODELS:
        if reference.model == model and reference.takes(image_size):
            return reference
    valid = [
        f"{reference.model} at {size}"
        for reference in REFERENCE_MODELS
        for size in reference.image_sizes or ("any size",)
    ]
    wanted = f"{model} at {image_size}"
    raise UnknownNameError("network of another library", wanted, dict.fromkeys(valid))


def import_libraries() -> None:
    """Imports torchvision and timm (which imports torchvision)."""
    library("timm")


def without_stochastic_depth(network: nn.Module) -> nn.Module:
    """Sets the stochastic-depth rates of a reference model to 0, and returns the model.

    Libraries differ in their defaults: torchvision's ConvNeXt has 0.1, timm's has none.
    """
    drop_path = library("timm.layers.drop").DropPath
    stochastic_depth = library("torchvision.ops").StochasticDepth
    for module in network.modules():
        if isinstance(module, stochastic_depth):
            module.p = 0.0
        elif isinstance(module, drop_path):
            module.drop_prob = 0.0
    return network
