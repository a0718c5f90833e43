"""Writes tests/golden/corruptions.npz: images that two other libraries corrupted.

    pip install imagecorruptions-imaug==1.1.5 corrupt-tta==0.1.7
    python tests/benchmarks/reference_corruptions.py

It has one image, its corrupted copies where a corruption is not random, and for random ones the
mean and standard deviation, over many copies, of a copy's mean error, mean and contrast. All are
from imagecorruptions-imaug, except for elastic_transform, which there has another definition: it is
from corrupt-tta.
"""

from pathlib import Path

import corrupt_tta
import imagecorruptions
import numpy as np

FIXED = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
RANDOM = (
    "gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost",
    "fog", "elastic_transform",
)  # fmt: skip
SIZE, COPIES = 64, 200


def draw() -> np.ndarray:
    """Returns a colour image with smooth and sharp parts, black and white."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    waves = [np.sin(9 * x + 4 * y * k) * np.cos(7 * y - 5 * x * k) for k in (1, 2, 3)]
    image = 127 + 90 * np.stack(waves, -1)
    image[(x - 0.6) ** 2 + (y - 0.4) ** 2 < 0.04] = (230, 60, 40)
    image[(x % 0.125 < 0.06) & (y > 0.7)] = 0
    image[:8, :8] = 255
    return image.astype(np.uint8)


def statistics(image: np.ndarray, name: str, severity: int) -> np.ndarray:
    """Returns mean and standard deviation (2, 3) of error, mean and contrast over copies."""
    library = corrupt_tta if name == "elastic_transform" else imagecorruptions
    found = []
    for _ in range(COPIES):
        copy = np.floor(library.corrupt(image, severity=severity, corruption_name=name))
        found.append((np.abs(copy - image.astype(float)).mean(), copy.mean(), copy.std()))
    return np.array([np.mean(found, 0), np.std(found, 0)])


def main() -> None:
    """Writes the file."""
    np.random.seed(0)  # the libraries use this generator
    image = draw()
    arrays = {"image": image}
    for name in FIXED:
        arrays[name] = np.stack(
            [imagecorruptions.corrupt(image, level, corruption_name=name) for level in range(1, 6)]
        )
    for name in RANDOM:
        arrays[name] = np.stack([statistics(image, name, level) for level in range(1, 6)])
    path = Path(__file__).parents[1] / "golden" / "corruptions.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
