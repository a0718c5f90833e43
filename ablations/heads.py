"""The heads of detectors and segmenters, by their names in a preset. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ablations.metrics import DETECTION, SEGMENTATION
from modernize import heads
from modernize.heads import DetectorSpec, SegmenterSpec

HeadSpec: TypeAlias = DetectorSpec | SegmenterSpec

DETECTORS: Mapping[str, DetectorSpec] = {
    "mask-rcnn": heads.MASK_RCNN,
    "cascade-mask-rcnn": heads.CASCADE_MASK_RCNN,
    "mask-rcnn-nano": heads.MASK_RCNN_NANO,
    "cascade-mask-rcnn-nano": heads.CASCADE_MASK_RCNN_NANO,
}
SEGMENTERS: Mapping[str, SegmenterSpec] = {
    "upernet": heads.UPERNET,
    "upernet-nano": heads.UPERNET_NANO,
}

HEADS: Mapping[str, Mapping[str, HeadSpec]] = {
    DETECTION.task: DETECTORS, SEGMENTATION.task: SEGMENTERS,
}  # fmt: skip
"""Task -> its heads; a task that is not here has none to choose."""
