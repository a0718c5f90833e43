"""Mask R-CNN and its cascade: losses by hand, gradients, detections."""

import math

import pytest
import torch
from torch import nn

from modernize import spec_of
from modernize.errors import SpecError, UnknownNameError, UsageError
from modernize.heads import (
    CASCADE_MASK_RCNN,
    CASCADE_MASK_RCNN_NANO,
    MASK_RCNN,
    MASK_RCNN_NANO,
    build_detector,
)
from modernize.heads.roi import MaskHead
from modernize.models import MODELS
from modernize.network import Network
from modernize.weights import from_state_dict, write

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


@pytest.mark.parametrize("channels_last", [False, True])
def test_masks_of_given_classes_are_those_of_all_classes(channels_last):
    torch.manual_seed(0)
    head = MaskHead(MASK_RCNN_NANO.roi, 48, 10)
    if channels_last:
        head.to(memory_format=torch.channels_last)
    x, labels = torch.randn(7, 48, 14, 14, requires_grad=True), torch.arange(7) + 2
    every, grad = head(x)[torch.arange(7), labels], torch.randn(7, 28, 28)
    found = head.of_classes(x, labels)
    assert torch.allclose(found, every, atol=1e-5)
    weights = [x, *head.parameters()]
    for ours, expected in zip(
        torch.autograd.grad(found, weights, grad), torch.autograd.grad(every, weights, grad),
        strict=True,
    ):  # fmt: skip
        assert torch.allclose(ours, expected, atol=1e-5 * expected.abs().max().item())
