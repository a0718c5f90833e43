"""How images with objects or label maps are resized, cropped, flipped and distorted.

A transform is called with an image uint8 (H, W, 3), its target, and random numbers for this image
alone; it returns both, changed together. Images are resized bilinearly without antialiasing, as
OpenCV does by default, masks and label maps to the nearest pixel.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ablations.data.dense.splits import IGNORED, Objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")
DETR_SIZES = tuple(range(480, 801, 32))
CROP_TRIES = 10


class DenseTransform(Protocol[T]):
    """Changes an image and its target together; can be pickled."""

    def __call__(
        self, pixels: NDArray[np.uint8], target: T, rng: random.Random
    ) -> tuple[NDArray[np.uint8], T]:
        """Returns the image and its target; arguments are not changed."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How an image is resized, its ratio of sides kept.

    Attributes:
        shorter: the shorter side in pixels, unless the longer would be larger than
        longer: pixels; None: no limit.
    """

    shorter: int
    longer: int | None = None

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of the resized image."""
        scale = self.shorter / min(height, width)
        if self.longer is not None:
            scale = min(scale, self.longer / max(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


@dataclasses.dataclass(frozen=True)
class DetectionAugmentation:
    """Augmentation for detection: a flip, a random size, and for some images a crop before it.

    Attributes:
        sizes: of the shorter side, one of which is chosen; None: images are not resized.
        longest: pixels of the longer side, at most.
        flip: probability of a horizontal flip.
        crop: probability that the image is first resized to a shorter side of ``crop_sizes``, and
            cropped to ``crop_range``.
        crop_sizes: of the shorter side.
        crop_range: least and most pixels of a crop's sides.

    An object of which a crop leaves no pixel is dropped; all may be dropped.
    """

    sizes: Sequence[int] | None = DETR_SIZES
    longest: int = 1333
    flip: float = 0.5
    crop: float = 0.5
    crop_sizes: Sequence[int] = (400, 500, 600)
    crop_range: tuple[int, int] = (384, 600)

    def __call__(
        self, pixels: NDArray[np.uint8], target: Objects, rng: random.Random
    ) -> tuple[NDArray[np.uint8], Objects]:
        """Returns an augmented image and its objects."""
        if rng.random() < self.flip:
            pixels, target = flip_objects(pixels, target)
        if self.sizes is None:
            return pixels, target
        if rng.random() < self.crop:
            pixels, target = resize_objects(pixels, target, Size(rng.choice(self.crop_sizes)))
            low, high = self.crop_range
            height, width = (
                rng.randint(min(side, low), min(side, high)) for side in pixels.shape[:2]
            )
            top, left = _place(rng, pixels, height, width)
            pixels, target = crop_objects(pixels, target, top, left, height, width)
        return resize_objects(pixels, target, Size(rng.choice(self.sizes), self.longest))


@dataclasses.dataclass(frozen=True)
class SegmentationAugmentation:
    """Augmentation for segmentation: a random size, a crop, a flip and other colours.

    Attributes:
        size: that the image is resized to, times a random ratio.
        ratios: least and most of that ratio.
        crop: height and width of the crop in pixels; a smaller image is padded.
        most: the largest part of a crop that one class may fill; after ten tries any crop is used.
        flip: probability of a horizontal flip.
        distort: whether brightness, contrast, saturation and hue change at random.
    """

    size: Size = Size(512, 2048)
    ratios: tuple[float, float] = (0.5, 2.0)
    crop: int = 512
    most: float = 0.75
    flip: float = 0.5
    distort: bool = True

    def __call__(
        self, pixels: NDArray[np.uint8], target: NDArray[np.uint8], rng: random.Random
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Returns an augmented image and its label map, both (crop, crop)."""
        ratio = rng.uniform(*self.ratios)
        longer = None if self.size.longer is None else max(1, int(self.size.longer * ratio))
        height, width = Size(max(1, int(self.size.shorter * ratio)), longer).of(*target.shape)
        pixels = resize_pixels(pixels, height, width)
        target = resize_nearest(target[None], height, width)[0]
        for _ in range(CROP_TRIES):
            top, left = _place(rng, pixels, self.crop, self.crop)
            part = target[top : top + self.crop, left : left + self.crop]
            counts = np.bincount(part.ravel(), minlength=IGNORED + 1)[:IGNORED]
            mixed = (counts > 0).sum() > 1 and counts.max() < self.most * counts.sum()
            if mixed or part.shape == target.shape:  # the crop is the whole image
                break
        pixels, target = pixels[top : top + self.crop, left : left + self.crop], part
        if rng.random() < self.flip:
            pixels, target = pixels[:, ::-1], target[:, ::-1]
        if self.distort:
            pixels = distort_colours(pixels, rng)
        rows, columns = (self.crop - side for side in target.shape)
        # Zeros after normalisation are expected; see the loader, which pads images.
        return pixels, np.pad(target, ((0, rows), (0, columns)), constant_values=IGNORED)


@dataclasses.dataclass(frozen=True)
class Resize:
    """Resizes an image for the test of a detector; its objects are not needed.

    Attributes:
        size: of the resized image; None: it is not resized.
    """

    size: Size | None = Size(800, 1333)

    def __call__(
        self,
        pixels: NDArray[np.uint8],
        target: T,
        rng: random.Random,  # noqa: ARG002  # of the protocol
    ) -> tuple[NDArray[np.uint8], T]:
        """Returns the resized image, and the target as it is."""
        if self.size is None:
            return pixels, target
        return resize_pixels(pixels, *self.size.of(*pixels.shape[:2])), target


def _place(
    rng: random.Random, pixels: NDArray[np.uint8], height: int, width: int
) -> tuple[int, int]:
    """Returns top and left of a random crop; 0 where the image is smaller."""
    top = rng.randint(0, max(pixels.shape[0] - height, 0))
    return top, rng.randint(0, max(pixels.shape[1] - width, 0))


def flip_objects(pixels: NDArray[np.uint8], objects: Objects) -> tuple[NDArray[np.uint8], Objects]:
    """Returns an image and its objects, mirrored horizontally."""
    width = pixels.shape[1]
    boxes, ignored = (
        np.stack([width - b[:, 2], b[:, 1], width - b[:, 0], b[:, 3]], 1)
        for b in (objects.boxes, objects.ignored)
    )
    masks = objects.masks[:, :, ::-1]
    return pixels[:, ::-1], Objects(boxes, objects.labels, masks, ignored)


def resize_objects(
    pixels: NDArray[np.uint8], objects: Objects, size: Size
) -> tuple[NDArray[np.uint8], Objects]:
    """Returns an image and its objects, resized; boxes are scaled, and end at its border."""
    height, width = size.of(*pixels.shape[:2])
    if (height, width) == pixels.shape[:2]:
        return pixels, objects
    x, y = width / pixels.shape[1], height / pixels.shape[0]
    scale, limit = np.array([x, y, x, y]), np.array([width, height, width, height])
    boxes, ignored = (
        np.minimum(b * scale, limit).astype(np.float32) for b in (objects.boxes, objects.ignored)
    )
    masks = resize_nearest(objects.masks, height, width)
    return resize_pixels(pixels, height, width), Objects(boxes, objects.labels, masks, ignored)


def crop_objects(
    pixels: NDArray[np.uint8], objects: Objects, top: int, left: int, height: int, width: int
) -> tuple[NDArray[np.uint8], Objects]:
    """Returns a crop of an image and the objects of which it has a pixel."""
    corner, limit = np.array([left, top, left, top]), np.array([width, height, width, height])
    boxes, ignored = (
        np.clip(b - corner, 0, limit).astype(np.float32) for b in (objects.boxes, objects.ignored)
    )
    rows, columns = slice(top, top + height), slice(left, left + width)
    masks = objects.masks[:, rows, columns]
    kept = Objects(boxes, objects.labels, masks, ignored[_has_area(ignored)])
    return pixels[rows, columns], kept.keep(masks.any((1, 2)) & _has_area(boxes))


def _has_area(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return found


def resize_pixels(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Returns an image (H, W, C), resized bilinearly without antialiasing."""
    if (height, width) == pixels.shape[:2]:
        return pixels
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
    resized: NDArray[np.uint8] = x[0].permute(1, 2, 0).numpy()
    return resized


def resize_nearest(maps: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Returns maps (N, H, W), resized: each pixel is that at its centre."""
    if (height, width) == maps.shape[1:]:
        return maps
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(maps.shape[1:], (height, width), strict=True)
    )
    return maps[:, rows[:, None], columns]


def distort_colours(pixels: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """Returns an image with another brightness, contrast, saturation and hue, each half the time.

    Contrast changes before or after saturation and hue. The hue moves by at most 36 degrees.
    """
    values = np.arange(256)
    if rng.random() < 0.5:
        values = _bytes(values + rng.uniform(-32, 32))
    early = rng.random() < 0.5
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    if early:
        values = _bytes(values * contrast)
    pixels = values.astype(np.uint8)[pixels]
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    hue = rng.randint(-18, 17) * 256 / 180 if rng.random() < 0.5 else 0.0
    if saturation != 1 or hue:
        hsv = np.array(Image.fromarray(np.ascontiguousarray(pixels)).convert("HSV"))
        turned = (np.arange(256) + hue).astype(np.int64) % 256
        stronger = _bytes(np.arange(256) * saturation)
        for channel, table in enumerate((turned, stronger)):
            hsv[..., channel] = table.astype(np.uint8)[hsv[..., channel]]
        width, height = hsv.shape[1::-1]
        pixels = np.asarray(Image.frombytes("HSV", (width, height), hsv.tobytes()).convert("RGB"))
    return pixels if early else _bytes(np.arange(256) * contrast).astype(np.uint8)[pixels]


def _bytes(values: NDArray[Any]) -> NDArray[np.int64]:
    return values.clip(0, 255).astype(np.int64)
