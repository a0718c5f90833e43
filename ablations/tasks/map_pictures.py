"""A class for each pixel: in a file, as a picture and as rows of a table. Does not import torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from PIL import Image

from ablations.data.dense.splits import IGNORED
from ablations.tasks import drawing
from ablations.units import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPACITY = 0.65  # of the colours on the grey image
IGNORED_COLOR = (40, 40, 40)
SMALLEST_REGION = 0.008  # of the pixels; smaller regions have no name in the picture


@dataclasses.dataclass(frozen=True)
class ShownMap:
    """The classes of an image's pixels.

    Attributes:
        labels: uint8 (H, W), from 0; 255: not labelled.
    """

    labels: NDArray[np.uint8]
    note: ClassVar[str] = "Each class has a colour; large regions have its name."

    def above(self, score: float) -> Self:  # noqa: ARG002
        """Returns itself: classes of pixels have no scores."""
        return self

    def resized(self, width: int, height: int) -> Self:
        """Returns the classes of the resized image."""
        image = Image.fromarray(self.labels).resize((width, height), Image.Resampling.NEAREST)
        return type(self)(np.asarray(image))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"map": drawing.to_text(drawing.png(Image.fromarray(self.labels)))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], width: int, height: int) -> Self:
        """Returns the classes of an image's pixels from the values of :meth:`to_dict`.

        Raises:
            ValueError: for any other values.
        """
        return cls(drawing.from_text(values.get("map", ""), "L", (width, height)))

    def draw(self, pixels: NDArray[np.uint8], classes: Sequence[str], longer: int) -> Image.Image:
        """Returns the image (H, W, 3), grey, with this longer side, and each class in its colour.

        Large regions have the name of their class.
        """
        grey = drawing.scaled(pixels, longer).convert("L").convert("RGB")
        labels = self.resized(*grey.size).labels
        table = np.array([_color(label) for label in range(256)], np.uint8)
        image = Image.blend(grey, Image.fromarray(table[labels]), OPACITY)
        chips = drawing.Chips(image)
        for label, x, y in _regions(labels):
            text = drawing.name_of(label, classes)
            width, height = chips.size(text)
            chips.put(text, _color(label), [(x - width / 2, y - height / 2)])
        return image

    def shares(self, classes: Sequence[str]) -> list[tuple[int, str, float]]:
        """Returns label, name and share of the pixels of each class, the largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=256)
        order = [label for label in np.argsort(-counts, kind="stable").tolist() if counts[label]]
        names = {IGNORED: "not labelled"}
        return [
            (label, names.get(label) or drawing.name_of(label, classes),
             float(counts[label]) / self.labels.size)
            for label in order
        ]  # fmt: skip

    def with_legend(self, image: Image.Image, classes: Sequence[str]) -> Image.Image:
        """Returns a picture of :meth:`draw` with the colours of the classes and their shares."""
        entries = [
            (_color(label), f"{name} {percent(100 * share, 1)}")
            for label, name, share in self.shares(classes)
        ]
        return drawing.with_legend(image, entries)

    def describe(self, classes: Sequence[str]) -> str:
        """Returns the classes and their shares as text."""
        return ", ".join(f"{name} {percent(100 * s, 0)}" for _, name, s in self.shares(classes))

    def rows(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Returns a row for each class: its share of the pixels in percent."""
        return [
            {"class": name, "pixels (%)": round(100 * share, 2)}
            for _, name, share in self.shares(classes)
        ]


def _color(label: int) -> drawing.Color:
    return IGNORED_COLOR if label == IGNORED else drawing.color_of(label)


def _regions(labels: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Returns label and innermost pixel x, y of each large region of one class, largest first."""
    from scipy import ndimage

    found = []
    for label in np.unique(labels).tolist():
        parts, _ = ndimage.label(labels == label)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        for part in np.flatnonzero(sizes >= SMALLEST_REGION * labels.size).tolist():
            inside = np.pad(parts == part, 1)
            depth = ndimage.distance_transform_cdt(inside)[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            found.append((int(sizes[part]), label, int(x), int(y)))
    return [place for _, *place in sorted(found, key=lambda each: -each[0])]  # type: ignore[misc]
