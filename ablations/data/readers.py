"""Readers return images by number; worker processes get copies. Does not import torch."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from ablations.data.decoding import decode, decode_image
from modernize.files import open_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Reader(Protocol):
    """Reads the images of a split."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def path(self, index: int) -> str:
        """Returns where an image is, for messages."""

    def contents(self, index: int) -> bytes:
        """Returns the bytes of an image, for a digest; may raise anything."""

    def __call__(self, index: int) -> Image.Image:
        """Returns an image; may raise anything."""


@dataclasses.dataclass(frozen=True)
class FileReader:
    """Reads images from files; raises the errors of Pillow."""

    root: Path
    paths: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        """Returns the path of an image."""
        return os.path.join(self.root, os.fsdecode(self.paths[index]))  # noqa: PTH118  # speed

    def contents(self, index: int) -> bytes:
        """Returns the content of the file."""
        with open_regular(self.path(index)) as file:
            return file.read()

    def __call__(self, index: int) -> Image.Image:
        """Returns an image."""
        return decode_image(self.path(index))


@dataclasses.dataclass(frozen=True)
class ArrayReader:
    """Reads images from an array, uint8 (N, C, H, W)."""

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def path(self, index: int) -> str:
        """Returns an image's name."""
        return f"image {index}"

    def contents(self, index: int) -> bytes:
        """Returns the pixels."""
        return bytes(self.pixels[index])

    def __call__(self, index: int) -> Image.Image:
        """Returns an image."""
        pixels = self.pixels[index]
        return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def decode_bytes(content: bytes) -> Image.Image:
    """Returns the image in the content of a file, as RGB; raises the errors of Pillow."""
    return decode(io.BytesIO(content))
