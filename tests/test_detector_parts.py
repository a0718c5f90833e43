"""Parts of Mask R-CNN: boxes, anchors, pooling and masks, against other implementations."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, RoIAlign
from torchvision.ops import roi_align as torchvision_roi_align

from modernize import spec_of
from modernize.heads import (
    CASCADE_MASK_RCNN_NANO,
    MASK_RCNN,
    MASK_RCNN_NANO,
    build_detector,
    masks,
)
from modernize.heads.boxes import BACKGROUND, IGNORED, assign, box_coder, choose, sample, suppress
from modernize.heads.roi import pool
from modernize.heads.roi_align import LARGEST, roi_align
from modernize.heads.rpn import RPN, make_anchors
from modernize.heads.specs import RoISpec, RPNSpec

CPU = torch.device("cpu")


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
    assert torch.allclose(ours, found, atol=1e-5)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_and_its_gradient_are_torchvisions(sampling_ratio, aligned):
    torch.manual_seed(0)
    corner = torch.rand(150, 2) * 120 - 20
    boxes = torch.cat([corner, corner + 90 * torch.rand(150, 2) ** 2], 1)
    boxes[0] = torch.tensor([10.0, 10, 10, 30])  # without area
    boxes[1] = torch.tensor([-60.0, -60, -20, -20])  # outside
    rois = torch.cat([torch.randint(0, 3, (150, 1)).float(), boxes], 1)
    maps = [torch.randn(3, 5, *size, requires_grad=True) for size in ((70, 50), (30, 25), (4, 4))]
    levels, scales, grad = (
        torch.randint(0, 2, (150,)),
        (0.5, 0.25, 0.125),
        torch.randn(150, 5, 7, 7),
    )
    assert 50 < LARGEST < 70
    theirs = torch.zeros(150, 5, 7, 7)
    for level, (x, scale) in enumerate(zip(maps, scales, strict=True)):
        here = levels == level
        theirs[here] = torchvision_roi_align(x, rois[here], 7, scale, sampling_ratio, aligned)
    ours = roi_align(maps, rois, levels, scales, 7, sampling_ratio, aligned)
    assert torch.allclose(ours, theirs, atol=1e-5)
    expected = torch.autograd.grad(theirs, maps, grad)
    found = torch.autograd.grad(ours, maps, grad)
    assert not found[2].any()
    for ours_of, theirs_of in zip(found, expected, strict=True):
        assert torch.allclose(ours_of, theirs_of, atol=1e-4)


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


# -- FPN ------------------------------------------------------------------------------------------


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
