"""The names of data sets that a preset may have. Does not import torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WITH_KEYWORDS = ("fashion-mnist", "cifar10", "cifar100", "scenes")
"""Their ``data.source`` may be a keyword; that of all others is a folder or file."""

KINDS = (*WITH_KEYWORDS, "image-folder", "csv", "huggingface", "webdataset", "custom")

DENSE = ("coco", "ade20k", "label-maps")
"""Images with objects or label maps, in a folder."""

_TRAIN: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})
_VAL: tuple[dict[str, Any], ...] = ({"split": "train"}, {"split": "val"})
_TEST: tuple[dict[str, Any], ...] = ({"split": "train"}, {"split": "test"})

TORCHVISION: Mapping[str, tuple[dict[str, Any], ...]] = {
    "CIFAR10": _TRAIN,
    "CIFAR100": _TRAIN,
    "Country211": ({"split": "train"}, {"split": "valid"}),
    "DTD": _VAL,
    "EuroSAT": ({},),
    "FGVCAircraft": _VAL,
    "FashionMNIST": _TRAIN,
    "Flowers102": _VAL,
    "Food101": _TEST,
    "Imagenette": _VAL,
    "KMNIST": _TRAIN,
    "MNIST": _TRAIN,
    "OxfordIIITPet": ({"split": "trainval"}, {"split": "test"}),
    "Places365": ({"split": "train-standard"}, {"split": "val"}),
    "RenderedSST2": _VAL,
    "STL10": _TEST,
    "SUN397": ({},),
    "SVHN": _TEST,
    "StanfordCars": _TEST,
    "USPS": _TRAIN,
}
"""Class in torchvision -> arguments for its training and, if it has any, its validation images."""

NAMES = (*KINDS, *DENSE, *(f"torchvision.{name}" for name in TORCHVISION))
"""All values of ``data.name``."""
