"""What numbers of multiply-accumulates are shown in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

SMALL = 1e8
"""FLOPs, below which all networks of a table or chart are shown in MFLOPs."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """A unit: its name, and how many FLOPs it is."""

    name: str
    flops: float


def choose_unit(costs: Iterable[float]) -> Unit:
    """Returns MFLOPs for networks that are all small, and else GFLOPs.

    Args:
        costs: FLOPs of each for one image; 0 where they are not known.
    """
    return Unit("MFLOPs", 1e6) if 0 < max(costs, default=0) < SMALL else Unit("GFLOPs", 1e9)
