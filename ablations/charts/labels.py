"""Places the labels of points so that none covers a point or another label.

Lengths are inches from the lower left corner of a panel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

DISTANCES = (0.03, 0.09, 0.16, 0.24, 0.34, 0.46)  # from a point to its label
DIRECTIONS = 16


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle, by its edges."""

    left: float
    low: float
    right: float
    high: float

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> Self:
        """Returns the rectangle of this size with this centre."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def overlap(self, other: Box) -> float:
        """Returns the area that two rectangles share."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.high, other.high) - max(self.low, other.low)
        return max(across, 0.0) * max(up, 0.0)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Returns the point of the rectangle that is nearest to another point."""
        return min(max(x, self.left), self.right), min(max(y, self.low), self.high)

    def far_from(self, x: float, y: float, distance: float) -> bool:
        """Tells whether the whole rectangle is farther than this from a point."""
        return math.dist((x, y), self.nearest(x, y)) > distance


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    radius: float,
    panel: Box,
    obstacles: Sequence[Box] = (),
) -> list[Box]:
    """Returns a place for the label of each point, near it and covering as little as possible.

    Labels of the most crowded points are placed first.

    Args:
        points: their centres.
        sizes: width and height of each label.
        radius: of a point.
        panel: the area for labels.
        obstacles: other areas that labels should not cover.
    """
    dots = [Box.around(x, y, 2 * radius, 2 * radius) for x, y in points]

    def crowd(number: int) -> float:
        return sum(1 / (0.05 + math.dist(points[number], other)) for other in points)

    placed: dict[int, Box] = {}
    for number in sorted(range(len(points)), key=crowd, reverse=True):
        taken = [*dots, *obstacles, *placed.values()]

        def cost(box: Box, taken: Sequence[Box] = taken) -> float:
            area = (box.right - box.left) * (box.high - box.low)
            outside = area - box.overlap(panel)
            return outside + sum(box.overlap(other) for other in taken)

        # min() returns the first of equal candidates, which is the nearest.
        placed[number] = min(_candidates(*points[number], *sizes[number], radius), key=cost)
    return [placed[number] for number in range(len(points))]


def _candidates(x: float, y: float, width: float, height: float, radius: float) -> list[Box]:
    """Returns places around a point, the nearest first, beginning at its right."""
    boxes = []
    for distance in DISTANCES:
        for turn in range(DIRECTIONS):
            angle = math.tau * turn / DIRECTIONS
            reach = radius + distance
            # The near edge of the label is at this distance in each direction.
            middle_x = x + math.cos(angle) * (reach + width / 2)
            middle_y = y + math.sin(angle) * (reach + height / 2)
            boxes.append(Box.around(middle_x, middle_y, width, height))
    return boxes
