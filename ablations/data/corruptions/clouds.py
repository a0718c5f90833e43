"""Random clouds, for fog and for the large structures of ice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def plasma(
    generators: Sequence[np.random.Generator], size: int, decay: float
) -> NDArray[np.float32]:
    """Returns clouds (N, size, size) between 0 and 1, by the diamond-square algorithm on a torus.

    Args:
        generators: one for each cloud.
        size: a power of two.
        decay: the random offsets are divided by its square each time the distance is halved.
    """
    clouds = np.zeros((len(generators), size, size), np.float32)
    amplitude, step = 1.0, size
    while step > 1:
        half, across = step // 2, size // step
        offsets = np.empty((len(generators), 3, across, across), np.float32)
        for offset, generator in zip(offsets, generators, strict=True):
            generator.random(dtype=np.float32, out=offset)
        offsets *= np.float32(2 * amplitude)
        offsets -= np.float32(amplitude)
        corners = clouds[:, ::step, ::step].copy()
        pairs = corners + np.roll(corners, -1, 2)
        middles = (pairs + np.roll(pairs, -1, 1)) / 4 + offsets[:, 0]
        clouds[:, half::step, half::step] = middles
        beside = (pairs + middles + np.roll(middles, 1, 1)) / 4 + offsets[:, 1]
        clouds[:, ::step, half::step] = beside
        pairs = corners + np.roll(corners, -1, 1)
        below = (pairs + middles + np.roll(middles, 1, 2)) / 4 + offsets[:, 2]
        clouds[:, half::step, ::step] = below
        amplitude, step = amplitude / decay**2, half
    clouds -= clouds.min((1, 2), keepdims=True)
    clouds /= clouds.max((1, 2), keepdims=True)
    return clouds
