"""Image files of data sets with objects or label maps: identity, sizes, pixels. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ablations.data.decoding import FORMATS, decode_image, explain
from ablations.data.directory import NO_FILE, File
from ablations.data.images import evenly_spaced
from modernize.files import open_regular
from modernize.text import few, plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKED = 200  # images of a split, evenly spaced, that are opened before training


def read_pixels(path: str) -> NDArray[np.uint8]:
    """Returns an image (H, W, 3); raises the errors of :func:`~ablations.data.decoding.decode`."""
    return np.array(decode_image(path))  # may be written, as torch requires


def image_size(path: Path) -> tuple[int, int]:
    """Returns height and width of an image, of which only the beginning is read.

    Raises:
        OSError: if it cannot be read, or is no image.
    """
    with open_regular(str(path)) as file, Image.open(file, formats=FORMATS) as image:
        return image.height, image.width


def faults_of(count: int, check: Callable[[int], object], where: str) -> list[str]:
    """Returns a fault that names the images that a check refuses, or nothing.

    Args:
        count: of the images, of which at most :data:`CHECKED` are checked.
        check: raises OSError or ValueError.
        where: the folder of the images.
    """
    found = []
    for number in evenly_spaced(count, CHECKED).tolist():
        try:
            check(number)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow's, for a broken PNG
            found.append(explain(error))
    if not found:
        return []
    return [f"{plural(len(found), 'image')} of those checked in {where}: {few(found, 3)}"]


def missing_faults(files: Iterable[File], where: str) -> list[str]:
    """Returns a fault that names the files that are missing or empty, or nothing."""
    bad = [os.fsdecode(file.path) for file in files if file.size in (NO_FILE, 0)]
    return [f"{plural(len(bad), 'missing or empty file')} in {where}: {few(bad)}"] if bad else []


def identify(files: Iterable[File], *others: bytes) -> tuple[str, str, str]:
    """Returns digests of names and sizes and of modification times, and the newest file.

    Args:
        files: all images and label maps.
        others: contents that belong to the identity, or their digests.
    """
    digest, times = hashlib.sha256(), hashlib.sha256()
    for other in others:
        digest.update(other)
    newest = File(b"", 0, -1)
    for file in files:
        digest.update(b"%s\0%d\n" % (file.path, file.size))
        times.update(b"%s\0%d\n" % (file.path, file.time))
        newest = max(newest, file, key=lambda one: one.time)
    return digest.hexdigest()[:16], times.hexdigest()[:16], os.fsdecode(newest.path)
