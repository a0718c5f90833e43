"""One function that applies a corruption to a batch of images, each with its own seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ablations.data.corruptions import blur, digital, noise, weather
from ablations.data.corruptions.names import CORRUPTIONS, parameters
from modernize.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST = 16  # pixels; the widest local shuffle and the smallest enlarged snow layer need them
_CHUNK = 1 << 18  # values; a chunk and its copies stay in the processor's cache

# Images (N, H, W, C), N generators, parameters -> images. None changes its argument.
Corruption = Callable[
    ["NDArray[np.uint8]", Sequence[np.random.Generator], tuple[float, ...]], "NDArray[np.uint8]"
]

FUNCTIONS: Mapping[str, Corruption] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
}


def corrupt(
    images: NDArray[np.uint8], name: str, severity: int, seeds: Sequence[int], table: str
) -> NDArray[np.uint8]:
    """Returns corrupted copies of images.

    An image's result depends on the image, its seed and the other arguments alone: neither on the
    other images of the batch nor on numpy's global state. A grey image is corrupted like a colour
    image with three equal channels, except that noise is drawn once per pixel and frost has no
    tint: it stays grey. As in ImageNet-C, results are rounded down.

    Args:
        images: (N, H, W, C), at least 16 pixels high and wide, with C = 1 (grey) or 3 (RGB).
        name: of the corruption, from `names.CORRUPTIONS`.
        severity: 1 to 5.
        seeds: one integer per image, not negative.
        table: name of the parameters, from `names.TABLES`; `names.table_for` chooses one.

    Raises:
        UnknownNameError: for an unknown name, severity or table.
        UsageError: for images of another type or shape, or another number of seeds.
    """
    values = parameters(name, severity, table)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise UsageError(
            f"images of type {images.dtype} and shape {images.shape} cannot be corrupted: they "
            "must be uint8 of shape (N, H, W, 1) or (N, H, W, 3)."
        )
    if min(images.shape[1:3]) < SMALLEST:
        raise UsageError(
            f"images of {images.shape[1]} x {images.shape[2]} pixels are too small for "
            f"corruptions: they must be at least {SMALLEST} pixels high and wide."
        )
    if len(seeds) != len(images) or any(seed < 0 for seed in seeds):
        raise UsageError(
            f"{len(seeds)} seeds for {len(images)} images: each image needs one integer that is "
            "not negative."
        )
    number, result = CORRUPTIONS.index(name), np.empty_like(images, order="C")
    step = max(1, _CHUNK // (images[0].size if len(images) else 1))
    for start in range(0, len(images), step):
        chunk = slice(start, start + step)
        generators = [
            np.random.Generator(np.random.SFC64([int(seed), number, severity]))
            for seed in seeds[chunk]
        ]
        part = np.ascontiguousarray(images[chunk])
        result[chunk] = FUNCTIONS[name](part, generators, values)
    return result
