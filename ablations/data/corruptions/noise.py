"""Noise: each pixel and each channel on its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import pdtr

from ablations.data.corruptions.arrays import to_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_QUANTILES = 1 << 14


def gaussian_noise(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Adds normal noise; parameter: its standard deviation, as a fraction of white."""
    values = np.empty(images.shape, np.float32)
    for value, generator in zip(values, generators, strict=True):
        generator.standard_normal(dtype=np.float32, out=value)
    values *= np.float32(255 * parameters[0])
    values += images
    return to_bytes(values)


def shot_noise(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Counts photons by a Poisson distribution; parameter: their mean number for white.

    Counts are drawn from 16,384 quantiles of the distribution of each level.
    """
    index = images.astype(np.intp)
    index *= _QUANTILES
    for each, generator in zip(index, generators, strict=True):
        each += generator.integers(_QUANTILES, size=each.shape, dtype=np.uint16)
    return _photon_levels(parameters[0]).take(index)


@lru_cache(maxsize=5)
def _photon_levels(photons: float) -> NDArray[np.uint8]:
    """Returns the level that each quantile of the count becomes, for the levels 0 to 255."""
    counts = np.arange(int(photons + 8 * photons**0.5 + 16))
    levels = (np.minimum(counts / photons, 1) * 255 + 1e-6).astype(np.uint8)
    middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    below = [np.searchsorted(pdtr(counts, level / 255 * photons), middles) for level in range(256)]
    return levels[np.concatenate(below)]


def impulse_noise(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Makes values black or white with equal chances; parameter: the fraction of them."""
    result = images.copy()
    for each, generator in zip(result, generators, strict=True):
        drawn = generator.random(each.shape, np.float32)
        np.copyto(each, 0, where=drawn < parameters[0] / 2)
        np.copyto(each, 255, where=drawn >= 1 - parameters[0] / 2)
    return result
