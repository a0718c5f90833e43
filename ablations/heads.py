"""The heads of detectors and segmenters, by their names in a preset. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ablations.metrics import DETECTION, SEGMENTATION
from modernize.heads import (
    CASCADE_MASK_RCNN,
    CASCADE_MASK_RCNN_NANO,
    MASK_RCNN,
    MASK_RCNN_NANO,
    UPERNET,
    UPERNET_NANO,
    DetectorSpec,
    SegmenterSpec,
)

HeadSpec: TypeAlias = DetectorSpec | SegmenterSpec

DETECTORS: Mapping[str, DetectorSpec] = {
    "mask-rcnn": MASK_RCNN,
    "cascade-mask-rcnn": CASCADE_MASK_RCNN,
    "mask-rcnn-nano": MASK_RCNN_NANO,
    "cascade-mask-rcnn-nano": CASCADE_MASK_RCNN_NANO,
}
SEGMENTERS: Mapping[str, SegmenterSpec] = {"upernet": UPERNET, "upernet-nano": UPERNET_NANO}

HEADS: Mapping[str, Mapping[str, HeadSpec]] = {
    DETECTION.task: DETECTORS,
    SEGMENTATION.task: SEGMENTERS,
}
"""Task -> its heads; a task that is not here has none to choose."""
