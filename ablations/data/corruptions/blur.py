"""Blur: each pixel becomes a mean of pixels around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from ablations.data.corruptions.arrays import motion_blurred, picture, reflected, to_bytes, zoomed

if TYPE_CHECKING:
    from numpy.typing import NDArray


def defocus_blur(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],  # noqa: ARG001
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Blurs by a disk with soft edges; parameters: its radius, the edges' standard deviation.

    The borders are reflected, without the first and last pixels.
    """
    kernel = disk(*parameters)
    margin = len(kernel) // 2
    count, height, width, channels = images.shape
    rows = reflected(np.arange(-margin, height + margin), height, 0)
    columns = reflected(np.arange(-margin, width + margin), width, 0)
    shape = tuple(fft.next_fast_len(len(each), real=True) for each in (rows, columns))
    spectrum = _spectrum(parameters, shape)
    values = np.empty((count, height, width, channels), np.float32)
    for value, image in zip(values, images, strict=True):
        padded = image.take(rows, 0).take(columns, 1)
        planes = padded.transpose(2, 0, 1).astype(np.float32, "C")
        product = fft.rfft2(planes, shape)
        product *= spectrum
        whole = fft.irfft2(product, shape)[:, 2 * margin :, 2 * margin :]
        value[:] = whole[:, :height, :width].transpose(1, 2, 0)
    return to_bytes(values)


def disk(radius: float, deviation: float) -> NDArray[np.float64]:
    """Returns the kernel of a disk, at least 17 pixels wide, blurred at its edges.

    The edges' blur has 3 taps up to a radius of 8 pixels, else 5; at the border of the kernel the
    disk is reflected, so that the weights of large disks add up to a little more than 1.
    """
    reach, taps = (8, 3) if radius <= 8 else (int(radius), 5)
    line = np.arange(-reach, reach + 1)
    inside = line[:, None] ** 2 + line**2 <= radius**2
    kernel: NDArray[np.float64] = inside / inside.sum()
    edge = np.exp(-((np.arange(taps) - taps // 2) ** 2) / (2 * deviation**2))
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, edge / edge.sum(), axis, mode="mirror")
    return kernel


@lru_cache(maxsize=5)
def _spectrum(parameters: tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.complex64]:
    spectrum: NDArray[np.complex64] = fft.rfft2(disk(*parameters).astype(np.float32), shape)
    return spectrum


def glass_blur(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Blurs, copies pixels from close by, blurs again.

    Pixels are replaced one after another, from the bottom right to the top left, by a pixel that
    may itself have been replaced already. ImageNet-C's authors wrote a swap, but on the rows of
    colour images their code copies; so does this.

    Parameters: standard deviation of the blurs, largest distance of a copied pixel along each axis,
    number of rounds; lengths are in pixels.
    """
    deviation, reach, rounds = parameters[0], int(parameters[1]), int(parameters[2])
    height, width, channels = images.shape[1:]
    soft = to_bytes(_gaussian(images, deviation))
    for image, generator in zip(soft, generators, strict=True):
        pixels = image.reshape(-1, channels)
        origin = np.arange(height * width, dtype=np.int32)
        for _ in range(rounds):
            origin = origin[_copied_from(height, width, reach, generator)]
        pixels[:] = pixels.take(origin, 0)
    return to_bytes(_gaussian(soft, deviation))


def _copied_from(
    height: int, width: int, reach: int, generator: np.random.Generator
) -> NDArray[np.int32]:
    """Returns for each pixel which pixel's old value it has after one round of copying."""
    rows, columns = height - 2 * reach, width - 2 * reach
    down, right = generator.integers(-reach, reach, (2, rows, columns), np.int8)
    step = down.astype(np.int32) * width + right
    all_pixels = np.arange(height * width, dtype=np.int32)
    inner = all_pixels.reshape(height, width)[reach + 1 :, reach + 1 :][:rows, :columns]
    source = all_pixels.copy()
    source.reshape(height, width)[reach + 1 :, reach + 1 :][:rows, :columns] += step
    # A pixel below, or on the right in the same row, was replaced before: follow it to its source.
    follow = all_pixels.copy()
    target = follow.reshape(height, width)[reach + 1 :, reach + 1 :][:rows, :columns]
    np.copyto(target, inner + step, where=step > 0)
    while True:
        further = follow[follow]
        if np.array_equal(further, follow):
            return source[follow]
        follow = further


def _gaussian(images: NDArray[np.uint8], deviation: float) -> NDArray[np.float32]:
    sigma = (0, deviation, deviation, 0)
    blurred: NDArray[np.float32]
    blurred = ndimage.gaussian_filter(images.astype(np.float32), sigma, mode="nearest")
    return blurred


def motion_blur(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Blurs along a ray to the right, up to 45 degrees up or down.

    Parameters: radius and standard deviation in pixels, as in `arrays.motion_blurred`.
    """
    angles = [generator.uniform(-45, 45) for generator in generators]
    return to_bytes(motion_blurred(images, parameters[0], parameters[1], angles))


def zoom_blur(
    images: NDArray[np.uint8],
    generators: Sequence[np.random.Generator],  # noqa: ARG001
    parameters: tuple[float, ...],
) -> NDArray[np.uint8]:
    """Takes the mean of the image and enlarged ones; parameters: first factor, end, step."""
    factors = np.arange(*parameters).tolist()
    total = images.astype(np.uint16)
    for each, image in zip(total, images, strict=True):
        original = picture(image)
        for factor in factors:
            enlarged = np.asarray(zoomed(original, factor)) if factor != 1 else image
            each += enlarged.reshape(image.shape)
    values = total.astype(np.float32)
    values /= np.float32(len(factors) + 1)
    return to_bytes(values)
