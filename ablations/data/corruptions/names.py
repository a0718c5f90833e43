"""Names of the corruptions, their severities and their parameters. Does not import numpy.

The names, their order, their groups and their parameters are those of ImageNet-C and CIFAR-10-C
(Hendrycks and Dietterich 2019, https://github.com/hendrycks/robustness).
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from modernize.errors import UnknownNameError

GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
CORRUPTIONS = tuple(name for names in GROUPS.values() for name in names)
SEVERITIES = (1, 2, 3, 4, 5)

# Name of a table of parameters -> size in pixels of the images that it is made for.
TABLES = {"imagenet": 224, "tiny-imagenet": 64, "cifar": 32}


def table_for(height: int, width: int) -> str:
    """Returns the name of the table of parameters for images of a size in pixels.

    Blurs and displacements are in pixels, and small images have fewer details to lose. So the table
    is the one that is made for the closest size, by ratio, to the shorter side: 32-pixel
    Fashion-MNIST has CIFAR's parameters.
    """
    side = max(1, min(height, width))
    return min(TABLES, key=lambda name: max(TABLES[name] / side, side / TABLES[name]))


def parameters(name: str, severity: int, table: str) -> tuple[float, ...]:
    """Returns the parameters of a corruption at a severity; their meaning is the corruption's.

    Raises:
        UnknownNameError: for an unknown corruption, severity or table.
    """
    for kind, value, valid in (
        ("corruption", name, CORRUPTIONS),
        ("severity", severity, SEVERITIES),
        ("table of parameters", table, tuple(TABLES)),
    ):
        if value not in valid:
            raise UnknownNameError(kind, value, valid)
    return _tables()[name, severity, table]


@cache
def _tables() -> dict[tuple[str, int, str], tuple[float, ...]]:
    with Path(__file__).with_name("severities.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["corruption"], int(row["severity"]), table): tuple(map(float, row[table].split()))
            for row in csv.DictReader(file)
            for table in TABLES
        }
