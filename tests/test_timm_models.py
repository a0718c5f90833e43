"""Every step as a model of timm, beside a model that timm has itself."""

import pytest
import timm
import torch
from torch import Tensor, nn

import modernize.timm_models
from modernize import build
from modernize.errors import UsageError
from modernize.weights import to_state_dict

NAMES = list(modernize.timm_models.NAMES)
every_name = pytest.mark.parametrize("name", NAMES)


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 64, 64, generator=torch.Generator().manual_seed(0))


def test_timm_lists_every_step() -> None:
    assert sorted(timm.list_models("roadmap_*")) == sorted(NAMES)
    assert {"roadmap_ln", "roadmap_stage_ratio"} <= set(NAMES)


@every_name
def test_it_is_the_network_of_the_step(name: str) -> None:
    step = modernize.timm_models.NAMES[name]
    network = timm.create_model(name, regime="nano", num_classes=7, in_chans=1).eval()
    ours = build(step, "nano", num_classes=7, in_channels=1).eval()
    ours.load_state_dict(network.state_dict())
    x = images(1)
    assert torch.equal(network(x), ours(x))
    last = network.forward_features(x)
    assert torch.equal(last, ours.features(x)[-1])
    assert torch.equal(network.forward_head(last), network(x))
    assert network.forward_head(last, pre_logits=True).shape == (2, network.num_features)
    assert network.get_classifier() is network.head


@every_name
def test_features_only(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, regime="nano").eval()
    maps = network.features(images())
    for options, stages in (({}, (0, 1, 2, 3)), ({"out_indices": (1, 2)}, (1, 2))):
        torch.manual_seed(0)
        extractor = timm.create_model(name, regime="nano", features_only=True, **options).eval()
        extractor.model.load_state_dict(network.state_dict(), strict=False)
        found = extractor(images())
        assert len(found) == len(stages)
        for stage, own in zip(stages, found, strict=True):
            assert torch.equal(own, maps[stage])
        assert extractor.feature_info.channels() == [network.feature_widths[s] for s in stages]
        assert extractor.feature_info.reduction() == [network.feature_strides[s] for s in stages]


@pytest.mark.integration
def test_it_behaves_as_timms_own() -> None:
    """The end of the road and timm's ConvNeXt of the same size, with the same weights."""
    theirs = timm.create_model("convnext_tiny", num_classes=10, depths=(1, 1, 2, 1)).eval()
    ours = timm.create_model("roadmap_downsample", num_classes=10, depths=(1, 1, 2, 1)).eval()
    assert theirs.load_state_dict(to_state_dict(ours, "timm"))
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # noqa: E731
    x = images()
    close(ours(x), theirs(x))
    close(ours.forward_features(x), theirs.forward_features(x))
    for indices in (None, 2, [1, 3]):
        (_, mine), (_, their) = (m.forward_intermediates(x, indices) for m in (ours, theirs))
        assert len(mine) == len(their)
        for own, other in zip(mine, their, strict=True):
            close(own, other)
    for classes in (0, 3):
        ours.reset_classifier(classes)
        theirs.reset_classifier(classes)
        assert ours(x).shape == theirs(x).shape
        assert ours.num_classes == theirs.num_classes == classes
    ours.reset_classifier(0, "")
    theirs.reset_classifier(0, "")
    assert ours(x).shape == theirs(x).shape == (2, 768, 2, 2)
    for key in ("input_size", "mean", "std", "interpolation"):
        assert ours.pretrained_cfg[key] == theirs.pretrained_cfg[key]
    assert timm.data.resolve_model_data_config(ours)["crop_pct"] == 0.875
    assert isinstance(ours, nn.Module)


def test_wrong_use() -> None:
    with pytest.raises(UsageError, match="pretrained"):
        timm.create_model("roadmap_ln", pretrained=True)
    network = timm.create_model("roadmap_ln", regime="nano")
    with pytest.raises(UsageError, match="max"):
        network.reset_classifier(3, "max")
    with pytest.raises(UsageError, match="NHWC"):
        network.forward_intermediates(images(), output_fmt="NHWC")
