"""Both ends of the roadmap against torchvision's networks, weight by weight and logit by logit."""

import pytest
import torch
from torch import nn

from modernize.errors import WeightsError
from modernize.network import Network
from modernize.spec import NetSpec
from modernize.steps import spec_of
from modernize.torchvision_ops import make_torchvision_importable
from modernize.weights import TORCHVISION, find_layout, from_torchvision, pairs

make_torchvision_importable()
from torchvision import models  # noqa: E402
from torchvision.models.convnext import CNBlockConfig, ConvNeXt  # noqa: E402
from torchvision.models.resnet import Bottleneck, ResNet  # noqa: E402


def randomise(network, seed=0):
    """Fills every tensor, so that none of them can be mixed up or left out unnoticed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(3)
            elif name.endswith(("running_var", "layer_scale")) or (
                name.endswith("weight") and tensor.ndim == 1
            ):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1:  # biases and running means
                tensor.normal_(0, 0.1)
            else:
                tensor.normal_(0, tensor[0].numel() ** -0.5)
    return network


def torchvisions(factory, *args, **kwargs):
    """One of torchvision's networks, without drawing its own weights first."""
    with torch.device("meta"):
        network = factory(*args, **kwargs)
    return randomise(network.to_empty(device="cpu"))


def ours(theirs, spec):
    network = Network(spec)
    network.load_state_dict(from_torchvision(theirs.state_dict(), spec))
    return network


def small_resnet():
    return torchvisions(ResNet, Bottleneck, [1, 2, 1, 1], num_classes=5)


def small_convnext():
    stages = [(8, 16, 1), (16, 32, 2), (32, 64, 1), (64, None, 1)]
    return torchvisions(ConvNeXt, [CNBlockConfig(*stage) for stage in stages], num_classes=5)


SMALL_RESNET = NetSpec(depths=(1, 2, 1, 1), width=64, num_classes=5)
SMALL_CONVNEXT = spec_of("downsample", depths=(1, 2, 1, 1), width=8, num_classes=5)

ENDS = {
    "resnet50": (lambda: torchvisions(models.resnet50), spec_of("resnet"), 128),
    "resnet200": (
        lambda: torchvisions(ResNet, Bottleneck, [3, 24, 36, 3]),
        spec_of("resnet", "resnet200"),
        64,
    ),
    "convnext_tiny": (lambda: torchvisions(models.convnext_tiny), spec_of("downsample"), 128),
    "convnext_base": (
        lambda: torchvisions(models.convnext_base),
        spec_of("downsample", "resnet200"),
        64,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_logits_are_torchvisions(name):
    make, spec, size = ENDS[name]
    theirs = make().eval()
    network = ours(theirs, spec).eval()
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected, logits = theirs(x), network(x)
        scale = expected.std()
        assert 1e-2 < scale < 1e4
        assert not torch.allclose(expected[0] / scale, expected[1] / scale, atol=1e-2)
        torch.testing.assert_close(logits / scale, expected / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "spec", "training"),
    [(small_resnet, SMALL_RESNET, True), (small_convnext, SMALL_CONVNEXT, False)],
    ids=["resnet", "convnext"],
)
def test_gradients_are_torchvisions(make, spec, training):
    theirs = make().train(training)
    network = ours(theirs, spec).train(training)
    x, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3])
    for each in (theirs, network):
        nn.functional.cross_entropy(each(x), labels).backward()

    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    buffers = dict(theirs.named_buffers())  # in training, the running statistics have moved too
    expected = from_torchvision(gradients | buffers, spec)
    for name, parameter in network.named_parameters():
        scale = expected[name].abs().max()
        assert scale > 0
        torch.testing.assert_close(
            parameter.grad / scale, expected[name] / scale, rtol=1e-4, atol=1e-4, msg=name
        )
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(buffer, expected[name], msg=name)


@pytest.mark.parametrize(
    ("make", "spec"),
    [(small_resnet, SMALL_RESNET), (small_convnext, SMALL_CONVNEXT)],
    ids=["resnet", "convnext"],
)
def test_every_fault_is_named_at_once(make, spec):
    weights = dict(make().state_dict())
    names = list(weights)
    del weights[names[0]], weights[names[7]]
    weights[names[3]] = torch.zeros(2, 3)
    weights["ema.decay"] = torch.zeros(1)
    with pytest.raises(WeightsError) as error:
        from_torchvision(weights, spec)
    message = str(error.value)
    assert f"missing: {names[0]}\n" in message
    assert f"missing: {names[7]}\n" in message
    assert "unexpected: ema.decay\n" in message
    assert f"misshapen: {names[3]} is (2, 3), not (" in message
    assert len(message.splitlines()) == 5


def test_a_head_for_other_classes_is_named():
    with pytest.raises(WeightsError, match=r"fc\.weight is \(5, 2048\), not \(9, 2048\)"):
        from_torchvision(small_resnet().state_dict(), SMALL_RESNET.replace(num_classes=9))


def test_the_weights_of_the_other_end_do_not_fit():
    with pytest.raises(WeightsError, match=r"missing: conv1\.weight"):
        from_torchvision(small_convnext().state_dict(), SMALL_RESNET)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("patchify", "stem is patchify where it has resnet"),
        ("ln", "downsampling is block where it has separate"),
    ],
)
def test_a_network_between_the_ends_has_no_layout(step, reason):
    with pytest.raises(WeightsError) as error:
        from_torchvision({}, spec_of(step))
    assert reason in str(error.value)
    assert all(layout.name in str(error.value) for layout in TORCHVISION)


def test_a_convnext_without_layer_scale_has_no_layout():
    with pytest.raises(WeightsError, match="it has a Layer Scale"):
        find_layout(TORCHVISION, SMALL_CONVNEXT.replace(layer_scale=0.0))
    find_layout(TORCHVISION, SMALL_CONVNEXT.replace(layer_scale=0.5))


@pytest.mark.parametrize("spec", [SMALL_RESNET, SMALL_CONVNEXT], ids=["resnet", "convnext"])
def test_the_table_is_one_to_one_and_keeps_sizes(spec):
    table = pairs(find_layout(TORCHVISION, spec), spec)
    assert [pair.ours for pair in table] == list(Network(spec).state_dict())
    assert len({pair.theirs for pair in table}) == len(table)
    for pair in table:
        assert torch.Size(pair.their_shape).numel() == torch.Size(pair.our_shape).numel()


def test_tensors_share_memory_with_those_given():
    weights = small_convnext().state_dict()
    mine = from_torchvision(weights, SMALL_CONVNEXT)
    name = "features.1.0.block.3.weight"
    assert mine["stages.0.0.branch.2.weight"].data_ptr() == weights[name].data_ptr()
    assert mine["stages.0.0.branch.2.weight"].shape == (32, 8, 1, 1)
