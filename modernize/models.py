"""The paper's networks as data: both ends of the roadmap, and the other sizes of ConvNeXt.

The keys are the names in the paper's tables. No network fixes an image size: the paper uses those
with stages at 224 and at 384 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modernize.errors import UnknownNameError, UsageError
from modernize.spec import NetSpec, Role, Stem
from modernize.steps import STEPS, find_step, spec_of

_CONVNEXT = spec_of("downsample")
_ISOTROPIC = _CONVNEXT.replace(stem=Stem.PATCHIFY_16, layer_scale=0.0)

# fmt: off
MODELS: Mapping[str, NetSpec] = {
    "ResNet-50":         spec_of("resnet", "resnet50"),
    "ResNet-200":        spec_of("resnet", "resnet200"),
    "ConvNeXt-T":        _CONVNEXT,
    "ConvNeXt-S":        _CONVNEXT.replace(depths=(3, 3, 27, 3)),
    "ConvNeXt-B":        _CONVNEXT.replace(depths=(3, 3, 27, 3), width=128),
    "ConvNeXt-L":        _CONVNEXT.replace(depths=(3, 3, 27, 3), width=192),
    "ConvNeXt-XL":       _CONVNEXT.replace(depths=(3, 3, 27, 3), width=256),
    # Isotropic: one stage on 16x16 patches. Only L is trained with a Layer Scale.
    "ConvNeXt-S (iso.)": _ISOTROPIC.replace(depths=(18,), width=384),
    "ConvNeXt-B (iso.)": _ISOTROPIC.replace(depths=(18,), width=768),
    "ConvNeXt-L (iso.)": _ISOTROPIC.replace(depths=(36,), width=1024, layer_scale=1e-6),
}
# fmt: on

ALIASES: Mapping[str, str] = {
    "resnet50": "ResNet-50",
    "resnet200": "ResNet-200",
    "convnext_tiny": "ConvNeXt-T",
    "convnext_small": "ConvNeXt-S",
    "convnext_base": "ConvNeXt-B",
    "convnext_large": "ConvNeXt-L",
    "convnext_xlarge": "ConvNeXt-XL",
    "convnext_isotropic_small": "ConvNeXt-S (iso.)",
    "convnext_isotropic_base": "ConvNeXt-B (iso.)",
    "convnext_isotropic_large": "ConvNeXt-L (iso.)",
}
"""Name of a network in torchvision, timm or the official release -> key of :data:`MODELS`."""


def find_network(name: str | int, regime: str | None = None, **fields: Any) -> NetSpec:
    """Returns a step's network, or one of the paper's, with ``fields`` replaced.

    Args:
        name: a step's key or index, a key of :data:`MODELS`, or an alias.
        regime: of the step, by default ``"resnet50"``; the paper's networks have none.
        fields: of the network, and their values.

    Raises:
        UnknownNameError: for an unknown name, regime or field, listing the valid ones.
        UsageError: for a regime of a network that is not a step.
        SpecError: for an invalid value of a field.
    """
    model = ALIASES.get(str(name), str(name))
    if model in MODELS:
        if regime is not None:
            raise UsageError(f"{name} has its own size; leave the regime {regime!r} out.")
        return MODELS[model].replace(**fields)
    try:
        find_step(name)
    except UnknownNameError:
        valid = [*(step.key for step in STEPS), *MODELS]
        raise UnknownNameError("step or network", name, valid) from None
    return spec_of(name, regime or "resnet50", **fields)


def model_of(spec: NetSpec) -> str | None:
    """Returns the name of the paper's network that this one is; None if it is none of them.

    Fields that only training uses, the initial Layer Scale and the classes do not count.
    """
    ignoring = (Role.TRAINING, Role.INITIAL, Role.HEAD)
    return next((name for name, s in MODELS.items() if not spec.diff(s, ignoring)), None)
