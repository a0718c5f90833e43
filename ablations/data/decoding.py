"""Decodes image files safely, and converts any mode to RGB. Does not import torch.

Only formats that Pillow decodes itself are opened: others start programs (EPS starts
Ghostscript). Only regular files are opened: a pipe or a device may never end. The first frame of
an animation is read. The orientation in EXIF is ignored, as torchvision ignores it.
"""

from __future__ import annotations

import warnings
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from modernize.files import open_regular

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
BACKGROUND = (255, 255, 255)  # white, on which a transparent image is shown
MAX_RATIO = 1000  # of the sides; resizing a thinner image by its shorter side could fill memory


def decode_image(path: str) -> Image.Image:
    """Returns the image in a file, as RGB.

    Raises:
        OSError: if the file is not regular, cannot be read, is no image of :data:`FORMATS`, or is
            truncated.
        ValueError: for more pixels than Pillow allows. A decoder may raise other errors, too.
    """
    with open_regular(path) as file:
        return decode(file)


def decode(file: IO[bytes]) -> Image.Image:
    """Returns the image in an open file, as RGB; raises the errors of :func:`decode_image`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about unusual metadata
        with Image.open(file, formats=FORMATS) as image:
            _check_shape(*image.size)
            image.load()
            return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an image of any mode as RGB; itself if it is RGB already.

    Of 16 bits the upper 8 are kept. Transparent pixels show :data:`BACKGROUND`.

    Raises:
        ValueError: for a mode whose values have no defined black and white.
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"its mode is {image.mode}, which does not say what values are white")
    if image.mode.startswith("I;16"):
        image = _from_16_bits(image)
    if image.has_transparency_data:
        return _on_background(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def explain(error: Exception) -> str:
    """Returns why an image cannot be read, as the end of a sentence."""
    if isinstance(error, UnidentifiedImageError):  # its text repeats the path
        return f"it is no image of the formats {', '.join(FORMATS)}"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _check_shape(width: int, height: int) -> None:
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels are more than {MAX_RATIO} to 1")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Returns a grey image in 8 bits, with transparency where it names a transparent value."""
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    opaque = np.where(values == transparent, 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(opaque)))


def _on_background(image: Image.Image) -> Image.Image:
    # Pillow undoes what is multiplied in (lower-case a) step by step.
    layered = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    canvas = Image.new("RGB", image.size, BACKGROUND)
    canvas.paste(layered, mask=layered.getchannel("A"))
    return canvas
