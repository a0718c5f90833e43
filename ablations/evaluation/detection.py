"""Average precision of boxes and masks, computed by pycocotools, the reference implementation.

Each process adds the detections of its images; :meth:`DetectionMetric.gather` brings them together
by the number of the image, so that each image counts once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ablations.data.sampling import Rank

Results: TypeAlias = list[dict[str, Any]]  # of one image, in COCO's format
LIMITS = (1, 10, 100)  # detections of an image that count; average precision uses the last


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """Average precision in percent; None if there is no object of that kind.

    Attributes:
        ap: the mean over IoU thresholds from 0.5 to 0.95 and over classes.
        ap50, ap75: at one threshold.
        small, medium, large: for objects below 32 x 32 pixels, up to 96 x 96, and above.
        classes: of each class.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    small: float | None
    medium: float | None
    large: float | None
    classes: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class DetectionResult:
    """The result of testing a detector.

    Attributes:
        box: average precision of boxes.
        mask: of masks; None if the detector has none.
        images: number of images.
        not_finite: images with an infinite or NaN score or box; these detections are left out.
    """

    box: AveragePrecision
    mask: AveragePrecision | None
    images: int
    not_finite: int


class DetectionMetric:
    """Collects detections, and compares them with the true objects.

    Args:
        truth: all annotations in COCO's format, as of
            :func:`~ablations.data.dense.splits.coco_format`.

    Attributes:
        results: the detections by the number of the image.
    """

    def __init__(self, truth: Mapping[str, Any]) -> None:
        self.results: dict[int, Results] = {}
        self.bad: set[int] = set()  # images with a value that is not finite
        self.has_masks = True
        from pycocotools.coco import COCO

        self._truth = COCO()
        self._truth.dataset = {"info": {}, **truth}  # pycocotools 2.0.10 reads "info"
        with _quiet():
            self._truth.createIndex()

    def add(self, index: int, detections: Mapping[str, Tensor]) -> None:
        """Adds the detections of an image.

        Args:
            index: number of the image.
            detections: ``boxes`` (N, 4), x0 y0 x1 y1 in pixels of the original image; ``scores``
                (N,); ``labels`` (N,), from 0; and, unless the detector has no masks, ``masks``
                (N, H, W), 0 or 1 in pixels of the original image.
        """
        boxes, scores = (detections[name].detach().float().cpu() for name in ("boxes", "scores"))
        finite = boxes.isfinite().all(1) & scores.isfinite()
        if not finite.all():
            self.bad.add(index)
        boxes, scores, labels = boxes[finite], scores[finite], detections["labels"].cpu()[finite]
        codes: Iterable[Any] = [None] * len(labels)
        if "masks" in detections:
            codes = encode(detections["masks"].cpu()[finite])
        else:
            self.has_masks = False
        sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)  # x y width height
        rows = zip(sides.tolist(), scores.tolist(), labels.tolist(), codes, strict=True)
        self.results[index] = [
            {
                "image_id": index,
                "category_id": label,
                "bbox": box,
                "score": score,
                **({"segmentation": code} if code else {}),
            }
            for box, score, label, code in rows
        ]

    def gather(self, process: Rank) -> None:
        """Brings the detections of all processes to the first one; all processes call this."""
        if process.world_size == 1:
            return
        mine = self.results, self.bad, self.has_masks
        every: list[Any] | None = [None] * process.world_size if process.rank == 0 else None
        dist.gather_object(mine, every)
        for results, bad, has_masks in every or ():
            self.results.update(results)
            self.bad |= bad
            self.has_masks &= has_masks

    def compute(self) -> DetectionResult:
        """Returns the average precisions of the images that were added."""
        found = [one for index in sorted(self.results) for one in self.results[index]]
        box = self._evaluate([_without(one, "segmentation") for one in found], "bbox")
        mask = None
        if self.has_masks:  # the area of a mask, not of its box, decides which size it has
            mask = self._evaluate([_without(one, "bbox") for one in found], "segm")
        return DetectionResult(box, mask, len(self.results), len(self.bad))

    def _evaluate(self, results: Results, kind: str) -> AveragePrecision:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        with _quiet():
            empty = COCO()  # loadRes refuses an empty list
            empty.dataset = {**self._truth.dataset, "annotations": []}
            empty.createIndex()
            evaluation = COCOeval(
                self._truth, self._truth.loadRes(results) if results else empty, kind
            )
            evaluation.params.imgIds = sorted(self.results)
            evaluation.params.maxDets = list(LIMITS)
            evaluation.evaluate()
            evaluation.accumulate()
        # IoU thresholds, recalls, classes, areas (all, small, medium, large), limits
        precision = evaluation.eval["precision"][..., -1]
        return AveragePrecision(
            ap=_mean(precision[:, :, :, 0]),
            ap50=_mean(precision[0, :, :, 0]),
            ap75=_mean(precision[5, :, :, 0]),
            small=_mean(precision[:, :, :, 1]),
            medium=_mean(precision[:, :, :, 2]),
            large=_mean(precision[:, :, :, 3]),
            classes=tuple(_mean(precision[:, :, k, 0]) for k in range(precision.shape[2])),
        )


def encode(masks: Tensor) -> list[dict[str, Any]]:
    """Returns masks (N, H, W), 0 or 1, as COCO's run lengths."""
    from pycocotools import mask as coder

    columns = np.asfortranarray(masks.to(torch.uint8).permute(1, 2, 0).numpy())
    codes: list[dict[str, Any]] = coder.encode(columns)
    return codes


def _mean(precision: Any) -> float | None:
    """Returns a mean in percent; None if all values are -1, which is for no object."""
    known = precision[precision > -1]
    return 100 * float(known.mean()) if len(known) else None


def _without(result: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != key}


@contextlib.contextmanager
def _quiet() -> Any:
    """Discards the progress that pycocotools prints."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield
