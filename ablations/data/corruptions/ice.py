"""A texture of ice on glass, drawn by this program: crystals with needles, in front of clouds."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from ablations.data.corruptions.clouds import plasma

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Mean red, green, blue and the standard deviation of the five photographs that ImageNet-C uses.
KINDS = (
    (78, 149, 166, 19),
    (201, 205, 214, 22),
    (201, 205, 214, 22),
    (138, 153, 165, 28),
    (112, 123, 135, 43),
)
_SIZE, _CRYSTALS, _LONGEST = 1024, 3000, 120  # pixels at scale 1


@lru_cache(maxsize=2)
def texture(scale: float) -> NDArray[np.float32]:
    """Returns a grey texture (size, size) that continues beyond its borders.

    Its mean is 0 and its standard deviation 1. It is the same on every call.

    Args:
        scale: the size of its structures; 1 for images of 224 pixels.
    """
    generator = np.random.Generator(np.random.SFC64(0))
    crystals = ndimage.gaussian_filter(_crystals(generator), 0.7, mode="wrap")
    crystals -= 0.5 * np.roll(crystals, (2, 1), (0, 1))  # light from one side
    clouds = plasma([generator], _SIZE, 1.5)[0]
    ice = crystals / crystals.std() + clouds / clouds.std()
    size = round(_SIZE * scale)
    ice = np.asarray(Image.fromarray(ice).resize((size, size), Image.Resampling.BOX))
    standard: NDArray[np.float32] = (ice - ice.mean()) / ice.std()
    return standard


def _crystals(generator: np.random.Generator) -> NDArray[np.float32]:
    """Returns crystals: a needle with shorter ones on both sides; later ones cover earlier ones."""
    whole = _SIZE + 2 * _LONGEST
    picture = Image.new("L", (whole, whole))
    draw = ImageDraw.Draw(picture)
    for _ in range(_CRYSTALS):
        start = generator.uniform(_LONGEST, whole - _LONGEST, (2, 1))
        angle, side = generator.uniform(0, 2 * math.pi), generator.uniform(0.6, 1.1)
        length, light = _LONGEST * generator.uniform(0.25, 1) ** 2, generator.uniform(60, 230)
        along = np.arange(0, length, generator.uniform(2, 4))
        roots = start + along * [[math.cos(angle)], [math.sin(angle)]]
        for turn in (-side, side):
            reach = (length - along) * generator.uniform(0.2, 0.5, along.size)
            tips = roots + reach * [[math.cos(angle + turn)], [math.sin(angle + turn)]]
            lights = (light * generator.uniform(0.6, 1.1, along.size)).astype(int).tolist()
            for line, fill in zip(np.vstack([roots, tips]).T.tolist(), lights, strict=True):
                draw.line(line, fill=fill)
        draw.line([*start[:, 0], *roots[:, -1]], fill=int(min(255, 1.2 * light)), width=2)
    drawn = np.asarray(picture, np.float32)
    for axis in (0, 1):  # what is beyond a border comes in on the other side
        drawn = np.moveaxis(drawn, axis, 0)
        inner = drawn[_LONGEST:-_LONGEST].copy()
        np.maximum(inner[-_LONGEST:], drawn[:_LONGEST], out=inner[-_LONGEST:])
        np.maximum(inner[:_LONGEST], drawn[-_LONGEST:], out=inner[:_LONGEST])
        drawn = np.moveaxis(inner, 0, axis)
    return drawn
