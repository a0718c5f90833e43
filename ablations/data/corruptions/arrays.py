"""Parts that several corruptions share: rounding, normal noise, and enlarging by Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns values between 0 and 255, rounded down as in ImageNet-C; overwrites its argument.

    Values that rounding errors of float32 put less than 1/1024 below an integer count as it.
    """
    values += np.float32(1 / 1024)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def picture(image: NDArray[np.uint8]) -> Image.Image:
    """Returns an array (H, W, C) as an image of Pillow, grey or RGB."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def reflected(positions: NDArray[np.intp], size: int, repeats: int) -> NDArray[np.intp]:
    """Returns the pixels of a line at positions that may be beyond its borders.

    Args:
        positions: any integers.
        size: of the line in pixels.
        repeats: of the border's pixels where the line is reflected; 0 or 1.
    """
    period = 2 * (size - 1 + repeats)
    positions = positions % period
    return np.minimum(positions, period - repeats - positions)


def zoom_window(size: int, factor: float) -> tuple[int, int, int]:
    """Returns how the middle of a line of pixels is enlarged to the whole line.

    Returns:
        start and length of the middle part in pixels, and its length after enlarging. The enlarged
        part has the first and the last pixel of the middle part at its ends, and may be longer than
        the line; then its own middle is used.
    """
    length = math.ceil(size / factor)
    return (size - length) // 2, length, round(length * factor)


def zoom_box(size: int, factor: float) -> tuple[float, float]:
    """Returns the interval that Pillow has to resize to `size` pixels for this enlargement."""
    start, length, enlarged = zoom_window(size, factor)
    scale = (length - 1) / (enlarged - 1)
    first = start + (enlarged - size) // 2 * scale + (1 - scale) / 2
    return first, first + scale * size


def zoomed(image: Image.Image, factor: float) -> Image.Image:
    """Returns an image of the same size that shows its middle, enlarged by linear interpolation."""
    (left, right), (top, bottom) = (zoom_box(size, factor) for size in image.size)
    return image.resize(image.size, Image.Resampling.BILINEAR, (left, top, right, bottom))


def motion_blurred(
    images: NDArray[np.uint8] | NDArray[np.float32],
    radius: float,
    sigma: float,
    degrees: Sequence[float],
) -> NDArray[np.float32]:
    """Returns images blurred along one direction each, as ImageMagick's motion blur defines it.

    A pixel becomes the weighted mean of the pixels on a ray from it: weights are half a normal
    distribution, positions are rounded to whole pixels, and borders are repeated.

    Args:
        images: (N, H, W, C).
        radius: the ray has 2 * radius + 1 pixels. The last that together have less than 1/10,000 of
            the weight are left out.
        sigma: standard deviation of the weights in pixels.
        degrees: the ray's direction for each image; 0 is right, 90 down.
    """
    count, height, width, channels = images.shape
    weights = np.array(
        [math.exp(-(step**2) / (2 * sigma**2)) for step in range(2 * math.ceil(radius) + 1)]
    )
    weights = weights[: np.searchsorted(np.cumsum(weights) / weights.sum(), 1 - 1e-4) + 1]
    weights /= weights.sum()
    margin = len(weights)
    padded = np.empty((count, height + 2 * margin, (width + 2 * margin), channels), np.float32)
    inner = slice(margin, margin + width)
    padded[:, margin : margin + height, inner] = images
    padded[:, :margin, inner] = images[:, :1]
    padded[:, margin + height :, inner] = images[:, -1:]
    padded[:, :, :margin] = padded[:, :, margin : margin + 1]
    padded[:, :, margin + width :] = padded[:, :, margin + width - 1 : margin + width]
    rows = padded.reshape(count, height + 2 * margin, -1)
    result = np.zeros((count, height, width * channels), np.float32)
    scaled = np.empty_like(result[0])
    for row, total, angle in zip(rows, result, degrees, strict=True):
        right, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        taps: dict[tuple[int, int], float] = {}
        for step, weight in enumerate(weights.tolist()):
            at = (math.ceil(step * down - 0.5) + margin, math.ceil(step * right - 0.5) + margin)
            taps[at] = taps.get(at, 0.0) + weight
        for (top, left), weight in taps.items():
            columns = slice(left * channels, (left + width) * channels)
            np.multiply(row[top : top + height, columns], np.float32(weight), out=scaled)
            total += scaled
    return result.reshape(images.shape)
