"""The networks for ``torch.hub``: ``torch.hub.load(DIR, "convnext_roadmap", step="ln", ...)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modernize import build as _build

if TYPE_CHECKING:
    from modernize.network import Network

dependencies = ["torch"]


def convnext_roadmap(step: str | int = "downsample", **options: Any) -> Network:
    """Returns the network of a step, in training mode.

    Args:
        step: a step's key or index, or the name of one of the paper's networks.
        options: of :func:`modernize.build`: ``regime``, ``num_classes``, ``weights``, ...

    Raises:
        UnknownNameError, UsageError, SpecError, WeightsError: as :func:`modernize.build`.
    """
    return _build(step, **options)
