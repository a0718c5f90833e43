"""Detectors and segmenters as data, without torch: every number of a head, with the paper's values.

The values of :data:`MASK_RCNN`, :data:`CASCADE_MASK_RCNN` and :data:`UPERNET` are those with which
ConvNeXt's authors trained on COCO and ADE20K. The ``NANO`` ones are for images of 128 x 128 pixels
with objects of 24 to 56 pixels. Sizes are in pixels unless they say otherwise.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Self

from modernize.errors import SpecError, UnknownNameError, UsageError
from modernize.spec import NetSpec

STAGES = 4  # of a backbone


class BoxLoss(enum.StrEnum):
    """The loss of the boxes of a box head."""

    L1 = "l1"  # of the encoded differences
    GIOU = "giou"  # generalised IoU of the decoded boxes


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RPNSpec:
    """A region proposal network.

    Attributes:
        anchor_scale: side of a square anchor, in strides of its map.
        anchor_ratios: height / width of the anchors.
        round_anchors: whether their corners are rounded to pixels, as torchvision does.
        allowed_border: in training, anchors that are further outside the image than this are
            ignored; None: none is ignored.
        positive_iou, negative_iou: an anchor is positive from this IoU on, and negative below.
        best_iou: the best anchors of a box are positive from this IoU on.
        samples, positive_fraction: anchors of an image in the loss, and those that may be positive.
        box_beta: of the smooth L1 loss of boxes; 0: L1.
        before_nms, proposals: boxes of each level before non-maximum suppression, and of an image
            after it, in training.
        test_before_nms, test_proposals: the same, in evaluation.
        nms_iou: boxes of a level with a higher IoU are suppressed.
        min_side: smaller proposals are removed.
    """

    anchor_scale: float = 8.0
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    round_anchors: bool = False
    allowed_border: int | None = None
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    best_iou: float = 0.3
    samples: int = 256
    positive_fraction: float = 0.5
    box_beta: float = 0.0
    before_nms: int = 2000
    proposals: int = 1000
    test_before_nms: int = 1000
    test_proposals: int = 1000
    nms_iou: float = 0.7
    min_side: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StageSpec:
    """One stage of box and mask heads; Mask R-CNN has one, the cascade three.

    Attributes:
        positive_iou: a proposal is positive from this IoU on, and otherwise background.
        box_std: standard deviations by which differences of x, y, width and height are divided.
        weight: of the losses of this stage.
    """

    positive_iou: float = 0.5
    box_std: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RoISpec:
    """The box and mask heads on regions of interest.

    Attributes:
        stages: in order; each refines the boxes of the one before.
        best_matches: whether the best proposals of a box are positive too, from the same IoU on.
        samples, positive_fraction: proposals of an image in the losses, and those that may be
            positive; the true boxes are among them.
        size: of the pooled map of a box, in positions.
        mask_size: of the pooled map of a mask; its mask has twice the height and width.
        sampling_ratio: sampled points of RoIAlign per bin side; 0: as many as positions.
        aligned: whether RoIAlign moves boxes by half a position.
        finest: a box of this side is pooled from the second map; every doubling is a level.
        convs, conv_width: 3x3 convolutions of a box head with BatchNorm, and their channels.
        linears, width: hidden linear layers of a box head, and their features.
        box_loss, box_weight: the loss of boxes and its factor.
        mask_convs, mask_width: 3x3 convolutions of a mask head, and their channels.
        mask_threshold: in training, a pixel of a true mask is inside from this share on; 0: the
            share itself is the target, as in torchvision.
    """

    stages: tuple[StageSpec, ...] = (StageSpec(),)
    best_matches: bool = True
    samples: int = 512
    positive_fraction: float = 0.25
    size: int = 7
    mask_size: int = 14
    sampling_ratio: int = 0
    aligned: bool = True
    finest: float = 56.0
    convs: int = 0
    conv_width: int = 256
    linears: int = 2
    width: int = 1024
    box_loss: BoxLoss = BoxLoss.L1
    box_weight: float = 1.0
    mask_convs: int = 4
    mask_width: int = 256
    mask_threshold: float = 0.5


class _Replaceable:
    """A spec whose fields, and those of its parts, can be replaced."""

    __slots__ = ()

    def replace(self, **changes: Any) -> Self:
        """Returns this spec with other values; those of a part are given as a mapping.

        Raises:
            UnknownNameError: for a field that does not exist.
            SpecError: for an invalid value.
        """
        values = {}
        for name, value in changes.items():
            known = {field.name for field in dataclasses.fields(self)}  # type: ignore[arg-type]
            if name not in known:
                raise UnknownNameError(f"field of {type(self).__name__}", name, sorted(known))
            part = getattr(self, name)
            if dataclasses.is_dataclass(part) and isinstance(value, dict):
                inside = [field.name for field in dataclasses.fields(part)]
                if unknown := [key for key in value if key not in inside]:
                    raise UnknownNameError(f"field of {name}", unknown[0], inside)
                value = dataclasses.replace(part, **value)  # type: ignore[type-var]
            values[name] = value
        return dataclasses.replace(self, **values)  # type: ignore[type-var]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DetectorSpec(_Replaceable):
    """Mask R-CNN, or Cascade Mask R-CNN, on the four maps of a backbone.

    Attributes:
        num_classes: of objects. Their labels are 0 to ``num_classes`` - 1; the background is the
            last class of the box head (torchvision: the first), and has no box and no mask.
        width: channels of the FPN.
        rpn, roi: its other parts.
        score: the least score of a detection.
        nms_iou: detections of a class with a higher IoU are suppressed.
        detections: the most per image.
        min_side: smaller detections are removed.
        mask_probability: a pixel is inside a predicted mask from this probability on.
        image_size: (width, height) of the images whose cost is counted.

    Raises:
        SpecError: naming every field with an invalid value.
    """

    num_classes: int = 80
    width: int = 256
    rpn: RPNSpec = RPNSpec()
    roi: RoISpec = RoISpec()
    score: float = 0.05
    nms_iou: float = 0.5
    detections: int = 100
    min_side: float = 0.0
    mask_probability: float = 0.5
    image_size: tuple[int, int] = (1280, 800)

    def __post_init__(self) -> None:
        _check(
            self,
            num_classes=self.num_classes > 0,
            width=self.width > 0,
            detections=self.detections > 0,
            roi=len(self.roi.stages) > 0,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SegmenterSpec(_Replaceable):
    """UperNet on the four maps of a backbone.

    Attributes:
        num_classes: of pixels.
        width: channels of the head.
        pools: heights and widths of the pyramid's pooled maps.
        dropout: rate, of whole channels, before the classifiers.
        auxiliary_stage: index of the stage whose map the auxiliary head classifies.
        auxiliary_width: channels of the auxiliary head.
        auxiliary_weight: of its loss; 0: there is no auxiliary head.
        ignored: label of pixels that are not in the loss.
        mean_over_all: whether the loss is the sum divided by the number of all pixels, as the
            authors' library did; otherwise of those that are not ignored.
        image_size: (width, height) of the images whose cost is counted.

    Raises:
        SpecError: naming every field with an invalid value.
    """

    num_classes: int = 150
    width: int = 512
    pools: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1
    auxiliary_stage: int = 2
    auxiliary_width: int = 256
    auxiliary_weight: float = 0.4
    ignored: int = 255
    mean_over_all: bool = True
    image_size: tuple[int, int] = (2048, 512)

    def __post_init__(self) -> None:
        _check(
            self,
            num_classes=self.num_classes > 0,
            width=self.width > 0,
            dropout=0 <= self.dropout < 1,
            auxiliary_stage=self.auxiliary_stage in range(4),
            auxiliary_weight=self.auxiliary_weight >= 0,
        )


def _check(spec: Any, **valid: bool) -> None:
    faults = [f"{name} is {getattr(spec, name)!r}" for name, good in valid.items() if not good]
    if faults:
        raise SpecError(f"this {type(spec).__name__} is not valid: {'; '.join(faults)}.")


def _cascade(mask_rcnn: DetectorSpec, proposals: int = 2000, **changes: Any) -> DetectorSpec:
    """Returns the cascade of a Mask R-CNN: three stages, stricter from one to the next."""
    stages = (
        StageSpec(),
        StageSpec(positive_iou=0.6, box_std=(0.05, 0.05, 0.1, 0.1), weight=0.5),
        StageSpec(positive_iou=0.7, box_std=(0.033, 0.033, 0.067, 0.067), weight=0.25),
    )
    roi = {
        "stages": stages,
        "best_matches": False,
        "convs": 4,
        "linears": 1,
        "box_loss": BoxLoss.GIOU,
        "box_weight": 10.0,
        **changes,
    }
    rpn = {"allowed_border": 0, "box_beta": 1 / 9, "proposals": proposals}
    return mask_rcnn.replace(roi=roi, rpn=rpn)


MASK_RCNN = DetectorSpec()
CASCADE_MASK_RCNN = _cascade(MASK_RCNN)
MASK_RCNN_NANO = DetectorSpec(
    num_classes=10,
    width=48,
    rpn=RPNSpec(
        anchor_scale=4.0,
        samples=64,
        before_nms=300,
        proposals=150,
        test_before_nms=300,
        test_proposals=100,
    ),
    roi=RoISpec(samples=48, width=128, mask_width=48, sampling_ratio=2),
    detections=20,
    image_size=(128, 128),
)
CASCADE_MASK_RCNN_NANO = _cascade(MASK_RCNN_NANO, conv_width=48, proposals=150)
UPERNET = SegmenterSpec()
UPERNET_NANO = SegmenterSpec(num_classes=11, width=64, auxiliary_width=32, image_size=(128, 128))


def check_stages(spec: NetSpec) -> None:
    """Raises an error if a network does not have four stages.

    Raises:
        UsageError: naming the number of stages.
    """
    if len(spec.depths) != STAGES:
        raise UsageError(
            f"a detector or segmenter needs a network with {STAGES} stages; this one has "
            f"{len(spec.depths)} (depths {', '.join(map(str, spec.depths))})."
        )
