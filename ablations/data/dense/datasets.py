"""Data sets with objects or label maps by the name in a preset. Does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ablations.data.dense.coco import find_coco
from ablations.data.dense.label_maps import find_label_maps
from ablations.data.dense.scenes import SIDE, TRAIN, VAL, scenes_with_labels, scenes_with_objects
from ablations.data.dense.splits import DenseImages, limited
from ablations.data.images import DataError

if TYPE_CHECKING:
    from ablations.choices import DataChoice

SCENES = "scenes"
Find = Callable[[str], DenseImages[Any]]


def load_objects(choice: DataChoice) -> DenseImages[Any]:
    """Returns images with objects, at most ``data.limit`` of both kinds.

    Raises:
        DataError: for another kind of data set; or naming the files and their faults.
    """
    return _load(choice, "objects", scenes_with_objects, {"coco": find_coco})


def load_label_maps(choice: DataChoice) -> DenseImages[Any]:
    """Returns images with label maps; see :func:`load_objects`."""
    return _load(
        choice,
        "label maps",
        scenes_with_labels,
        {"ade20k": find_label_maps, "label-maps": find_label_maps},
    )


def _load(
    choice: DataChoice,
    targets: str,
    scenes: Callable[..., DenseImages[Any]],
    kinds: Mapping[str, Find],
) -> DenseImages[Any]:
    for name in ("validation", "classes"):
        if (value := getattr(choice, name)) is not None:
            raise DataError(
                f"data.{name} {value} is for images with one class each; set data.{name} to null."
            )
    if choice.resize == "warp":
        raise DataError("data.resize warp is for classification; use a number of pixels, or null.")
    if choice.name == SCENES:
        _check_scenes(choice)
        limit = choice.limit or TRAIN
        return scenes(train=min(limit, TRAIN), val=min(limit, VAL))
    if choice.name not in kinds:
        raise DataError(
            f"data.name {choice.name} has no {targets}; set data.name to "
            f"{' or '.join([SCENES, *kinds])}, or choose a preset of another task."
        )
    images = kinds[choice.name](choice.source)
    return images if choice.limit is None else limited(images, choice.limit)


def _check_scenes(choice: DataChoice) -> None:
    if choice.source != "embedded":
        raise DataError(
            f"data.source {choice.source} has no scenes, which are in this package; set "
            "data.source to embedded, or choose images by data.name."
        )
    if choice.resize is None and choice.image_size != SIDE:
        raise DataError(
            f"data.image_size {choice.image_size} is not the size of scenes, which have {SIDE} x "
            f"{SIDE} pixels; set it to {SIDE}."
        )
