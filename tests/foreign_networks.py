"""Networks of torchvision, timm and the official release, small, beside the same of ours."""

import itertools

import pytest
import timm
import timm.models.convnext
import timm.models.resnet
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import Bottleneck, ResNet

from modernize.models import MODELS
from modernize.spec import NetSpec
from modernize.steps import spec_of


def randomise(network, seed=0):
    """Fills every tensor, so that none of them can be mixed up or left out unnoticed."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(3)
            elif name.endswith(("running_var", "layer_scale", "gamma")) or (
                name.endswith("weight") and tensor.ndim == 1
            ):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim == 1:  # biases and running means
                tensor.normal_(0, 0.1)
            else:
                tensor.normal_(0, tensor[0].numel() ** -0.5)
    return network


def made(factory, *args, **kwargs):
    """A network of someone else, without drawing its own weights first."""
    with torch.device("meta"):
        network = factory(*args, **kwargs)
    return randomise(network.to_empty(device="cpu"))


class OfficialNorm(nn.Module):
    """LayerNorm over the channels of (N, C, H, W), or of (N, C), as the formula has it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, unbiased=False)
        shape = (-1,) + (1,) * (x.ndim - 2)
        return (x - mean) / (variance + 1e-6).sqrt() * self.weight.view(shape) + self.bias.view(
            shape
        )


class OfficialBlock(nn.Module):
    """A block with the names of the official release; its 1x1s are linear layers."""

    def __init__(self, width, scaled):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = OfficialNorm(width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width)) if scaled else None

    def forward(self, x):
        out = self.norm(self.dwconv(x)).movedim(1, -1)
        out = self.pwconv2(F.gelu(self.pwconv1(out)))
        return x + (out if self.gamma is None else self.gamma * out).movedim(-1, 1)


class Official(nn.Module):
    """A network with the names of the official release."""

    def __init__(self, depths, widths, num_classes, scaled=True):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), OfficialNorm(widths[0]))
        between = [
            nn.Sequential(OfficialNorm(a), nn.Conv2d(a, b, 2, stride=2))
            for a, b in itertools.pairwise(widths)
        ]
        self.downsample_layers = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList(
            nn.Sequential(*(OfficialBlock(width, scaled) for _ in range(depth)))
            for depth, width in zip(depths, widths, strict=True)
        )
        self.norm = OfficialNorm(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, x):
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(x.mean((2, 3))))


class OfficialIsotropic(nn.Module):
    """An isotropic network with the names of the official release."""

    def __init__(self, depth, width, num_classes, scaled=True):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 16, stride=16)
        self.blocks = nn.ModuleList(OfficialBlock(width, scaled) for _ in range(depth))
        self.norm = OfficialNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x.mean((2, 3))))


def small_resnet():
    return made(ResNet, Bottleneck, [1, 2, 1, 1], num_classes=5)


def small_convnext():
    stages = [(8, 16, 1), (16, 32, 2), (32, 64, 1), (64, None, 1)]
    return made(ConvNeXt, [CNBlockConfig(*stage) for stage in stages], num_classes=5)


def timms_resnet(block=timm.models.resnet.Bottleneck, **options):
    return made(timm.models.resnet.ResNet, block, [1, 2, 1, 1], num_classes=5, **options)


def timms_convnext(**options):
    sizes = {"depths": (1, 2, 1, 1), "dims": (8, 16, 32, 64), "num_classes": 5}
    return made(timm.models.convnext.ConvNeXt, **sizes, **options)


def official(**options):
    return made(Official, (1, 2, 1, 1), (8, 16, 32, 64), 5, **options)


SMALL_RESNET = NetSpec(depths=(1, 2, 1, 1), width=64, num_classes=5)
SMALL_CONVNEXT = spec_of("downsample", depths=(1, 2, 1, 1), width=8, num_classes=5)
SMALL_ISOTROPIC = MODELS["ConvNeXt-L (iso.)"].replace(depths=(3,), width=16, num_classes=5)
FOREIGN = {  # the network of others, the same of ours, and the layout's name
    "torchvision-resnet": (small_resnet, SMALL_RESNET, "torchvision"),
    "torchvision-convnext": (small_convnext, SMALL_CONVNEXT, "torchvision"),
    "timm-resnet": (timms_resnet, SMALL_RESNET, "timm"),
    "timm-resnet-grey": (
        lambda: timms_resnet(in_chans=1), SMALL_RESNET.replace(in_channels=1), "timm"
    ),
    "timm-convnext": (timms_convnext, SMALL_CONVNEXT, "timm"),
    "timm-convnext-unscaled": (
        lambda: timms_convnext(ls_init_value=None, kernel_sizes=5),
        SMALL_CONVNEXT.replace(layer_scale=0.0, kernel_size=5),
        "timm",
    ),
    "timm-conv-mlp": (lambda: timms_convnext(conv_mlp=True), SMALL_CONVNEXT, "timm-conv-mlp"),
    "official": (official, SMALL_CONVNEXT, "official"),
    "official-unscaled": (
        lambda: official(scaled=False), SMALL_CONVNEXT.replace(layer_scale=0.0), "official"
    ),
    "official-isotropic": (
        lambda: made(OfficialIsotropic, 3, 16, 5), SMALL_ISOTROPIC, "official"
    ),
    "official-isotropic-unscaled": (
        lambda: made(OfficialIsotropic, 3, 16, 5, scaled=False),
        SMALL_ISOTROPIC.replace(layer_scale=0.0),
        "official",
    ),
}  # fmt: skip
every_foreign = pytest.mark.parametrize(("make", "spec", "layout"), FOREIGN.values(), ids=FOREIGN)


def check_logits(theirs, network, spec, size=64):
    x = torch.randn(2, spec.in_channels, size, size)
    with torch.no_grad():
        expected, logits = theirs.eval()(x), network.eval()(x)
    scale = expected.std()
    assert 1e-2 < scale < 1e4
    assert not torch.allclose(expected[0] / scale, expected[1] / scale, atol=1e-2)
    torch.testing.assert_close(logits / scale, expected / scale, rtol=1e-5, atol=1e-5)


def check_same(tensors, others):
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(others[name], tensor, rtol=0, atol=0, msg=name)
