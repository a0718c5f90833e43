"""Digital: contrast, elastic transforms, large pixels and JPEG compression."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import fft

from ablations.data.corruptions.arrays import picture, reflected, to_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def contrast(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],  # noqa: ARG001
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Brings values closer to the mean of their channel; parameter: the factor of distances."""
    count, height, width, channels = images.shape
    rows = images.reshape(count, height, -1)
    sums = rows.sum(1, dtype=np.uint32).reshape(count, width, channels).sum(1, dtype=np.int64)
    shift = (sums / (height * width) * (1 - parameters[0])).astype(np.float32)
    values = rows * np.float32(parameters[0])
    values += np.tile(shift, width)[:, None]
    return to_bytes(values).reshape(images.shape)


def elastic_transform(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Moves three points of the image, then each pixel, smoothly and at random.

    Parameters, in pixels: the scale of pixels' displacements, the standard deviation of their
    smoothing, and the largest displacement of the three points along each axis.
    """
    amount, deviation, jitter = parameters
    height, width = images.shape[1:3]
    result = np.empty_like(images)
    down, right = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)
    for target, image, generator in zip(result, images, generators, strict=True):
        matrix = _affine(height, width, generator.uniform(-jitter, jitter, (3, 2)))
        (xx, xy, x), (yx, yy, y) = matrix.astype(np.float32)
        planes = image.transpose(2, 0, 1).astype(np.float32, "C")
        planes = _sampled(planes, right * yx + (down * yy + y), right * xx + (down * xy + x), 0)
        if amount:
            fields = generator.random((2, height, width), np.float32)
            fields -= np.float32(0.5)
            fields = fft.dctn(fields, axes=(1, 2))
            fields *= _smoothing(height, deviation)[:, None] * np.float32(2 * amount)
            fields *= _smoothing(width, deviation)
            move_down, move_right = fft.idctn(fields, axes=(1, 2))
            planes = _sampled(planes, move_down + down, move_right + right, 1)
        target[:] = to_bytes(planes).transpose(1, 2, 0)
    return result


def _affine(height: int, width: int, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the matrix (2, 3) that takes a new position (x, y, 1) to the old one.

    Three corners of a square in the middle, 2/3 as large as the image, move by the offsets.
    """
    side = min(height, width) // 3
    middle = np.array([width // 2, height // 2])
    old = middle + side * np.array([[1, 1], [1, -1], [-1, -1]])
    new = old + offsets
    (ax, ay), (bx, by) = new[0] - new[1], new[1] - new[2]  # they were (0, 2 side), (2 side, 0)
    area = bx * ay - by * ax
    turn = np.array([[ay, -ax], [-by, bx]]) * (2 * side / area)
    return np.column_stack([turn, old[1] - (turn * new[1]).sum(1)])


@lru_cache(maxsize=8)
def _smoothing(size: int, deviation: float) -> NDArray[np.float32]:
    """Returns the factors of a line's cosine transform that smooth it.

    They are those of a normal distribution, cut at 3 standard deviations, with reflected borders.
    """
    reach = int(3 * deviation + 0.5)
    steps = np.arange(1, reach + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    waves = np.cos(np.pi / size * np.outer(np.arange(size), steps))
    total = 1 + 2 * (waves * weights).sum(1)
    factors: NDArray[np.float32] = (total / total[0]).astype(np.float32)
    return factors


def _sampled(
    planes: NDArray[np.float32], y: NDArray[np.float32], x: NDArray[np.float32], repeats: int
) -> NDArray[np.float32]:
    """Returns the planes (C, H, W) of an image at other positions, by linear interpolation.

    Args:
        planes: one for each channel.
        y: positions (H, W) from the top in pixels.
        x: positions from the left.
        repeats: of the border's pixels where the image is reflected at it; 0 or 1.
    """
    height, width = planes.shape[1:]
    result = np.empty((len(planes), *y.shape), planes.dtype)
    rows = max(1, 8192 // width)  # as many as the processor's cache holds with all indices
    for start in range(0, height, rows):
        part = slice(start, start + rows)
        top, left = np.floor(y[part]), np.floor(x[part])
        down, right = y[part] - top, x[part] - left
        above, below = (lines * width for lines in _neighbours(top, height, repeats))
        before, after = _neighbours(left, width, repeats)
        corners = above + before, above + after, below + before, below + after
        for plane, target in zip(planes.reshape(len(planes), -1), result, strict=True):
            a, b, c, d = (plane.take(corner) for corner in corners)
            a += (b - a) * right
            c += (d - c) * right
            target[part] = a + (c - a) * down
    return result


def _neighbours(
    positions: NDArray[np.float32], size: int, repeats: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the pixels at whole positions and the pixels after them, reflected at borders."""
    positions = positions.clip(-(1 << 16), 1 << 16)  # so that the table below stays small
    first = int(positions.min())
    line = reflected(np.arange(first, int(positions.max()) + 2), size, repeats)
    index = (positions - np.float32(first)).astype(np.intp)
    return line.take(index), line[1:].take(index)


def pixelate(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],  # noqa: ARG001
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Shows the image in fewer pixels; parameter: the factor of their number along each axis."""
    height, width = images.shape[1:3]
    small = int(width * parameters[0]), int(height * parameters[0])
    box = Image.Resampling.BOX
    made = [picture(image).resize(small, box).resize((width, height), box) for image in images]
    return np.stack([np.asarray(image) for image in made]).reshape(images.shape)


def jpeg_compression(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],  # noqa: ARG001
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Stores and reads the image as JPEG by Pillow; parameter: the quality."""
    result = np.empty_like(images)
    for target, image in zip(result, images, strict=True):
        file = io.BytesIO()
        picture(image).save(file, "JPEG", quality=int(parameters[0]))
        with Image.open(file) as read:
            target[:] = np.asarray(read).reshape(image.shape)
    return result
