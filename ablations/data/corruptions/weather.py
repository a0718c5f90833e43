"""Weather: snow, frost, fog and brightness."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ablations.data.corruptions.arrays import motion_blurred, to_bytes, zoom_window, zoomed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LUMINANCE = (0.299, 0.587, 0.114)


def snow(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Whitens the image and adds flakes that fall, and the same flakes turned by 180 degrees.

    Parameters: mean and standard deviation of the noise that becomes flakes, its enlargement, the
    threshold below which there is no flake, radius and standard deviation of the flakes' motion
    blur in pixels, and the weight of the image that is not whitened.
    """
    mean, deviation, factor, threshold, radius, blur, weight = parameters
    count, height, width, channels = images.shape
    layers = np.zeros((count, height, width, 1), np.float32)
    angles = []
    (top, rows, _), (left, columns, _) = (zoom_window(size, factor) for size in (height, width))
    noise = np.zeros((height, width), np.float32)
    for layer, generator in zip(layers[..., 0], generators, strict=True):
        noise[top : top + rows, left : left + columns] = generator.standard_normal(
            (rows, columns), np.float32
        )
        layer[:] = np.asarray(zoomed(Image.fromarray(noise), factor))
        angles.append(generator.uniform(-135, -45))
    layers *= np.float32(deviation)
    layers += np.float32(mean)
    layers[layers < threshold] = 0
    np.clip(layers, 0, 1, out=layers)
    layers *= 255
    flakes = motion_blurred(to_bytes(layers), radius, blur, angles)
    flakes += flakes[:, ::-1, ::-1].copy()
    values = images.astype(np.float32)
    shares = _LUMINANCE if channels == 3 else (1.0,)
    grey = np.full(values.shape[:3], 127.5, np.float32)
    for at, share in enumerate(shares):
        grey += values[..., at] * np.float32(1.5 * share)
    white = np.maximum(values, grey[..., None])
    values *= np.float32(weight)
    white *= np.float32(1 - weight)
    values += white
    values += flakes
    return to_bytes(values)


def frost(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Adds a random part of a texture of ice."""
    image_weight, ice_weight = parameters[:2]
    height, width, channels = images.shape[1:]
    ice = ice_texture(channels)
    values = images * np.float32(image_weight)
    for value, generator in zip(values, generators, strict=True):
        flips, top, left = generator.integers(0, [8, *ice.shape[:2]]).tolist()
        turned = ice[:: 1 - (flips & 2), :: 1 - (flips & 4) // 2]
        turned = turned.swapaxes(0, 1) if flips & 1 else turned
        rows, columns = (np.arange(height) + top) % len(ice), (np.arange(width) + left) % len(ice)
        value += np.float32(ice_weight) * turned[rows[:, None], columns]
    return to_bytes(values)


@lru_cache(maxsize=4)
def ice_texture(channels: int) -> NDArray[np.uint8]:
    """Returns a texture of ice (size, size, channels) that continues beyond its borders."""
    generator = np.random.Generator(np.random.SFC64(0))
    cloud = plasma([generator], 1024, 1.3)[0]
    ice = 40 + 200 * cloud[..., None] * np.array([0.85, 0.95, 1.0], np.float32)[:channels]
    texture: NDArray[np.uint8] = np.clip(ice, 0, 255).astype(np.uint8)
    return texture


def fog(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Adds a cloud and lowers the contrast so that the brightest value stays below white.

    Parameters: the cloud's largest value as a fraction of white, and the decay of its details.
    """
    amount, decay = parameters
    count, height, width, _ = images.shape
    size = 1 << (max(height, width) - 1).bit_length()
    values = 255 * np.float32(amount) * plasma(generators, size, decay)[:, :height, :width, None]
    values = values + images
    brightest = images.reshape(count, -1).max(1).astype(np.float32) / np.float32(255)
    values *= (brightest / (brightest + np.float32(amount)))[:, None, None, None]
    return to_bytes(values)


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


def brightness(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],  # noqa: ARG001
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Raises the largest channel; hue and saturation stay. Parameter: by this fraction of white."""
    largest: NDArray[np.uint16] = images.max(3, keepdims=True).astype(np.uint16)
    result: NDArray[np.uint8] = _brightened(parameters[0])[(largest << 8) | images]
    return result


@lru_cache(maxsize=5)
def _brightened(amount: float) -> NDArray[np.uint8]:
    """Returns the new value of a channel, by the largest channel * 256 + the old value."""
    largest, value = np.arange(256)[:, None], np.arange(256.0)
    raised = np.minimum(largest + 255 * amount, 255)
    new = np.where(largest > 0, value * raised / np.maximum(largest, 1), raised)
    table: NDArray[np.uint8] = (np.minimum(new, 255) + 1e-6).astype(np.uint8).reshape(-1)
    return table
