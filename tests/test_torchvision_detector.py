"""Our Mask R-CNN with torchvision's weights and choices gives torchvision's detections."""

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from modernize import spec_of
from modernize.heads import DetectorSpec, build_detector
from modernize.weights import from_state_dict

CLASSES = 91  # of torchvision's, with the background

AS_TORCHVISION = DetectorSpec(num_classes=CLASSES - 1).replace(
    rpn={"round_anchors": True, "min_side": 1e-3},
    roi={"sampling_ratio": 2, "aligned": False, "mask_threshold": 0.0},
    min_side=1e-2,
)
"""Its choices that differ from the paper's, as options; its background is its first class."""


def reference():
    """Torchvision's network with fresh weights, and statistics of BatchNorm unlike the initial."""
    torch.manual_seed(5)
    network = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=256, max_size=320,
        image_mean=[0.0] * 3, image_std=[1.0] * 3,
    )  # fmt: skip
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    predictor = network.roi_heads.box_predictor
    for head, std in ((predictor.cls_score, 0.3), (predictor.bbox_pred, 0.02)):
        torch.nn.init.normal_(head.weight, std=std)  # scores that differ
    for head, std in ((network.rpn.head.cls_logits, 0.1), (network.rpn.head.bbox_pred, 0.02)):
        torch.nn.init.normal_(head.weight, std=std)
    return network.eval()


def without_background(tensor, last):
    """Classes in our order: the background last, or not at all."""
    rows = tensor.unflatten(0, (CLASSES, -1))
    return (rows.roll(-1, 0) if last else rows[1:]).flatten(0, 1)


def translate(state):
    """Torchvision's weights of everything above the backbone, under our names."""
    found = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if name.startswith("backbone.fpn"):
            found[name.replace("backbone.fpn", "fpn.pyramid")] = tensor
        elif layer in (names := {
            "rpn.head.conv.0.0": "rpn.conv",
            "rpn.head.cls_logits": "rpn.logits",
            "rpn.head.bbox_pred": "rpn.boxes",
            "roi_heads.box_head.fc6": "box_heads.0.linears.0",
            "roi_heads.box_head.fc7": "box_heads.0.linears.2",
            "roi_heads.mask_predictor.conv5_mask": "mask_heads.0.8",
            **{f"roi_heads.mask_head.{i}.0": f"mask_heads.0.{2 * i}" for i in range(4)},
        }):  # fmt: skip
            found[f"{names[layer]}.{kind}"] = tensor
        elif layer == "roi_heads.box_predictor.cls_score":
            found[f"box_heads.0.logits.{kind}"] = without_background(tensor, last=True)
        elif layer == "roi_heads.box_predictor.bbox_pred":
            found[f"box_heads.0.boxes.{kind}"] = without_background(tensor, last=False)
        elif layer == "roi_heads.mask_predictor.mask_fcn_logits":
            found[f"mask_heads.0.10.{kind}"] = without_background(tensor, last=False)
    return found


def ours(network):
    model = build_detector(spec_of("resnet"), AS_TORCHVISION).eval()
    body = {**network.backbone.body.state_dict()}
    body |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    assert model.backbone.load(from_state_dict(body)) == ["head.weight", "head.bias"]
    missing, unexpected = model.load_state_dict(translate(network.state_dict()), strict=False)
    assert not unexpected
    assert {name.partition(".")[0] for name in missing} == {"backbone"}
    return model


@pytest.mark.slow
def test_detections_are_torchvisions():
    network = reference()
    model = ours(network)
    images = torch.rand(2, 3, 256, 320)
    with torch.no_grad():
        expected = network(list(images))
        found = model.detect(images, [(256, 320)] * 2)
    assert all(len(e["boxes"]) > 20 for e in expected)
    for e, f in zip(expected, found, strict=True):
        assert torch.equal(e["labels"] - 1, f["labels"])
        assert torch.allclose(e["scores"], f["scores"], atol=1e-4)
        assert torch.allclose(e["boxes"], f["boxes"], atol=1e-4, rtol=0)
        pasted = paste_masks_in_image(f["probabilities"][:, None], f["boxes"], (256, 320))
        assert torch.allclose(e["masks"], pasted, atol=1e-4)
