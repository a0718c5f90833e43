"""Small folders in the layouts of ImageNet-C, -C-bar, -A, -R and -Sketch, and weights for them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ablations.robustness.sets import KINDS, class_names, groups
from modernize import build
from modernize.weights import to_state_dict

SIDE = 64
CLASSES = ("n01440764", "n02007558", "n15075141")


def picture(*seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Smooth noise, different for each seed, with a colour that the last number decides."""
    pixels = np.random.default_rng(seed).integers(0, 128, (5, 5, 3), dtype=np.uint8)
    pixels += np.random.default_rng(seed[-1]).integers(0, 128, 3, dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def fill(
    folder: Path,
    *seed: int,
    classes: Sequence[str] = CLASSES,
    name: str = "1.png",
    size: tuple[int, int] = (SIDE, SIDE),
) -> None:
    """Writes an image of each class; a class has one colour."""
    for number, wnid in enumerate(classes):
        (folder / wnid).mkdir(parents=True, exist_ok=True)
        picture(*seed, number, size=size).save(folder / wnid / name)


def corrupted(root: Path, kind: str, *, grouped: bool = False, parameters: bool = False) -> Path:
    """Writes a corrupted set; ``grouped``: below noise/, blur/ ...; or named by parameters."""
    for number, (name, severities) in enumerate(KINDS[kind].corruptions.items()):
        above = root / groups()[name] if grouped else root
        for severity, names in enumerate(severities, start=1):
            fill(above / name / (names[0] if parameters else str(severity)), number, severity)
    return root


def shifted(root: Path, subset: str) -> Path:
    """Writes ImageNet-A or -R: an image in each of its 200 classes."""
    fill(root, len(subset), ord(subset[-1]), classes=tuple(class_names(subset)))
    return root


def weights(path: Path, classes: int = 1000) -> Path:
    """Writes a small ConvNeXt in the official layout; it has some classes that it prefers."""
    torch.manual_seed(0)
    network = build("downsample", "nano", num_classes=classes)
    with torch.no_grad():
        network.head.weight.mul_(40)
    torch.save({"model": to_state_dict(network, "official")}, path)
    return path


def every_image(folder: Path) -> Iterator[tuple[str, Path]]:
    """The class and the path of each image."""
    for path in sorted(folder.rglob("*.png")):
        yield path.parent.name, path
