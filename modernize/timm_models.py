"""Registers every step with timm, as ``roadmap_<step>``; only to import this module does.

    import timm, modernize.timm_models
    timm.create_model("roadmap_ln", num_classes=10, regime="resnet50")
    timm.create_model("roadmap_ln", features_only=True, out_indices=(1, 3))

The module has timm's interface: names of arguments and methods are those of timm's models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from modernize.errors import UsageError
from modernize.libraries import library
from modernize.network import Network
from modernize.spec import NetSpec, field_types
from modernize.steps import STEPS, spec_of

_timm = library("timm.models")

NAMES = {f"roadmap_{step.key.replace('-', '_')}": step.key for step in STEPS}
"""timm's name of a network -> the step."""


class TimmNetwork(Network):
    """A network with the methods of timm's models.

    Args:
        spec: which network.

    Attributes:
        num_classes, num_features, head_hidden_size, feature_info, global_pool: as in timm.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__(spec)
        self.num_classes, self.global_pool = spec.num_classes, "avg"
        self.num_features = self.head_hidden_size = self.feature_widths[-1]
        self.feature_info = [
            {"num_chs": width, "reduction": stride, "module": f"stages.{stage}"}
            for stage, (width, stride) in enumerate(
                zip(self.feature_widths, self.feature_strides, strict=True)
            )
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (N, num_classes) of images (N, in_channels, H, W)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Returns the last stage's map, (N, width, H / stride, W / stride)."""
        return self.features(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Returns the logits of the last stage's map, or with ``pre_logits`` its pooled features.

        Without pooling (see :meth:`reset_classifier`), it returns the map, normalised.
        """
        if not self.global_pool:
            out: Tensor = self.norm(x)
            return out
        out = self.norm(self.pool(x)).flatten(1)
        return out if pre_logits else self.head(out)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,  # noqa: ARG002  # timm passes it
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Returns the maps of some stages; unless ``intermediates_only``, also the last map.

        Args:
            x: images.
            indices: stages; an integer: that many last ones; None: all.
            norm: whether the last stage's map is normalised.
            stop_early: no effect: the last map is always computed.
            output_fmt: only ``"NCHW"``.
            intermediates_only: whether only those maps are returned.

        Raises:
            UsageError: for another ``output_fmt``.
        """
        if output_fmt != "NCHW":
            raise UsageError(f"output_fmt is {output_fmt!r}; it must be 'NCHW'.")
        maps = self.features(x)
        last = self.norm(maps[-1])
        if norm:
            maps[-1] = last
        found = [maps[index] for index in _choose(len(maps), indices)]
        return found if intermediates_only else (last, found)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes the stages after the last one of ``indices``, and the head; returns the indices.

        Args:
            indices: stages; an integer: that many last ones.
            prune_norm: whether the norm before the head is removed.
            prune_head: whether the head is removed.
        """
        chosen = _choose(len(self.stages), indices)
        self.stages = self.stages[: max(chosen) + 1]
        if prune_norm or len(self.stages) < len(self.feature_widths):
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return chosen

    def get_classifier(self) -> nn.Module:
        """Returns the head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the head.

        Args:
            num_classes: of the new one; 0: no head.
            global_pool: ``"avg"``; or ``""``, without a head: the output is a map.

        Raises:
            UsageError: for another ``global_pool``.
            SpecError: for an invalid number of classes.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in ("", "avg") or (num_classes and not pool):
            raise UsageError(
                f"global_pool is {pool!r} with {num_classes} classes; it must be 'avg', or '' "
                "without classes."
            )
        self.reset_head(num_classes)
        self.num_classes, self.global_pool = num_classes, pool


def _choose(count: int, indices: int | Sequence[int] | None) -> list[int]:
    stages = range(count)
    if indices is None or isinstance(indices, int):
        return list(stages[-(indices or count) :])
    return [stages[index] for index in indices]


def _entry(name: str, step: str) -> Callable[..., nn.Module]:
    def create(
        pretrained: bool = False,
        regime: str = "resnet50",
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        **options: Any,
    ) -> nn.Module:
        fields = {key: options.pop(key) for key in field_types() if key in options}
        if pretrained:
            raise UsageError(f"{name} has no pretrained weights; leave pretrained out.")
        fields |= {"in_channels": in_chans, "num_classes": num_classes}
        spec = spec_of(step, regime, drop_path=drop_path_rate, **fields)
        stages = tuple(range(len(spec.depths)))
        network: nn.Module = _timm.build_model_with_cfg(
            TimmNetwork,
            name,
            False,
            feature_cfg={"out_indices": stages, "feature_cls": "getter"},
            spec=spec,
            kwargs_filter=("num_classes", "in_chans"),
            **options,
        )
        return network

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"Returns the network of the step {step}; arguments as of timm's models."
    return create


def _register(names: Sequence[str]) -> None:
    for name in names:
        _timm.register_model(_entry(name, NAMES[name]))


_CONFIG = {
    "url": "", "num_classes": 1000, "input_size": (3, 224, 224), "pool_size": (7, 7),
    "crop_pct": 0.875, "interpolation": "bicubic", "first_conv": "stem.conv", "classifier": "head",
    "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
}  # fmt: skip
default_cfgs = _timm.generate_default_cfgs({name: dict(_CONFIG) for name in NAMES})
_register(tuple(NAMES))
