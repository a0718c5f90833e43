"""UperNet: by hand, against other implementations, losses, gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modernize import spec_of
from modernize.errors import SpecError, UsageError
from modernize.heads import UPERNET, UPERNET_NANO, build_segmenter
from modernize.models import MODELS
from modernize.network import Network
from modernize.weights import write


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 128, 96, generator=generator)
    labels = torch.randint(0, 11, (2, 128, 96), generator=generator)
    labels[:, :32] = 255
    return images, labels


@pytest.mark.parametrize("step", ["resnet", "ln", "downsample"])
def test_training_gives_losses_and_gradients_of_every_parameter(step, batch):
    model = build_segmenter(spec_of(step, "nano", layer_scale=1.0), UPERNET_NANO)
    losses = model(*batch)
    assert [*losses] == ["loss", "loss_aux"]
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    alone = build_segmenter(spec_of(step, "nano"), UPERNET_NANO.replace(auxiliary_weight=0.0))
    assert [*alone(*batch)] == ["loss"]


def test_losses_by_hand(batch):
    images, labels = batch
    spec = UPERNET_NANO.replace(dropout=0.0)
    torch.manual_seed(0)
    model = build_segmenter(spec_of("ln", "nano"), spec)
    losses = model(images, labels)
    maps = model.backbone(images)
    for name, logits, weight in (
        ("loss", model.head(maps), 1.0),
        ("loss_aux", model.auxiliary(maps[2]), 0.4),
    ):
        full = F.interpolate(logits, size=(128, 96), mode="bilinear", align_corners=False)
        probability = full.softmax(1).gather(1, labels.where(labels < 255, 0)[:, None])[:, 0]
        total = -probability.log()[labels < 255].sum() * weight
        assert losses[name].item() == pytest.approx(total.item() / labels.numel(), rel=1e-4)
    kept = build_segmenter(spec_of("ln", "nano"), spec.replace(mean_over_all=False))
    logits = torch.randn(2, 11, 32, 24)
    plain = F.cross_entropy(
        F.interpolate(logits, size=(128, 96), mode="bilinear"), labels, ignore_index=255
    )
    assert kept.loss(logits, labels).item() == pytest.approx(plain.item(), rel=1e-5)
    assert kept.loss(logits, torch.full_like(labels, 255)) == 0


def test_logits_have_the_size_of_the_image(batch):
    model = build_segmenter(spec_of("ln", "nano"), UPERNET_NANO).eval()
    with torch.no_grad():
        assert model(batch[0]).shape == (2, 11, 128, 96)
        assert model(torch.zeros(1, 3, 77, 65)).shape == (1, 11, 77, 65)


def test_layers_of_the_head():
    """Every convolution without bias and with BatchNorm, but the classifiers."""
    with torch.device("meta"):
        model = build_segmenter(MODELS["ConvNeXt-T"], UPERNET)
    head = [*model.head.modules(), *model.auxiliary.modules()]
    convs = [m for m in head if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convs if m.bias is not None] == [150, 150]
    assert len([m for m in head if isinstance(m, nn.BatchNorm2d)]) == len(convs) - 2
    assert [m.output_size for m in head if isinstance(m, nn.AdaptiveAvgPool2d)] == [1, 2, 3, 6]
    assert [m.p for m in head if isinstance(m, nn.Dropout2d)] == [0.1, 0.1]
    assert model.head.bottleneck.conv.in_channels == 768 + 4 * 512
    assert model.head.fusion.conv.in_channels == 2048
    auxiliary = sum(p.numel() for p in model.auxiliary.parameters())
    assert auxiliary == 923_798
    assert sum(p.numel() for p in model.parameters()) == 60_242_636


@pytest.mark.slow
def test_upernet_is_that_of_segmentation_models_pytorch():
    library = pytest.importorskip("segmentation_models_pytorch")
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        theirs = library.UPerNet(
            "tu-convnext_tiny", encoder_weights=None, decoder_channels=512, classes=150
        ).eval()
        ours = build_segmenter(MODELS["ConvNeXt-T"], UPERNET.replace(auxiliary_weight=0.0)).eval()
        image = torch.empty(1, 3, 512, 2048)
    counts = []
    for model in (theirs, ours):
        with FlopCounterMode(display=False) as counter:
            model(image)
        counts.append((sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2))
    assert counts[0] == counts[1] == (59_318_838, 938_485_481_472)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["T", "XL"])
def test_upernet_is_that_of_transformers(size):
    library = pytest.importorskip("transformers")

    spec = MODELS[f"ConvNeXt-{size}"]
    stages = [f"stage{number}" for number in (1, 2, 3, 4)]
    backbone = library.ConvNextConfig(
        depths=list(spec.depths), hidden_sizes=list(spec.stream_widths), out_features=stages
    )
    config = library.UperNetConfig(
        backbone_config=backbone, num_labels=150, auxiliary_in_channels=spec.stream_widths[2]
    )
    with torch.device("meta"):
        theirs = library.UperNetForSemanticSegmentation(config)
        ours = build_segmenter(spec, UPERNET)
    counts = [sum(p.numel() for p in model.parameters()) for model in (theirs, ours)]
    assert counts[0] == counts[1]


def test_backbones_start_from_the_files_of_classifiers(tmp_path):
    spec = spec_of("resnet", "nano")
    classifier = Network(spec)
    write(classifier, tmp_path / "resnet.safetensors", "timm")
    model = build_segmenter(spec, UPERNET_NANO, weights=tmp_path / "resnet.safetensors")
    tensors = classifier.state_dict()
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name


def test_wrong_requests_are_named():
    with pytest.raises(UsageError, match=r"4 stages.*1"):
        build_segmenter(MODELS["ConvNeXt-S (iso.)"])
    with pytest.raises(SpecError, match=r"dropout is 1\.5"):
        UPERNET.replace(dropout=1.5)
    with pytest.raises(ValueError, match="labels"):
        build_segmenter(spec_of("ln", "nano"), UPERNET_NANO)(torch.zeros(2, 3, 64, 64))
