"""Scenes composed of Fashion-MNIST garments: 128 x 128 pixels in colour, two to five garments.

Garments are tinted, scaled to 24 to 56 pixels, and painted over each other on smooth noise. At most
30 % of a garment are hidden. Boxes, masks and classes of pixels are exact: they come from the
pixels that were painted. Training scenes use training garments only.

A scene is decided by its seed and number alone. Its random numbers are the raw output of NumPy's
Philox, a documented bit generator whose numbers are the same in all versions, and everything after
that is computed in integers. Does not import torch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ablations.data.dense.splits import DenseImages, Objects, boxes_of, coco_format
from ablations.data.fashion_mnist import CLASSES, read_fashion_mnist
from modernize.user_code import digest_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN, VAL = 1000, 300  # scenes, if nothing else is requested
SIDE = 128  # pixels of a scene
GARMENTS = (2, 5)  # in a scene
SIZES = (24, 56)  # pixels of a garment's longer side
HIDDEN = 0.3  # the largest part of a garment that others may cover
TRIES = 50  # places that are tried for a garment before it is left out
PAINTED = 24  # a garment's pixels are those of at least this grey
VERSION = 1  # part of the identity: to be raised if the same seed gives other scenes
BITS = 8  # of the fractions in interpolation
MEAN, STD = (0.5, 0.5, 0.5), (0.12, 0.12, 0.12)  # of the training scenes, about
FIRST_VAL = 2**32  # number of the first validation scene; those of training begin with 0


class _Draws:
    """Random integers from a key, the same on every machine and in every version of NumPy."""

    def __init__(self, *key: int) -> None:
        self._raw = np.random.Philox(key=np.array(key, np.uint64))

    def below(self, limit: int, count: int = 1) -> NDArray[np.int64]:
        """Returns integers (count,) from 0 to ``limit`` - 1."""
        high = self._raw.random_raw(count) >> np.uint64(32)
        return (high * np.uint64(limit) >> np.uint64(32)).astype(np.int64)

    def between(self, low: int, high: int) -> int:
        """Returns an integer from ``low`` to ``high``, both included."""
        return low + int(self.below(high - low + 1)[0])


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene.

    Attributes:
        pixels: uint8 (SIDE, SIDE, 3).
        numbers: uint8 (SIDE, SIDE), of the garment at each pixel, from 1; 0: background.
        labels: uint8 (n,), of the garments.
    """

    pixels: NDArray[np.uint8]
    numbers: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def compose(
    garments: NDArray[np.uint8], labels: NDArray[np.int64], seed: int, number: int
) -> Scene:
    """Returns a scene.

    Args:
        garments: uint8 (N, 28, 28), to choose from.
        labels: (N,), their classes.
        seed: of all scenes.
        number: of this scene.
    """
    draws = _Draws(seed, number)
    pixels = _smooth_noise(draws)
    numbers = np.zeros((SIDE, SIDE), np.uint8)
    full: list[int] = []  # pixels of each garment, hidden ones included
    chosen: list[int] = []
    for _ in range(draws.between(*GARMENTS)):
        which = int(draws.below(len(garments))[0])
        tint = 80 + draws.below(176, 3)  # (3,)
        flip = bool(draws.below(2)[0])
        grey, solid = _cut_out(garments[which], flip)
        for _ in range(TRIES):
            size = draws.between(*SIZES)
            longer = max(grey.shape)
            height, width = (max(1, round_half_up(side * size, longer)) for side in grey.shape)
            top, left = draws.between(0, SIDE - height), draws.between(0, SIDE - width)
            mask = _resize(solid, height, width) >= 128
            place = (slice(top, top + height), slice(left, left + width))
            after = numbers[place].copy()
            after[mask] = len(chosen) + 1
            if _is_hidden(numbers, place, after, full):
                continue
            numbers[place] = after
            shaded = 48 + _resize(grey, height, width) * 207 // 255  # no garment is black
            pixels[place][mask] = shaded[mask][:, None] * tint // 255
            full.append(int(mask.sum()))
            chosen.append(int(labels[which]))
            break
    return Scene(pixels.astype(np.uint8), numbers, np.array(chosen, np.uint8))


def _is_hidden(
    numbers: NDArray[np.uint8],
    place: tuple[slice, slice],
    after: NDArray[np.uint8],
    full: Sequence[int],
) -> bool:
    """Returns whether a new garment would cover too much of an earlier one."""
    count = len(full) + 1
    here = np.bincount(numbers[place].ravel(), minlength=count)
    then = np.bincount(after.ravel(), minlength=count)
    visible = np.bincount(numbers.ravel(), minlength=count)
    return any(
        visible[k] - here[k] + then[k] < (1 - HIDDEN) * full[k - 1]
        for k in (np.flatnonzero(here[1:count] != then[1:count]) + 1).tolist()
    )


def _cut_out(garment: NDArray[np.uint8], flip: bool) -> tuple[NDArray[np.int32], ...]:
    """Returns the part of an image that has the garment, and where it is: 255, else 0."""
    painted = garment >= PAINTED
    padded = np.pad(painted.astype(np.uint8), 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]  # painted pixels of the 3 x 3
    painted |= around >= 7  # single holes are filled
    x0, y0, x1, y1 = boxes_of(painted[None].astype(np.uint8))[0].astype(int)
    step = -1 if flip else 1
    grey, solid = (x[y0:y1, x0:x1][:, ::step] for x in (garment, painted))
    return grey.astype(np.int32), solid.astype(np.int32) * 255


def _smooth_noise(draws: _Draws) -> NDArray[np.int32]:
    """Returns a background (SIDE, SIDE, 3): a coarse and a finer noise, interpolated."""
    total = np.full((SIDE, SIDE, 3), 64, np.int32)
    for cells, height in ((4, 104), (12, 32)):
        grid = draws.below(height, cells * cells * 3).reshape(cells, cells, 3).astype(np.int32)
        total += _resize(grid, SIDE, SIDE)
    return total


def _resize(x: NDArray[np.int32], height: int, width: int) -> NDArray[np.int32]:
    """Returns integers (h, w, ...) interpolated to (height, width, ...), in integers."""
    for axis, length in ((0, height), (1, width)):
        old = x.shape[axis]
        # Centres of pixels, in 1 / 2**BITS of an old pixel.
        at = ((2 * np.arange(length) + 1) * old << BITS) // (2 * length) - (1 << BITS - 1)
        at = at.clip(0, (old - 1) << BITS)
        low = at >> BITS
        part = (at & (1 << BITS) - 1).astype(np.int32).reshape((-1, *(1,) * (x.ndim - 1)))
        moved = np.moveaxis(x, axis, 0)
        first, second = moved[low], moved[np.minimum(low + 1, old - 1)]
        moved = first + ((second - first) * part + (1 << BITS - 1) >> BITS)
        x = np.moveaxis(moved, 0, axis)
    return x


def round_half_up(numerator: int, denominator: int) -> int:
    """Returns the nearest integer to a fraction."""
    return (2 * numerator + denominator) // (2 * denominator)


@dataclasses.dataclass(frozen=True)
class _Scenes:
    """Scenes that are composed when they are first needed, and kept in memory.

    Attributes:
        garments: uint8 (N, 28, 28), of which they are composed.
        garment_labels: (N,), their classes.
        count: number of scenes.
        seed: of the scenes.
        first: number of the first scene.
    """

    garments: NDArray[np.uint8]
    garment_labels: NDArray[np.int64]
    count: int
    seed: int
    first: int = 0

    def __len__(self) -> int:
        return self.count

    @functools.cached_property
    def scenes(self) -> Sequence[Scene]:
        """All scenes."""
        return [
            compose(self.garments, self.garment_labels, self.seed, self.first + number)
            for number in range(self.count)
        ]

    def path(self, index: int) -> str:
        """Returns a scene's name."""
        return f"scene {index}"

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Returns a scene (SIDE, SIDE, 3)."""
        return self.scenes[index].pixels


class SceneObjects(_Scenes):
    """Scenes with a box, a mask and a class for each garment."""

    def target(self, index: int) -> Objects:
        """Returns the garments of a scene; a box encloses the visible part."""
        scene = self.scenes[index]
        numbers = np.arange(1, len(scene.labels) + 1, dtype=np.uint8)
        masks = (scene.numbers == numbers[:, None, None]).astype(np.uint8)
        labels = scene.labels.astype(np.int64)
        return Objects(boxes_of(masks), labels, masks, np.empty((0, 4), np.float32))

    def truth(self) -> dict[str, Any]:
        """Returns all garments in COCO's format."""
        return coco_format((self.target(i) for i in range(len(self))), CLASSES)


class SceneLabels(_Scenes):
    """Scenes with a class for each pixel: 0 is the background, the garments follow."""

    def target(self, index: int) -> NDArray[np.uint8]:
        """Returns the classes of a scene's pixels (SIDE, SIDE)."""
        scene = self.scenes[index]
        return np.concatenate([np.zeros(1, np.uint8), scene.labels + np.uint8(1)])[scene.numbers]


Scenes = TypeVar("Scenes", SceneObjects, SceneLabels)


def scenes_with_objects(
    train: int = TRAIN, val: int = VAL, seed: int = 0
) -> DenseImages[SceneObjects]:
    """Returns scenes for detection, of 10 classes.

    Args:
        train: number of training scenes.
        val: number of validation scenes.
        seed: other scenes for another seed.
    """
    return _dataset(SceneObjects, CLASSES, train, val, seed)


def scenes_with_labels(
    train: int = TRAIN, val: int = VAL, seed: int = 0
) -> DenseImages[SceneLabels]:
    """Returns the same scenes for segmentation, of 11 classes; see :func:`scenes_with_objects`."""
    return _dataset(SceneLabels, ("background", *CLASSES), train, val, seed)


def _dataset(
    kind: type[Scenes], classes: tuple[str, ...], train: int, val: int, seed: int
) -> DenseImages[Scenes]:
    garments = read_fashion_mnist("embedded")
    key = f"{VERSION} {seed} {garments.digest}"
    return DenseImages(
        name="scenes",
        source="scenes of the embedded garments",
        train=kind(garments.train[:, 0], garments.train_labels, train, seed),
        val=kind(garments.val[:, 0], garments.val_labels, val, seed, FIRST_VAL),
        classes=classes,
        digest=digest_of(key.encode()),
        mean=MEAN,
        std=STD,
    )
