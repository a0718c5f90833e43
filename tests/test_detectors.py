"""Mask R-CNN and its cascade: parts against other implementations, losses by hand, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, RoIAlign
from torchvision.ops import roi_align as torchvision_roi_align

from modernize import spec_of
from modernize.errors import SpecError, UnknownNameError, UsageError
from modernize.heads import (
    CASCADE_MASK_RCNN,
    CASCADE_MASK_RCNN_NANO,
    MASK_RCNN,
    MASK_RCNN_NANO,
    build_detector,
    masks,
)
from modernize.heads.boxes import BACKGROUND, IGNORED, assign, box_coder, choose, sample, suppress
from modernize.heads.roi import pool
from modernize.heads.roi_align import roi_align
from modernize.heads.rpn import RPN, make_anchors
from modernize.heads.specs import RoISpec, RPNSpec
from modernize.models import MODELS
from modernize.network import Network
from modernize.weights import from_state_dict, write

CPU = torch.device("cpu")
PARTS = ("weight", "bias")
NANO = {"mask-rcnn": MASK_RCNN_NANO, "cascade": CASCADE_MASK_RCNN_NANO}


def target(*boxes, size=(128, 128), label=3):
    """Objects of rectangular shape."""
    drawn = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(drawn, boxes, strict=True):
        mask[y0:y1, x0:x1] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.full((len(boxes),), label),
        "masks": drawn,
    }


@pytest.fixture
def images():
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))


TRUTH = [target((10, 20, 50, 60), (60, 64, 100, 110)), target()]


# -- boxes ----------------------------------------------------------------------------------------


def test_assignment_by_hand():
    iou = torch.tensor(
        [
            [0.8, 0.5, 0.1, 0.4, 0.0],
            [0.7, 0.2, 0.1, 0.4, 0.35],
            [0.0, 0.0, 0.2, 0.0, 0.0],
        ]
    )
    plain = assign(iou, 0.7, 0.3)
    assert plain.tolist() == [0, IGNORED, BACKGROUND, IGNORED, IGNORED]
    # The best candidate of box 1 is the first one, which then belongs to it and not to box 0. That
    # of box 2 overlaps it too little.
    assert assign(iou, 0.7, 0.3, 0.3).tolist() == [1, IGNORED, BACKGROUND, IGNORED, IGNORED]
    assert assign(iou, 0.7, 0.3, 0.1).tolist()[2] == 2
    assert assign(iou[:0], 0.7, 0.3, 0.3).tolist() == [BACKGROUND] * 5


def test_a_sample_has_the_true_boxes_and_at_most_a_quarter_positive():
    truth = torch.tensor([[0.0, 0, 10, 10], [50, 50, 80, 80]])
    near = truth[0] + torch.rand(40, 4)
    far = torch.tensor([100.0, 100, 120, 120]) + torch.rand(60, 4)
    torch.manual_seed(0)
    found = sample(torch.cat([near, far]), truth, 0.5, False, 32, 0.25)
    assert len(found.boxes) == 32
    assert len(found.truth) == 8
    again = torch.manual_seed(0) and sample(torch.cat([near, far]), truth, 0.5, False, 32, 0.25)
    assert torch.equal(found.boxes, again.boxes)
    everything = sample(torch.cat([near, far]), truth, 0.5, False, 1000, 1.0)
    assert everything.added.sum() == 2
    assert torch.equal(everything.boxes[everything.added], truth)
    assert everything.truth.tolist().count(1) == 1


def quadratic_nms(boxes, scores, iou):
    order, kept = scores.argsort(descending=True, stable=True).tolist(), []
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes.tolist()]

    def overlap(a, b):
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = boxes[a].tolist(), boxes[b].tolist()
        wide, high = min(ax1, bx1) - max(ax0, bx0), min(ay1, by1) - max(ay0, by0)
        inside = max(wide, 0) * max(high, 0)
        return inside / (areas[a] + areas[b] - inside)

    for index in order:
        if all(overlap(index, other) <= iou for other in kept):
            kept.append(index)
    return kept


def test_suppression_within_groups():
    torch.manual_seed(3)
    corner = torch.rand(120, 2) * 60
    boxes = torch.cat([corner, corner + 5 + torch.rand(120, 2) * 30], 1)
    scores, groups = torch.rand(120), torch.randint(0, 2, (120,))
    found = suppress(boxes, scores, groups, 0.5, 1000).tolist()
    wanted = []
    for group in (0, 1):
        here = torch.where(groups == group)[0]
        wanted += here[quadratic_nms(boxes[here], scores[here], 0.5)].tolist()
    assert sorted(found) == sorted(wanted)
    assert len(found) < 120
    assert scores[found].tolist() == sorted(scores[found].tolist(), reverse=True)
    assert suppress(boxes, scores, groups, 0.5, 7).tolist() == found[:7]


def test_box_coder_divides_by_the_standard_deviations():
    box = torch.tensor([[10.0, 10, 30, 50]])
    truth = torch.tensor([[12.0, 14, 52, 54]])
    [[x, y, w, h]] = box_coder((0.1, 0.1, 0.2, 0.2)).encode_single(truth, box).tolist()
    expected = [12 / 20 / 0.1, 4 / 40 / 0.1, math.log(2) / 0.2, 0.0]
    assert [x, y, w, h] == pytest.approx(expected, abs=1e-5)
    back = box_coder((0.1, 0.1, 0.2, 0.2)).decode_single(torch.tensor([[x, y, w, h]]), box)
    assert torch.allclose(back, truth, atol=1e-4)
    huge = box_coder((1.0,) * 4).decode_single(torch.tensor([[0.0, 0, 100, 100]]), box)
    assert huge[0, 2] - huge[0, 0] == pytest.approx(20 * 1000 / 16, rel=1e-5)


# -- anchors and proposals ------------------------------------------------------------------------


def test_anchors_by_hand_and_as_torchvisions_if_rounded():
    shapes, strides = ((32, 40), (16, 20), (8, 10), (4, 5), (2, 3)), (4, 8, 16, 32, 64)
    paper = make_anchors(MASK_RCNN.rpn, strides, shapes, CPU)
    assert [len(a) for a in paper] == [3 * h * w for h, w in shapes]
    side = paper[4].sub(paper[4][:, [0, 1, 0, 1]])[:3, 2:]
    assert torch.allclose(side.prod(1), torch.tensor(512.0**2))
    assert (side[:, 1] / side[:, 0]).tolist() == pytest.approx([0.5, 1, 2])
    second = paper[0][3:6]  # the next position in the first row: its centre is one stride right
    assert ((second[:, :2] + second[:, 2:]) / 2).tolist() == [[4, 0]] * 3
    rounded = make_anchors(RPNSpec(round_anchors=True), strides, shapes, CPU)
    theirs = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    maps = [torch.zeros(1, 1, *shape) for shape in shapes[:4]] + [torch.zeros(1, 1, 2, 2)]
    [expected] = theirs(ImageList(torch.zeros(1, 3, 128, 160), [(128, 160)]), maps)
    assert torch.equal(torch.cat(rounded[:4]), expected[: -4 * 3])


def test_anchors_in_the_padding_or_outside_are_ignored():
    truth = torch.tensor([[30.0, 30, 46, 46]])
    anchors = torch.cat(make_anchors(MASK_RCNN_NANO.rpn, (4,), ((32, 32),), CPU))
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    found = RPN(MASK_RCNN_NANO.rpn, 8, (4,))._assign(anchors, (128, 64), truth)
    assert (found[centre[:, 0] >= 64] == IGNORED).all()
    assert (found[centre[:, 0] < 64] != IGNORED).any()
    strict = RPN(CASCADE_MASK_RCNN_NANO.rpn, 8, (4,))._assign(anchors, (128, 64), truth)
    assert (strict[(anchors[:, :2] < 0).any(1)] == IGNORED).all()
    assert (strict >= 0).any()


def test_losses_of_the_rpn_by_hand():
    spec = MASK_RCNN_NANO.rpn
    rpn = RPN(spec, 8, (4,))
    [anchors] = make_anchors(spec, (4,), ((8, 8),), CPU)
    truth = anchors[[100]] + 1.0
    logits, deltas = torch.randn(1, 192), torch.randn(1, 192, 4)
    torch.manual_seed(0)
    losses = rpn.losses([logits], [deltas], [anchors], [(32, 32)], [truth])
    torch.manual_seed(0)
    found = rpn._assign(anchors, (32, 32), truth)
    positive, negative = choose(found, spec.samples, spec.positive_fraction)
    count = len(positive) + len(negative)
    probability = logits[0].sigmoid()
    entropy = -probability[positive].log().sum() - (1 - probability[negative]).log().sum()
    width, height = (anchors[positive, 2:] - anchors[positive, :2]).unbind(1)
    true_width, true_height = (truth[0, 2:] - truth[0, :2]).unbind()
    centre = (truth[0, :2] + truth[0, 2:] - anchors[positive, :2] - anchors[positive, 2:]) / 2
    wanted = torch.stack(
        [
            centre[:, 0] / width,
            centre[:, 1] / height,
            (true_width / width).log(),
            (true_height / height).log(),
        ],
        1,
    )
    assert len(positive)
    assert losses["loss_objectness"].item() == pytest.approx((entropy / count).item(), rel=1e-4)
    absolute = (deltas[0, positive] - wanted).abs().sum() / count
    assert losses["loss_rpn_box"].item() == pytest.approx(absolute.item(), rel=1e-4)


# -- pooling and masks ----------------------------------------------------------------------------


def bilinear(x, y_at, x_at):
    """The value of a map (H, W) between positions, 0 further than one outside."""
    height, width = x.shape
    if y_at < -1 or y_at > height or x_at < -1 or x_at > width:
        return 0.0
    y_at, x_at = min(max(y_at, 0), height - 1), min(max(x_at, 0), width - 1)
    y0, x0 = int(y_at), int(x_at)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = y_at - y0, x_at - x0
    top = x[y0, x0] * (1 - dx) + x[y0, x1] * dx
    return (top * (1 - dy) + (x[y1, x0] * (1 - dx) + x[y1, x1] * dx) * dy).item()


def test_roi_align_adaptive_and_aligned_by_loops():
    x = torch.randn(16, 16)
    box, size = (9.0, 13.0, 51.0, 47.0), 7  # at stride 4
    found = RoIAlign(size, 0.25, 0, aligned=True)(x[None, None], [torch.tensor([box])])[0, 0]
    ours = pool(RoISpec(), [x[None, None]], [4], [torch.tensor([box])], size)[0, 0]
    x0, y0, x1, y1 = (c / 4 - 0.5 for c in box)
    wide, high = (x1 - x0) / size, (y1 - y0) / size
    across, down = math.ceil(wide), math.ceil(high)
    for row in range(size):
        for column in range(size):
            points = [
                (y0 + (row + (i + 0.5) / down) * high, x0 + (column + (j + 0.5) / across) * wide)
                for i in range(down)
                for j in range(across)
            ]
            values = [bilinear(x, *point) for point in points]
            assert ours[row, column].item() == pytest.approx(sum(values) / len(values), abs=1e-5)
    assert torch.equal(ours, found)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_the_gradient_of_roi_align_is_torchvisions(sampling_ratio, aligned):
    torch.manual_seed(0)
    corner = torch.rand(150, 2) * 120 - 20
    boxes = torch.cat([corner, corner + 90 * torch.rand(150, 2) ** 2], 1)
    boxes[0] = torch.tensor([10.0, 10, 10, 30])  # without area
    boxes[1] = torch.tensor([-60.0, -60, -20, -20])  # outside
    rois = torch.cat([torch.randint(0, 3, (150, 1)).float(), boxes], 1)
    maps = torch.randn(3, 5, 30, 25, requires_grad=True)
    grad = torch.randn(150, 5, 7, 7)
    how = (7, 0.25, sampling_ratio, aligned)
    (expected,) = torch.autograd.grad(torchvision_roi_align(maps, rois, *how), maps, grad)
    ours = roi_align(maps, rois, *how)
    assert "_RoIAlign" in type(ours.grad_fn).__name__
    (found,) = torch.autograd.grad(ours, maps, grad)
    assert torch.allclose(found, expected, atol=1e-4)


def test_boxes_are_pooled_from_the_level_of_their_size():
    maps = [torch.full((1, 1, 64 >> i, 64 >> i), float(i)) for i in range(4)]
    sides = [10, 55, 57, 111, 113, 223, 225, 250]
    boxes = torch.tensor([[1.0, 1, 1 + s, 1 + s] for s in sides])
    found = pool(RoISpec(), maps, (4, 8, 16, 32), [boxes], 7)
    assert found.mean((1, 2, 3)).round().tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    named = {str(i): x for i, x in enumerate(maps)}
    theirs = MultiScaleRoIAlign([*named], 7, 2)(named, [boxes], [(256, 256)])
    assert torch.equal(theirs.mean((1, 2, 3)).round(), found.mean((1, 2, 3)).round())
    none = pool(RoISpec(), maps, (4, 8, 16, 32), [boxes[:0], boxes[:0]], 7)
    assert none.shape == (0, 1, 7, 7)


def test_masks_cut_out_and_pasted_again():
    size, box = (96, 80), torch.tensor([[10.0, 20, 66, 76], [0, 0, 28, 28]])
    y, x = torch.meshgrid(torch.arange(96), torch.arange(80), indexing="ij")
    disc = ((x - 38) ** 2 + (y - 48) ** 2 < 26**2).to(torch.uint8)
    cut = masks.cut_out(disc[None], torch.tensor([0, 0]), box, 28, 0.5)
    assert set(cut.unique().tolist()) == {0, 1}
    whole = masks.paste(cut, box, size, 0.5)
    both = (whole[0] & disc.bool()).sum() / (whole[0] | disc.bool()).sum()
    assert both > 0.95
    outside = masks.paste(torch.ones(1, 28, 28), torch.tensor([[-20.0, -20, 500, 500]]), size, 0.5)
    assert outside.all()
    assert masks.paste(torch.ones(0, 28, 28), torch.zeros(0, 4), size, 0.5).shape == (0, 96, 80)
    flat = masks.paste(torch.ones(1, 28, 28), torch.tensor([[3.0, 3, 3, 9]]), size, 0.5)
    assert not flat.any()


# -- whole detectors ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NANO)
@pytest.mark.parametrize("step", ["resnet", "ln", "downsample"])
def test_training_gives_losses_and_gradients_of_every_parameter(kind, step, images):
    torch.manual_seed(2)
    model = build_detector(spec_of(step, "nano", layer_scale=1.0), NANO[kind])
    losses = model(images, TRUTH)
    parts = ["loss_class", "loss_box", "loss_mask"]
    if kind == "cascade":
        parts = [f"{name}_{stage}" for stage in (1, 2, 3) for name in parts]
    assert [*losses] == ["loss_objectness", "loss_rpn_box", *parts]
    assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    nothing = {n for n, p in model.named_parameters() if not p.grad.any()}
    # An untrained RPN proposes few large boxes: the maps of the last levels may not be pooled.
    last = [f"fpn.pyramid.layer_blocks.{level}.0.{part}" for level in (2, 3) for part in PARTS]
    assert nothing <= set(last)


@pytest.mark.parametrize("kind", NANO)
def test_images_without_objects_have_losses_too(kind, images):
    model = build_detector(spec_of("ln", "nano"), NANO[kind])
    losses = model(images, [target(), target()])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_rpn_box"] == 0
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_sampling_follows_torchs_seed(images):
    model = build_detector(spec_of("ln", "nano"), MASK_RCNN_NANO)
    first, again, other = (
        torch.manual_seed(seed) and sum(model(images, TRUTH).values()).item() for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("kind", NANO)
def test_detections(kind, images):
    torch.manual_seed(0)
    spec = NANO[kind].replace(score=0.0)
    model = build_detector(spec_of("ln", "nano"), spec).eval()
    found = model(images)
    assert len(found) == 2
    for each in found:
        count = len(each["boxes"])
        assert 0 < count <= spec.detections
        assert each["boxes"].shape == (count, 4)
        assert each["masks"].shape == (count, 128, 128)
        assert each["masks"].dtype == torch.bool
        assert each["labels"].dtype == torch.int64
        assert each["labels"].min() >= 0
        assert each["labels"].max() < 10
        assert each["scores"].tolist() == sorted(each["scores"].tolist(), reverse=True)
        assert each["boxes"].min() >= 0
        assert each["boxes"].max() <= 128
    none = model.detector.replace(score=1.0)
    model.detector = none
    assert [len(f["boxes"]) for f in model(images)] == [0, 0]
    assert model(images)[0]["masks"].shape == (0, 128, 128)


def test_images_of_different_sizes_and_results_in_original_sizes():
    torch.manual_seed(0)
    model = build_detector(spec_of("ln", "nano"), MASK_RCNN_NANO.replace(score=0.0)).eval()
    images = [torch.randn(3, 100, 70), torch.randn(3, 60, 128)]
    wide, flat = model(images)
    assert wide["boxes"][:, [0, 2]].max() <= 70
    assert wide["boxes"][:, [1, 3]].max() <= 100
    assert wide["masks"].shape[1:] == (100, 70)
    assert flat["masks"].shape[1:] == (60, 128)
    padded = torch.zeros(2, 3, 128, 128)
    padded[0, :, :100, :70], padded[1, :, :60] = images
    sizes = [{"size": (100, 70), "original": (200, 70)}, {"size": (60, 128)}]
    twice, same = model(padded, sizes)
    assert torch.allclose(twice["boxes"], wide["boxes"] * torch.tensor([1.0, 2, 1, 2]))
    assert twice["masks"].shape[1:] == (200, 70)
    assert torch.equal(same["boxes"], flat["boxes"])
    assert torch.equal(same["masks"], flat["masks"])


def test_box_and_mask_losses_by_hand():
    """With constant heads, losses are known from the number of samples alone."""
    torch.manual_seed(0)
    model = build_detector(spec_of("ln", "nano"), MASK_RCNN_NANO)
    head, mask = model.box_heads[0], model.mask_heads[0][-1]
    for layer in (head.logits, head.boxes, mask):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(head.logits.bias[-1:], math.log(10.0))  # the background: 10 of 20
    truth = TRUTH[0]
    model.detector = model.detector.replace(roi={"samples": 8, "positive_fraction": 1.0})
    proposals = [truth["boxes"] + torch.tensor([0.0, 0, 4, 0]), truth["boxes"][:0]]
    maps = [torch.randn(2, 48, 32 >> i, 32 >> i) for i in range(4)]
    losses = model.roi_losses(maps, proposals, [(128, 128)] * 2, TRUTH)
    # Two true boxes and two proposals, all positive: 1 of 20 each.
    assert losses["loss_class"].item() == pytest.approx(math.log(20), rel=1e-5)
    assert losses["loss_mask"].item() == pytest.approx(math.log(2), rel=1e-5)
    widths = (44, 44)
    wanted = [abs(math.log(40 / w) / 0.2) + 2 / w / 0.1 for w in widths]
    assert losses["loss_box"].item() == pytest.approx(sum(wanted) / 4, rel=1e-4)


def giou(a, b):
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = a, b
    inside = max(min(ax1, bx1) - max(ax0, bx0), 0) * max(min(ay1, by1) - max(ay0, by0), 0)
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - inside
    around = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
    return inside / union - (around - union) / around


def test_the_cascade_refines_and_weights_its_stages():
    torch.manual_seed(0)
    model = build_detector(spec_of("ln", "nano"), CASCADE_MASK_RCNN_NANO)
    for head in model.box_heads:
        for layer in (head.logits, head.boxes):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    # Every stage moves each box by 0.1 widths: its bias divided by its standard deviation.
    shifts = [0.1 / stage.box_std[0] for stage in CASCADE_MASK_RCNN_NANO.roi.stages]
    for head, shift in zip(model.box_heads, shifts, strict=True):
        head.boxes.bias.data.view(-1, 4)[:, 0] = shift
    seen = []
    original = model._pool
    model._pool = lambda maps, boxes, size: (
        seen.append((size, boxes)) or original(maps, boxes, size)
    )
    maps = [torch.randn(1, 48, 32 >> i, 32 >> i) for i in range(4)]
    truth = target((40, 40, 80, 80))
    losses = model.roi_losses(maps, [torch.tensor([[30.0, 40, 70, 80]])], [(128, 128)], [truth])
    boxes = [box[0] for size, box in seen if size == 7]
    for at, moved in zip(boxes, (30.0, 34.0, 38.0), strict=True):
        assert len(at) == 2  # the true box, added again, and the refined one
        assert sorted(at[:, 0].tolist()) == pytest.approx(sorted([40.0, moved]), abs=1e-3)
    # IoU 0.6, 34/46 and 38/42: positive in all three stages, so each loss is of two boxes.
    for stage, (moved, weight) in enumerate(zip((30, 34, 38), (1, 0.5, 0.25), strict=True), 1):
        pairs = [(x + 4, 40, x + 44, 80) for x in (40, moved)]
        wanted = sum(1 - giou(pair, (40, 40, 80, 80)) for pair in pairs) / 2 * 10 * weight
        assert losses[f"loss_box_{stage}"].item() == pytest.approx(wanted, rel=1e-3)
        entropy = weight * math.log(11)
        assert losses[f"loss_class_{stage}"].item() == pytest.approx(entropy, rel=1e-4)


def test_the_cascade_averages_logits_and_mask_probabilities(images):
    torch.manual_seed(0)
    model = build_detector(spec_of("ln", "nano"), CASCADE_MASK_RCNN_NANO).eval()
    for head, at in zip(model.box_heads, (1.0, 2.0, 6.0), strict=True):
        for layer in (head.logits, head.boxes):
            nn.init.zeros_(layer.weight)
        head.logits.bias.data.zero_()[4] = at
    for head, at in zip(model.mask_heads, (0.0, 1.0, 2.0), strict=True):
        nn.init.zeros_(head[-1].weight)
        nn.init.constant_(head[-1].bias, at)
    found = model.detect(images, [(128, 128)] * 2)
    expected = math.exp(3) / (math.exp(3) + 10)
    assert found[0]["labels"][0] == 4
    assert found[0]["scores"][0].item() == pytest.approx(expected, rel=1e-5)
    mean = sum(1 / (1 + math.exp(-at)) for at in (0.0, 1.0, 2.0)) / 3
    assert found[0]["probabilities"][0].unique().tolist() == pytest.approx([mean])


def test_the_fpn_is_by_hand():
    torch.manual_seed(0)
    model = build_detector(spec_of("ln", "nano"), MASK_RCNN_NANO)
    maps = [torch.randn(1, width, *size) for width, size in
            zip((24, 48, 96, 192), ((25, 18), (13, 9), (7, 5), (4, 3)), strict=True)]  # fmt: skip
    found = model.fpn(maps)
    layers = model.fpn.pyramid
    assert isinstance(layers, FeaturePyramidNetwork)
    above = None
    for level in (3, 2, 1, 0):
        above = layers.inner_blocks[level](maps[level]) + (
            0 if above is None else F.interpolate(above, size=maps[level].shape[-2:])
        )
        assert torch.allclose(found[level], layers.layer_blocks[level](above), atol=1e-6)
    assert torch.equal(found[4], found[3][..., ::2, ::2])


def test_backbones_have_the_papers_output_norms():
    sizes = {"T": 2880, "S": 2880, "B": 3840, "L": 5760, "XL": 7680}
    for size, count in sizes.items():
        with torch.device("meta"):
            model = build_detector(MODELS[f"ConvNeXt-{size}"], MASK_RCNN)
        norms = model.backbone.norms
        assert sum(p.numel() for p in norms.parameters()) == count
        assert {norm.eps for norm in norms} == {1e-6}
    with torch.device("meta"):
        resnet = build_detector(spec_of("resnet"), CASCADE_MASK_RCNN)
    assert not list(resnet.backbone.norms.parameters())
    assert not any("final" in name or "head" in name for name in resnet.backbone.state_dict())


@pytest.mark.parametrize("layout", ["ours", "timm", "official", "torchvision"])
def test_backbones_start_from_the_files_of_classifiers(layout, tmp_path):
    spec = spec_of("downsample", "nano")
    classifier = Network(spec.replace(num_classes=7))
    for norm in classifier.modules():
        if isinstance(norm, nn.LayerNorm):
            nn.init.uniform_(norm.weight)
    write(classifier, tmp_path / "weights.pth", layout)
    model = build_detector(spec, MASK_RCNN_NANO, weights=tmp_path / "weights.pth")
    tensors = classifier.state_dict()
    for name, tensor in model.backbone.state_dict().items():
        if name.startswith("norms."):
            assert torch.equal(tensor, torch.full_like(tensor, name.endswith("weight")))
        else:
            assert torch.equal(tensor, tensors[name]), name
    unused = model.backbone.load(from_state_dict(tensors, classifier.spec))
    assert unused == ["norm.weight", "norm.bias", "head.weight", "head.bias"]


def test_wrong_requests_are_named():
    with pytest.raises(UsageError, match=r"4 stages.*1"):
        build_detector(MODELS["ConvNeXt-S (iso.)"])
    with pytest.raises(SpecError, match="num_classes is 0"):
        MASK_RCNN.replace(num_classes=0)
    with pytest.raises(UnknownNameError, match=r"'samples'"):
        MASK_RCNN.replace(samples=3)
    with pytest.raises(UnknownNameError, match=r"'sample'.*samples"):
        MASK_RCNN.replace(rpn={"sample": 3})
    model = build_detector(spec_of("ln", "nano"), MASK_RCNN_NANO)
    with pytest.raises(ValueError, match="targets"):
        model(torch.zeros(1, 3, 64, 64))
