"""ConvNeXt as its authors released it, from a checkout of facebookresearch/ConvNeXt."""

from __future__ import annotations

import contextlib
import dataclasses
import runpy
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modernize.errors import UsageError
from modernize.libraries import library
from modernize.spec import NetSpec
from modernize.steps import STEPS, spec_of

if TYPE_CHECKING:
    from torch import nn

SOURCE = Path("models", "convnext.py")


@dataclasses.dataclass(frozen=True)
class OfficialNetwork:
    """One network of the release.

    Attributes:
        checkout: the folder of the repository.
        spec: the same network as we describe it.
    """

    checkout: Path
    spec: NetSpec

    def load(self) -> None:
        """Imports what building it needs."""
        self._definitions()

    def build(self) -> nn.Module:
        """Returns it, from images (N, 3, H, W) to logits; it has no stochastic depth by default."""
        network: nn.Module = self._definitions()["ConvNeXt"](
            in_chans=self.spec.in_channels,
            num_classes=self.spec.num_classes,
            depths=list(self.spec.depths),
            dims=list(self.spec.stream_widths),
        )
        return network

    def _definitions(self) -> dict[str, Any]:
        with _as_timm_was():
            return runpy.run_path(str(self.checkout / SOURCE))


def check_checkout(folder: Path) -> Path:
    """Returns the folder, absolute.

    Raises:
        UsageError: where it is no checkout of the release.
    """
    if not (folder / SOURCE).is_file():
        raise UsageError(
            f"--official {folder}: there is no {SOURCE} in it. Name a checkout of "
            "https://github.com/facebookresearch/ConvNeXt."
        )
    return folder.resolve()


def is_released(spec: NetSpec) -> bool:
    """Returns whether a network is a ConvNeXt of the release, of whatever depths and width."""
    return spec_of(STEPS[-1].key).diff(spec).keys() <= {"depths", "width"}


@contextlib.contextmanager
def _as_timm_was() -> Iterator[None]:
    """Lets the release's file import what it needs of timm from where it was in 2022.

    timm still has these places, with a warning; but its registry would take the release's networks
    for its own from then on, as they bear the same names.
    """
    registry = types.ModuleType("timm.models.registry")
    registry.__dict__["register_model"] = _untouched
    stand_ins = {
        "timm.models.registry": registry,
        "timm.models.layers": library("timm.layers"),
    }
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _untouched(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return function
