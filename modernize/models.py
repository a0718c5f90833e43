"""The paper's networks as data: both ends of the roadmap, and the other sizes of ConvNeXt.

The keys are the names in the paper's tables. No network fixes an image size: the paper uses those
with stages at 224 and at 384 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

from modernize.spec import NetSpec, Role, Stem
from modernize.steps import spec_of

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


def model_of(spec: NetSpec) -> str | None:
    """Returns the name of the paper's network that this one is; None if it is none of them.

    Fields that only training uses, the initial Layer Scale and the classes do not count.
    """
    ignoring = (Role.TRAINING, Role.INITIAL, Role.HEAD)
    return next((name for name, s in MODELS.items() if not spec.diff(s, ignoring)), None)
