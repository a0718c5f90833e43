"""Objects of an image: in a file, as a picture and as rows of a table. Does not import torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ablations.metrics import SHOWN_SCORE
from ablations.tasks import drawing
from ablations.units import fixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPACITY = 0.45  # of a mask


@dataclasses.dataclass(frozen=True)
class ShownObjects:
    """Objects, the best ones first.

    Attributes:
        boxes: float (N, 4), x0 y0 x1 y1 in pixels of the image.
        labels: int (N,), from 0.
        masks: uint8 (N, H, W), 0 or 1.
        scores: (N,), from 0 to 1; None: the objects are true.
    """

    boxes: NDArray[Any]
    labels: NDArray[Any]
    masks: NDArray[np.uint8]
    scores: NDArray[Any] | None = None
    note: ClassVar[str] = f"Detections with a score below {SHOWN_SCORE} are not shown."

    def above(self, score: float) -> Self:
        """Returns the objects with at least this score."""
        if self.scores is None:
            return self
        kept = self.scores >= score
        parts = self.boxes[kept], self.labels[kept], self.masks[kept], self.scores[kept]
        return type(self)(*parts)

    def resized(self, width: int, height: int) -> Self:
        """Returns the objects of the resized image."""
        old_height, old_width = self.masks.shape[1:]
        x, y = width / old_width, height / old_height
        masks = [np.asarray(_resize(mask, width, height)) >= 128 for mask in self.masks]
        stacked = np.array(masks, np.uint8).reshape(-1, height, width)
        return dataclasses.replace(self, boxes=self.boxes * [x, y, x, y], masks=stacked)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        scores = {} if self.scores is None else {"scores": self.scores.round(3).tolist()}
        return {
            "boxes": self.boxes.astype(float).round(1).tolist(),
            "labels": self.labels.tolist(),
            "masks": [
                drawing.to_text(drawing.png(Image.fromarray(255 * mask).convert("1")))
                for mask in self.masks
            ],
            **scores,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], width: int, height: int) -> Self:
        """Returns the objects of an image from the values of :meth:`to_dict`.

        Raises:
            ValueError: for any other values.
        """
        try:
            boxes = np.array(values["boxes"], float).reshape(-1, 4)
            labels = np.array(values["labels"], int).reshape(-1)
            scores = np.array(values["scores"], float) if "scores" in values else None
            masks = [drawing.from_text(m, "L", (width, height)) >= 128 for m in values["masks"]]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"objects are described incorrectly ({error!r})") from error
        counts = {len(boxes), len(labels), len(masks), len(labels if scores is None else scores)}
        if len(counts) > 1 or not np.isfinite(boxes).all() or (labels < 0).any():
            raise ValueError("objects are described incorrectly")
        return cls(boxes, labels, np.array(masks, np.uint8).reshape(-1, height, width), scores)

    def draw(self, pixels: NDArray[np.uint8], classes: Sequence[str], longer: int) -> Image.Image:
        """Returns the image (H, W, 3) with this longer side, with masks, boxes, classes, scores."""
        image = drawing.scaled(pixels, longer)
        x, y = image.width / pixels.shape[1], image.height / pixels.shape[0]
        colors = [drawing.color_of(label) for label in self.labels.tolist()]
        worst_first = range(len(colors))[::-1]
        for number in worst_first:
            inside = _resize(self.masks[number], *image.size).point(lambda v: 255 * (v >= 128))
            image.paste(colors[number], mask=inside.point(lambda v: round(OPACITY * v)))
            core = inside.filter(ImageFilter.MinFilter(3))
            image.paste(
                colors[number], mask=Image.composite(Image.new("L", image.size), inside, core)
            )
        draw, width = ImageDraw.Draw(image), drawing.line_width(image)
        corners = (self.boxes * [x, y, x, y]).round().astype(int).tolist()
        for number in worst_first:
            x0, y0, x1, y1 = corners[number]
            box = x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)
            draw.rectangle(box, outline=colors[number], width=width)
        chips = drawing.Chips(image)
        for number, (x0, y0, x1, y1) in enumerate(corners):
            text = self.text(number, classes)
            across, high = chips.size(text)
            left, right = x0, x1 - across
            rows = (y0 - high, y1, y0, y1 - high, y0 - 2 * high, y1 + high)
            places = [(column, row) for row in rows for column in (left, right)]
            chips.put(text, colors[number], places)
        return image

    def with_legend(self, picture: Image.Image, classes: Sequence[str]) -> Image.Image:  # noqa: ARG002
        """Returns the picture: its boxes have the names of their classes."""
        return picture

    def text(self, number: int, classes: Sequence[str]) -> str:
        """Returns class and score of an object."""
        score = "" if self.scores is None else f" {fixed(float(self.scores[number]))}"
        return f"{drawing.name_of(int(self.labels[number]), classes)}{score}"

    def describe(self, classes: Sequence[str]) -> str:
        """Returns all objects as text."""
        return ", ".join(self.text(i, classes) for i in range(len(self.labels))) or "no object"

    def rows(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Returns a row for each object: its class, score and box."""
        return [
            {
                "class": drawing.name_of(int(label), classes),
                "score": None if self.scores is None else round(float(self.scores[number]), 4),
                **dict(
                    zip(("x0", "y0", "x1", "y1"), box.astype(float).round(1).tolist(), strict=True)
                ),
            }
            for number, (label, box) in enumerate(zip(self.labels, self.boxes, strict=True))
        ]


def _resize(mask: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    """Returns a mask (H, W), resized, from 0 to 255."""
    return Image.fromarray(255 * mask).resize((width, height), Image.Resampling.BILINEAR)
