"""Weather: snow, frost, fog and brightness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ablations.data.corruptions.arrays import motion_blurred, to_bytes, zoom_window, zoomed
from ablations.data.corruptions.clouds import plasma
from ablations.data.corruptions.ice import KINDS, texture

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
    flakes = motion_blurred(to_bytes(layers), radius, blur, angles)[..., 0]
    flakes += flakes[:, ::-1, ::-1].copy()
    values = images.astype(np.float32)
    whitened = np.full(flakes.shape, 127.5, np.float32)
    for channel, share in enumerate(_LUMINANCE if channels == 3 else (1.0,)):
        whitened += values[..., channel] * np.float32(1.5 * share)
    for channel in range(channels):
        lighter = np.maximum(values[..., channel], whitened)
        lighter *= np.float32(1 - weight)
        lighter += flakes
        values[..., channel] *= np.float32(weight)
        values[..., channel] += lighter
    return to_bytes(values)


def frost(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Adds a random part of a drawn texture of ice.

    ImageNet-C adds parts of five photographs of ice. Here each of five images of ice has the colour
    and the standard deviation of one of them, but its structure is drawn: see `ice.texture`.

    Parameters: the weights of the image and of the ice, and the size of the ice's structures as a
    fraction of those for 224 pixels.
    """
    image_weight, ice_weight, scale = parameters
    height, width, channels = images.shape[1:]
    structure = texture(scale)
    values = images * np.float32(image_weight)
    for value, generator in zip(values, generators, strict=True):
        kind, turn, top, left = generator.integers(0, [len(KINDS), 8, *structure.shape]).tolist()
        part = structure.T if turn & 1 else structure
        rows, columns = np.arange(top, top + height), np.arange(left, left + width)
        rows, columns = (-rows if turn & 2 else rows), (-columns if turn & 4 else columns)
        part = part[rows[:, None] % len(part), columns % len(part)]
        colour = np.array(KINDS[kind][:3], np.float64)
        grey = (colour * _LUMINANCE).sum(keepdims=True)
        for channel, mean in enumerate(colour if channels == 3 else grey):
            ice = part * np.float32(KINDS[kind][3])
            ice += np.float32(mean)
            np.clip(ice, 0, 255, out=ice)
            ice *= np.float32(ice_weight)
            value[..., channel] += ice
    return to_bytes(values)


def fog(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Adds a cloud and lowers the contrast so that the brightest value stays below white.

    Parameters: the cloud's largest value as a fraction of white, and the decay of its details.
    """
    amount, decay = parameters
    count, height, width, channels = images.shape
    size = 1 << (max(height, width) - 1).bit_length()
    cloud = plasma(generators, size, decay)[:, :height, :width] * np.float32(255 * amount)
    brightest = images.reshape(count, -1).max(1).astype(np.float32)
    values = images.astype(np.float32)
    for channel in range(channels):
        values[..., channel] += cloud
    values *= (brightest / (brightest + np.float32(255 * amount)))[:, None, None, None]
    return to_bytes(values)


def brightness(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],  # noqa: ARG001
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Raises the largest channel; hue and saturation stay. Parameter: by this fraction of white."""
    largest = images.max(3) if images.shape[3] == 1 else np.maximum(images[..., 0], images[..., 1])
    for channel in range(2, images.shape[3]):
        np.maximum(largest, images[..., channel], out=largest)
    levels = np.arange(256)
    factors = np.minimum(levels + 255 * parameters[0], 255) / np.maximum(levels, 1)
    factor = factors.astype(np.float32).take(largest)
    values = np.empty(images.shape, np.float32)
    for channel in range(images.shape[3]):
        np.multiply(images[..., channel], factor, out=values[..., channel])
    values[largest == 0] = 255 * parameters[0]  # black is grey of the new value
    return to_bytes(values)
