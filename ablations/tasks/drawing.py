"""What pictures of all tasks have in common: colours, texts, sizes, images as text. No torch."""

from __future__ import annotations

import base64
import functools
import importlib.util
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from modernize.text import one_line, visible

if TYPE_CHECKING:
    from numpy.typing import NDArray

Color: TypeAlias = tuple[int, int, int]
Rectangle: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the last ones outside."""

# Chosen one after the other, each as far as possible from those before it, also as readers with a
# colour blindness see them.
HUES = (
    "#5ab4f0", "#b42d00", "#f0e11e", "#694bc3", "#ff8787", "#00ffe1", "#a58700", "#008796",
    "#9678f0", "#a5c300", "#c3d2a5", "#d24b78", "#c396c3", "#a5d2ff", "#4bb45a", "#00784b",
    "#d269c3", "#a52d78", "#a5f087", "#5ad2d2", "#87b496", "#5a69a5", "#f0b469", "#965ac3",
)  # fmt: skip
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
SMALLEST_TEXT = 13  # pixels
MOST_PIXELS = 4096  # of a side of an image that is read from text
WEBP = {"quality": 90, "method": 6}


def color_of(label: int) -> Color:
    """Returns the colour of a class; after 24 classes, darker and lighter ones follow."""
    turn, number = divmod(label, len(HUES))
    hue = HUES[number]
    red, green, blue = (int(hue[i : i + 2], 16) for i in (1, 3, 5))
    other, kept = 255 * (turn % 2 == 0), 0.65 ** -(-turn // 2)  # towards black, white, black ...
    mixed = [round(other + (part - other) * kept) for part in (red, green, blue)]
    return mixed[0], mixed[1], mixed[2]


def name_of(label: int, classes: Sequence[str]) -> str:
    """Returns the name of a class as visible text; its number if it has no name."""
    return visible(one_line(classes[label])) if label < len(classes) else str(label)


def scaled(pixels: NDArray[np.uint8], longer: int) -> Image.Image:
    """Returns an image (H, W, 3) with this longer side in pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = longer / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def line_width(image: Image.Image) -> int:
    """Returns the width of lines in pixels."""
    return max(2, round(max(image.size) / 320))


class Chips:
    """Short texts on coloured rectangles, which do not cover each other if there is room."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.draw = image, ImageDraw.Draw(image)
        self.font = font(max(SMALLEST_TEXT, round(max(image.size) / 46)))
        self.taken: list[Rectangle] = []

    def size(self, text: str) -> tuple[int, int]:
        """Returns width and height of a text's rectangle."""
        ascent, descent = self.font.getmetrics()
        return math.ceil(self.font.getlength(text)) + 5, ascent + descent + 1

    def put(self, text: str, color: Color, places: Sequence[tuple[float, float]]) -> None:
        """Draws a text at the first of these top left corners where it covers no other text."""
        width, height = self.size(text)
        found: list[Rectangle] = []
        for x, y in places:
            left = min(max(round(x), 0), max(self.image.width - width, 0))
            top = min(max(round(y), 0), max(self.image.height - height, 0))
            found.append((left, top, left + width, top + height))
        free = (box for box in found if not any(_overlap(box, other) for other in self.taken))
        left, top, right, bottom = box = next(free, found[0])
        self.taken.append(box)
        self.draw.rectangle((left, top, right - 1, bottom - 1), fill=color)
        self.draw.text((left + 3, top), text, fill=contrast(color), font=self.font)


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def contrast(color: Color) -> Color:
    """Returns black or white, whichever is read better on a colour."""
    red, green, blue = ((part / 255) ** 2.2 for part in color)
    return BLACK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.24 else WHITE


def with_legend(image: Image.Image, entries: Sequence[tuple[Color, str]]) -> Image.Image:
    """Returns an image with colours and their meaning to the right, in one or more columns."""
    letters = font(max(SMALLEST_TEXT, round(max(image.size) / 46)))
    ascent, descent = letters.getmetrics()
    step = round(1.5 * (ascent + descent))
    rows = max(1, image.height // step)
    columns = [entries[at : at + rows] for at in range(0, len(entries), rows)]
    widths = [
        math.ceil(max(letters.getlength(text) for _, text in column)) + 3 * step
        for column in columns
    ]
    height = max(image.height, step)
    whole = Image.new("RGB", (image.width + sum(widths), height), WHITE)
    whole.paste(image, (0, 0))
    draw = ImageDraw.Draw(whole)
    left = image.width
    for column, width in zip(columns, widths, strict=True):
        for row, (color, text) in enumerate(column):
            x, y = left + step, row * step + step // 4
            draw.rectangle((x, y, x + ascent, y + ascent), fill=color, outline=(90, 90, 90))
            draw.text((x + ascent + 6, y - descent // 2), text, fill=BLACK, font=letters)
        left += width
    return whole


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Returns the font that comes with matplotlib, in a size in pixels."""
    found = importlib.util.find_spec("matplotlib")
    folder = Path(found.origin).parent if found and found.origin else Path()
    return ImageFont.truetype(folder / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)


def png(image: Image.Image) -> bytes:
    """Returns the content of an image file without loss."""
    return _file(image, "PNG")


def webp(image: Image.Image) -> bytes:
    """Returns the content of a small image file."""
    return _file(image, "WEBP", **WEBP)


def _file(image: Image.Image, kind: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def to_text(content: bytes) -> str:
    """Returns Base64."""
    return base64.b64encode(content).decode()


def from_text(text: str, mode: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Returns the pixels of an image that :func:`to_text` wrote: (H, W) or (H, W, 3).

    Args:
        text: Base64.
        mode: of Pillow: L or RGB.
        size: the expected width and height; None: up to :data:`MOST_PIXELS` to a side.

    Raises:
        ValueError: for anything else.
    """
    try:
        content = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(content), formats=["PNG", "WEBP"]) as image:
            if (size and image.size != size) or max(image.size) > MOST_PIXELS:
                raise ValueError(f"an image has {image.width} x {image.height} pixels")
            pixels: NDArray[np.uint8] = np.asarray(image.convert(mode))
    except (OSError, SyntaxError, TypeError) as error:
        raise ValueError("an image cannot be read") from error
    return pixels
