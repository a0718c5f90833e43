"""Shapes of objects in COCO's format, polygons or run lengths, as masks. Does not import torch."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORNERS = 3  # of a polygon, at least


def check_shape(shape: Any, size: tuple[int, int]) -> None:
    """Raises ValueError for a segmentation that is neither polygons nor run lengths."""
    if isinstance(shape, list):
        for polygon in shape:
            if not isinstance(polygon, list) or len(polygon) % 2:
                raise ValueError("a polygon of its segmentation is no list of x, y, x, y ...")
            if not all(map(math.isfinite, polygon)):
                raise ValueError("a polygon of its segmentation has a value that is not finite")
        return
    if not isinstance(shape, dict) or not isinstance(shape.get("counts"), str | list):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    if tuple(shape.get("size", ())) != size:
        raise ValueError(
            f"the size of its run lengths is {shape.get('size')}, but the image is {[*size]}"
        )
    runs = run_lengths(shape["counts"])
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError("its run lengths do not add up to the number of pixels")


def valid_shape(shape: Any) -> Any:
    """Returns a segmentation without polygons of fewer than three corners."""
    if isinstance(shape, dict):
        return shape
    return [polygon for polygon in shape if len(polygon) >= 2 * CORNERS]


def decode_shape(shape: Any, height: int, width: int) -> NDArray[np.uint8]:
    """Returns the mask (height, width) of polygons or of run lengths, compressed or not."""
    if isinstance(shape, dict):
        runs = run_lengths(shape["counts"])
        values = np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs)
        return values.reshape((height, width), order="F")
    from pycocotools import mask as coder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, about pycocotools' own code
        code = coder.merge(coder.frPyObjects(shape, height, width))
        mask: NDArray[np.uint8] = coder.decode(code)
    return mask


def run_lengths(counts: str | list[int]) -> list[int]:
    """Returns the numbers of pixels that are 0, 1, 0, ..., from their compressed text.

    Each number is written in groups of five bits, the lowest first, with a sixth bit if more
    follow; from the fourth on, it is the difference to the number two places before. pycocotools
    would fill the rest with undefined values if a text is too short.

    Raises:
        ValueError: if the text ends within a number.
    """
    if isinstance(counts, list):
        return counts
    runs: list[int] = []
    value = shift = 0
    for char in counts:
        bits = ord(char) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:  # negative
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its run lengths are cut off")
    return runs
