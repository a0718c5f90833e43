"""Images whose targets are objects or label maps: what all such data sets have in common.

Does not import torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import numpy as np

from ablations.data.images import TrainVal, evenly_spaced, with_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

IGNORED = 255
"""The label of pixels that count in no loss and in no metric."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects of an image.

    Attributes:
        boxes: float32 (N, 4), x0 y0 x1 y1 in pixels.
        labels: int64 (N,), from 0.
        masks: uint8 (N, H, W), 0 or 1.
        ignored: float32 (M, 4), boxes of crowds, which are neither objects nor background.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.uint8]
    ignored: NDArray[np.float32]

    def keep(self, chosen: NDArray[np.bool_]) -> Objects:
        """Returns the chosen objects, and all ignored boxes; chosen: (N,)."""
        if chosen.all():
            return self
        boxes, labels, masks = self.boxes[chosen], self.labels[chosen], self.masks[chosen]
        return Objects(boxes, labels, masks, self.ignored)


Target = TypeVar("Target", covariant=True)


class Split(Protocol[Target]):
    """The training or the validation images of a data set; worker processes get copies."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def path(self, index: int) -> str:
        """Returns where an image is, for messages."""

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Returns an image (H, W, 3); may raise anything."""

    def target(self, index: int) -> Target:
        """Returns its objects or its label map (H, W); may raise anything."""


AnySplit = TypeVar("AnySplit", bound=Split[Any])


class ListedSplit(Split[Any], Protocol):
    """Images on disk."""

    def take(self, chosen: NDArray[np.int64]) -> Self:
        """Returns some of the images, by their numbers (n,)."""


Listed = TypeVar("Listed", bound=ListedSplit)


@dataclasses.dataclass(frozen=True)
class DenseImages(TrainVal, Generic[AnySplit]):
    """Training and validation images of a data set.

    Attributes:
        name: the kind of data set.
        source: where the images are, for messages.
        train, val: the images; for training only those with objects.
        classes: their names; with the background, if it is a class.
        digest: identifies the images and their annotations.
        mean, std: of each channel, of pixels from 0 to 1, for normalisation.
        times: digest of names and modification times; empty for embedded images.
        newest: the file that was modified last; empty for embedded images.
        notes: sentences about the images, such as the number of dropped ones.
    """

    name: str
    source: str
    train: AnySplit
    val: AnySplit
    classes: tuple[str, ...]
    digest: str
    mean: Sequence[float] = IMAGENET[0]
    std: Sequence[float] = IMAGENET[1]
    times: str = ""
    newest: str = ""
    notes: tuple[str, ...] = ()

    def readers(self) -> Sequence[Any]:
        """Returns the images, for a digest of their contents."""
        return self.train, self.val


def limited(images: DenseImages[Listed], count: int) -> DenseImages[Listed]:
    """Returns at most ``count`` training and ``count`` validation images, evenly spaced."""
    if count >= max(len(images.train), len(images.val)):
        return images
    train, val = (s.take(evenly_spaced(len(s), count)) for s in (images.train, images.val))
    return with_parts(images, count, train=train, val=val)


def boxes_of(masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the boxes (N, 4) that enclose masks (N, H, W) exactly; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for axis, low in ((1, 0), (2, 1)):  # x from the columns, y from the rows
        present: NDArray[np.bool_] = np.any(masks, axis)  # (N, W) or (N, H)
        length, some = present.shape[1], present.any(1)
        boxes[some, low] = present.argmax(1)[some]
        boxes[some, low + 2] = length - present[:, ::-1].argmax(1)[some]
    return boxes


def coco_format(images: Iterable[Objects], classes: Sequence[str]) -> dict[str, Any]:
    """Returns objects in COCO's format, for the metric.

    The id of an image is its number, the id of a category its label; those of annotations begin
    with 1.

    Args:
        images: the objects of each; of crowds there must be none.
        classes: their names.
    """
    from pycocotools import mask as coder

    found: dict[str, Any] = {"images": [], "annotations": []}
    for number, objects in enumerate(images):
        height, width = objects.masks.shape[1:]
        found["images"].append({"id": number, "height": height, "width": width})
        codes = coder.encode(np.asfortranarray(objects.masks.transpose(1, 2, 0)))
        rows = zip(objects.boxes.tolist(), objects.labels.tolist(), codes, strict=True)
        for (x0, y0, x1, y1), label, code in rows:
            found["annotations"].append(
                {
                    "id": len(found["annotations"]) + 1,
                    "image_id": number,
                    "category_id": label,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": int(coder.area(code)),
                    "segmentation": code,
                    "iscrowd": 0,
                }
            )
    found["categories"] = [{"id": label, "name": name} for label, name in enumerate(classes)]
    return found
