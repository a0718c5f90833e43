"""Data sets by the name in a preset: found, read or listed, checked. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.data.csv_list import find_csv
from ablations.data.custom import find_custom
from ablations.data.fashion_mnist import read_fashion_mnist
from ablations.data.found import Found, check_found, hold_out_in_memory
from ablations.data.huggingface import find_huggingface
from ablations.data.image_folder import find_folder
from ablations.data.images import DataError, Dataset, InMemoryDataset, evenly_spaced, with_parts
from ablations.data.shards import find_shards
from ablations.data.torchvision_sets import find_torchvision, read_cifar
from modernize.errors import UnknownNameError

if TYPE_CHECKING:
    from ablations.choices import DataChoice


def load_dataset(choice: DataChoice, *, skip_bad_images: bool = False) -> Dataset:
    """Returns the data set of a preset.

    Args:
        choice: which data set, and where it is.
        skip_bad_images: whether a data set on disk may have files that clearly are no images.

    Raises:
        DataError: naming the folder and its expected content, or the file and its fault.
    """
    kind = choice.name.partition(".")[0]
    if kind not in FINDERS:
        raise DataError(
            f"the images of data.name {choice.name} do not have one class each: choose a preset of "
            "another task, or another data set."
        )
    found = FINDERS[kind](choice)
    images: Dataset
    if isinstance(found, Found):
        images = check_found(choice.name, found, choice.validation, skip_bad_images=skip_bad_images)
    else:
        fraction = choice.validation
        images = found if fraction is None else hold_out_in_memory(found, fraction)
    if images.num_classes < 2:
        raise DataError(
            f"the training images of {images.source} are all of one class; "
            "training needs at least two classes."
        )
    if choice.classes is not None:
        images = _only(images, [str(name) for name in choice.classes])
    return images if choice.limit is None else _some(images, choice.limit)


def _only(images: Dataset, names: Sequence[str]) -> Dataset:
    """Returns the images of some classes, which keep their order.

    Raises:
        UnknownNameError: for a class that the images do not have.
    """
    in_memory = isinstance(images, InMemoryDataset)  # their classes are chosen by number
    known = [str(i) for i in range(images.num_classes)] if in_memory else [*images.classes]
    if unknown := [name for name in names if name not in known]:
        raise UnknownNameError(f"class of the images in {images.source}", unknown[0], known)
    chosen = [index for index, name in enumerate(known) if name in names]
    rest: dict[str, Any] = {}
    if images.classes:
        rest["classes"] = tuple(images.classes[i] for i in chosen)
    for split in ("train", "val"):
        labels = getattr(images, f"{split}_labels")
        some = np.isin(labels, chosen)
        rest[split] = getattr(images, split)[some]
        rest[f"{split}_labels"] = np.searchsorted(chosen, labels[some]).astype(np.int64)
    return with_parts(images, chosen, **rest)


def _some(images: Dataset, count: int) -> Dataset:
    """Returns at most ``count`` training and ``count`` validation images, evenly spaced."""
    if count >= max(len(images.train), len(images.val)):
        return images
    train, val = (
        evenly_spaced(len(labels), count) for labels in (images.train_labels, images.val_labels)
    )
    train[-1] = images.train_labels.argmax()  # of the last class, so that no class is lost
    train.sort()
    return with_parts(
        images,
        count,
        train=images.train[train],
        train_labels=images.train_labels[train],
        val=images.val[val],
        val_labels=images.val_labels[val],
    )


def _by_source(find: Callable[..., Found]) -> Callable[[DataChoice], Found]:
    return lambda choice: find(choice.source, only_train=choice.validation is not None)


FINDERS: Mapping[str, Callable[[DataChoice], Found | InMemoryDataset]] = {
    "fashion-mnist": lambda choice: read_fashion_mnist(choice.source),
    "cifar10": read_cifar,
    "cifar100": read_cifar,
    "image-folder": _by_source(find_folder),
    "csv": _by_source(find_csv),
    "huggingface": _by_source(find_huggingface),
    "webdataset": _by_source(find_shards),
    "custom": _by_source(find_custom),
    "torchvision": find_torchvision,
}
