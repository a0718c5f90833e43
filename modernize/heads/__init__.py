"""Detectors and segmenters on any network with four stages.

``build_detector(spec_of("ln"))`` is a Mask R-CNN with the paper's numbers, and
``build_segmenter(spec_of("ln"))`` its UperNet. To import this package does not import torch; to
build a model imports torch, and torchvision, whose operators it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modernize.heads.specs import (
    CASCADE_MASK_RCNN,
    CASCADE_MASK_RCNN_NANO,
    MASK_RCNN,
    MASK_RCNN_NANO,
    UPERNET,
    UPERNET_NANO,
    DetectorSpec,
    SegmenterSpec,
)
from modernize.spec import NetSpec

if TYPE_CHECKING:
    from pathlib import Path

    from modernize.heads.backbone import Backbone
    from modernize.heads.detector import Detector
    from modernize.heads.segmenter import Segmenter

__all__ = [
    "CASCADE_MASK_RCNN",
    "CASCADE_MASK_RCNN_NANO",
    "MASK_RCNN",
    "MASK_RCNN_NANO",
    "UPERNET",
    "UPERNET_NANO",
    "DetectorSpec",
    "SegmenterSpec",
    "build_detector",
    "build_segmenter",
]


def build_detector(
    spec: NetSpec,
    detector_spec: DetectorSpec = MASK_RCNN,
    *,
    weights: Path | str | None = None,
    ema: bool = False,
) -> Detector:
    """Returns a detector on a network, in training mode.

    Args:
        spec: the network, such as ``spec_of("ln")``; its number of classes does not matter.
        detector_spec: all other numbers.
        weights: a file of a classifier of this network: of torchvision, timm, the official
            ConvNeXt or this project. Its final norm and head are not used; output norms and all
            parts after them are fresh.
        ema: whether to use the moving average of the weights in that file.

    Raises:
        UsageError: if the network does not have four stages.
        WeightsError: if the weights cannot be read, or do not fit; names every tensor.
    """
    from modernize.heads.detector import Detector

    model = Detector(spec, detector_spec)
    _start(model.backbone, spec, weights, ema)
    return model


def build_segmenter(
    spec: NetSpec,
    segmenter_spec: SegmenterSpec = UPERNET,
    *,
    weights: Path | str | None = None,
    ema: bool = False,
) -> Segmenter:
    """Returns a segmenter on a network, in training mode; arguments as :func:`build_detector`."""
    from modernize.heads.segmenter import Segmenter

    model = Segmenter(spec, segmenter_spec)
    _start(model.backbone, spec, weights, ema)
    return model


def _start(backbone: Backbone, spec: NetSpec, weights: Path | str | None, ema: bool) -> None:
    if weights is not None:
        from modernize.weights import read_start

        backbone.load(read_start(weights, spec, ema=ema))
