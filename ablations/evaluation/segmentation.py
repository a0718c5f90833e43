"""Mean IoU, mean accuracy and pixel accuracy over all pixels of a set."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from ablations.data.dense.splits import IGNORED


@dataclasses.dataclass(frozen=True)
class SegmentationResult:
    """The result of testing a segmenter, in percent.

    Attributes:
        miou: mean of ``iou`` over the classes that occur in labels or predictions.
        mean_accuracy: mean over the classes that occur in labels, of the part of their pixels that
            is right.
        pixel_accuracy: the part of all pixels that is right.
        iou: of each class; None if it does not occur.
        images: number of images.
        not_finite: images with an infinite or NaN logit.
    """

    miou: float
    mean_accuracy: float
    pixel_accuracy: float
    iou: tuple[float | None, ...]
    images: int
    not_finite: int


class SegmentationMetric:
    """Counts pixels; the counts of several processes can be added.

    Args:
        num_classes: of the data set.
        device: of the counts.

    Attributes:
        counts: int64 (3 * num_classes + 2,): for each class the pixels that are right, predicted
            and labelled as it; the number of images, and of those with a logit that is not finite.
            To be summed over all processes before :meth:`compute`.
    """

    def __init__(self, num_classes: int, device: torch.device | str = "cpu") -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(3 * num_classes + 2, dtype=torch.long, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Adds images: logits or probabilities (B, num_classes, H, W) and labels (B, H, W)."""
        known = labels != IGNORED
        predicted, true = logits.argmax(1)[known], labels[known]
        pixels = [
            torch.bincount(of, minlength=self.num_classes)
            for of in (true[predicted == true], predicted, true)
        ]
        bad = (~logits.isfinite().flatten(1).all(1)).sum()
        self.counts += torch.cat([*pixels, bad.new_tensor([len(labels)]), bad[None]])

    def compute(self) -> SegmentationResult:
        """Returns the result for all pixels that were counted; 0 if there are none."""
        right, predicted, true = self.counts[:-2].view(3, self.num_classes).double().cpu()
        union = predicted + true - right
        iou = 100 * right / union  # NaN without pixels
        accuracy = (100 * right / true)[true > 0]
        images, bad = self.counts[-2:].tolist()
        return SegmentationResult(
            miou=iou[union > 0].mean().nan_to_num().item(),
            mean_accuracy=accuracy.mean().nan_to_num().item(),
            pixel_accuracy=(100 * right.sum() / true.sum()).nan_to_num().item(),
            iou=tuple(None if value != value else value for value in iou.tolist()),
            images=images,
            not_finite=bad,
        )
