"""The networks: the parts of a block at each step, and that every one of them can be trained.

What a block must look like is written down here in full, step by step, from the paper; what it does
look like is read from the built modules, in the order in which they run.
"""

import copy
import functools
import operator
import pickle

import pytest
import torch
from torch import fx, nn

from modernize import build
from modernize import network as n
from modernize.network import Network
from modernize.spec import Downsampling, NetSpec, Norm
from modernize.steps import STEPS, spec_of

KEYS = [step.key for step in STEPS]
every_step = pytest.mark.parametrize("step", KEYS)


def since(step):
    """The keys of a step and all that follow it."""
    return KEYS[KEYS.index(step) :]


# -- structure -----------------------------------------------------------------------------------

# The second block of a stage, as it runs: k x k convolutions (dw: depthwise), the addition as "+".
BLOCKS = {
    "resnet": "1x1 norm act 3x3 norm act 1x1 norm + act",
    "recipe": "1x1 norm act 3x3 norm act 1x1 norm + act",
    "stage-ratio": "1x1 norm act 3x3 norm act 1x1 norm + act",
    "patchify": "1x1 norm act 3x3 norm act 1x1 norm + act",
    "depthwise": "1x1 norm act dw3x3 norm act 1x1 norm + act",
    "width": "1x1 norm act dw3x3 norm act 1x1 norm + act",
    "inverted": "1x1 norm act dw3x3 norm act 1x1 norm + act",
    "move-up": "dw3x3 norm act 1x1 norm act 1x1 norm + act",
    "kernel-5": "dw5x5 norm act 1x1 norm act 1x1 norm + act",
    "kernel-7": "dw7x7 norm act 1x1 norm act 1x1 norm + act",
    "kernel-9": "dw9x9 norm act 1x1 norm act 1x1 norm + act",
    "kernel-11": "dw11x11 norm act 1x1 norm act 1x1 norm + act",
    "gelu": "dw7x7 norm act 1x1 norm act 1x1 norm + act",
    "fewer-acts": "dw7x7 norm 1x1 norm act 1x1 norm +",
    "fewer-norms": "dw7x7 norm 1x1 act 1x1 +",
    "ln": "dw7x7 norm 1x1 act 1x1 +",
    "downsample": "dw7x7 norm 1x1 act 1x1 scale +",
}
STAGES = {
    "resnet50": {"resnet": [3, 4, 6, 3], "recipe": [3, 4, 6, 3], "stage-ratio": [3, 3, 9, 3]},
    "resnet200": {"resnet": [3, 24, 36, 3], "recipe": [3, 24, 36, 3], "stage-ratio": [3, 3, 27, 3]},
}


class Leaves(fx.Tracer):
    """Traces a block down to modules that hold no others."""

    def is_leaf_module(self, module, _name):
        return not list(module.children())


def running(module):
    """What a module runs, in order: its leaves, and "+" for an addition."""
    for node in Leaves().trace(module).nodes:
        if node.op == "call_module":
            yield module.get_submodule(node.target)
        elif node.op == "call_function":
            assert node.target is operator.add
            yield "+"


def described(leaf):
    """A leaf in the words of the tables above."""
    if isinstance(leaf, nn.Conv2d):
        depthwise = "dw" if leaf.groups == leaf.in_channels > 1 else ""
        stride = f"/{leaf.stride[0]}" if leaf.stride != (1, 1) else ""
        return f"{depthwise}{leaf.kernel_size[0]}x{leaf.kernel_size[1]}{stride}"
    words = {
        nn.BatchNorm2d: "norm",
        nn.LayerNorm: "norm",
        nn.ReLU: "act",
        nn.GELU: "act",
        n.LayerScale: "scale",
        nn.MaxPool2d: "pool",
    }
    return leaf if leaf == "+" else next(w for kind, w in words.items() if isinstance(leaf, kind))


def text_of(module):
    return " ".join(described(leaf) for leaf in running(module) if not is_identity(leaf))


def is_identity(leaf):
    return isinstance(leaf, nn.Identity)


@functools.cache
def built(step, regime="resnet50"):
    """The network of a step, without weights."""
    with torch.device("meta"):
        return build(step, regime)


def blocks_of(network):
    return [list(stage.blocks) for stage in network.stages]


def convs(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)]


def test_the_tables_here_name_every_step():
    assert list(BLOCKS) == KEYS


@pytest.mark.integration
@pytest.mark.parametrize("regime", ["resnet50", "resnet200"])
@every_step
def test_stages_and_blocks(step, regime):
    blocks = blocks_of(built(step, regime))
    depths = STAGES[regime].get(step, STAGES[regime]["stage-ratio"])
    assert [len(stage) for stage in blocks] == depths
    for stage in blocks:
        assert {text_of(block) for block in stage[1:]} == {BLOCKS[step]}


@every_step
def test_first_blocks_carry_stride_and_shortcut(step):
    first = [stage[0] for stage in blocks_of(built(step))]
    plain = BLOCKS[step]
    spatial = next(word for word in plain.split() if "x" in word and word != "1x1")
    strided = plain.replace(spatial, f"{spatial}/2")
    # The shortcut changes shape in stage 1 as well while the residual stream is the wide one.
    classic = step not in since("inverted")
    assert text_of(first[0]) == (plain.replace("+", "1x1 norm +") if classic else plain)
    for block in first[1:]:
        if step == "downsample":
            assert text_of(block) == plain
        else:
            assert text_of(block) == strided.replace("+", "1x1/2 norm +")


# Channels of the convolutions of stage 3's first block: its branch, then its shortcut.
CHANNELS = {
    "resnet": [(512, 256), (256, 256), (256, 1024), (512, 1024)],
    "recipe": [(512, 256), (256, 256), (256, 1024), (512, 1024)],
    "stage-ratio": [(512, 256), (256, 256), (256, 1024), (512, 1024)],
    "patchify": [(512, 256), (256, 256), (256, 1024), (512, 1024)],
    "depthwise": [(512, 256), (256, 256), (256, 1024), (512, 1024)],
    "width": [(768, 384), (384, 384), (384, 1536), (768, 1536)],
    "inverted": [(192, 1536), (1536, 1536), (1536, 384), (192, 384)],
    # from here on the strided convolution runs at the width of the stage before
    **{step: [(192, 192), (192, 1536), (1536, 384), (192, 384)] for step in since("move-up")},
    "downsample": [(384, 384), (384, 1536), (1536, 384)],
}


@every_step
def test_channels_of_a_stages_first_block(step):
    block = blocks_of(built(step))[2][0]
    assert [(c.in_channels, c.out_channels) for c in convs(block)] == CHANNELS[step]


@every_step
def test_biases(step):
    network = built(step)
    for stage in blocks_of(network):
        for block in stage:
            expected = {step in ("ln", "downsample")}
            assert {c.bias is not None for c in convs(block.branch)} == expected
            assert all(c.bias is None for c in convs(block.shortcut))
    assert (network.stem[0].bias is not None) == (step in since("patchify"))
    assert network.head.bias is not None


@every_step
def test_stem(step):
    network = built(step)
    assert network.stem[0].in_channels == 3
    if step not in since("patchify"):
        assert text_of(network.stem) == "7x7/2 norm act pool"
        assert network.stem[0].padding == (3, 3)
    else:
        assert text_of(network.stem) == ("4x4/4 norm" if step == "downsample" else "4x4/4")


@every_step
def test_between_stages_and_before_the_head(step):
    network = built(step)
    if step == "downsample":
        between = [stage.downsample for stage in network.stages]
        assert is_identity(between[0])
        assert {text_of(downsample) for downsample in between[1:]} == {"norm 2x2/2"}
        assert all(c.bias is not None for downsample in between[1:] for c in convs(downsample))
        assert isinstance(network.norm, nn.LayerNorm)
    else:
        assert all(is_identity(stage.downsample) for stage in network.stages)
        assert is_identity(network.norm)


@every_step
def test_kinds_of_norm_and_activation(step):
    network = built(step)
    layer = step in ("ln", "downsample")
    assert {isinstance(m, nn.LayerNorm) for m in norms(network)} == {layer}
    assert {m.eps for m in norms(network)} == {1e-6 if layer else 1e-5}
    assert {len(m.weight.shape) for m in norms(network)} == {1}
    kinds = {type(m) for m in network.modules() if isinstance(m, nn.ReLU | nn.GELU)}
    assert kinds == {n.GELU if step in since("gelu") else nn.ReLU}
    scales = [m for m in network.modules() if isinstance(m, n.LayerScale)]
    assert len(scales) == (18 if step == "downsample" else 0)


# -- layers --------------------------------------------------------------------------------------


def test_layer_norm_normalises_the_channels_of_each_position():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 4)
    layer = n.LayerNorm2d(5, eps=1e-6)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    centred = x - x.mean(1, keepdim=True)
    by_hand = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    by_hand = by_hand * layer.weight.view(-1, 1, 1) + layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(layer(x), by_hand)


def test_layer_scale_scales_channels_and_starts_where_the_spec_says():
    layer = n.LayerScale(3, 1e-6)
    assert layer.gamma.tolist() == pytest.approx([1e-6] * 3)
    with torch.no_grad():
        layer.gamma.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert layer(torch.ones(1, 3, 2, 2))[0, :, 1, 1].tolist() == [1, 2, 3]


def test_drop_path_drops_whole_images_and_keeps_the_expectation():
    torch.manual_seed(0)
    layer, x = n.DropPath(0.25), torch.ones(4000, 2, 3, 3)
    dropped = layer.train()(x).flatten(1)
    assert (dropped == dropped[:, :1]).all()
    assert sorted(set(dropped[:, 0].tolist())) == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert layer.eval()(x) is x


def test_stochastic_depth_rises_over_the_blocks_and_spares_the_shortcut():
    torch.manual_seed(0)
    network = build("downsample", "nano", drop_path=0.5, layer_scale=1.0)
    rates = [m.rate for m in network.modules() if isinstance(m, n.DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])  # six blocks, none in the first
    block = network.stages[3].blocks[0]
    x = torch.randn(64, 192, 2, 2)
    with torch.no_grad():
        branch, kept = block.eval()(x) - x, block.train()(x) - x
    gone = kept.flatten(1).abs().sum(1) == 0
    assert 16 < gone.sum() < 48
    torch.testing.assert_close(kept[~gone], 2 * branch[~gone])


def test_evaluation_ignores_stochastic_depth():
    torch.manual_seed(0)
    network = build("ln", "nano", drop_path=0.9).eval()
    plain = build("ln", "nano").eval()
    plain.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(x), plain(x))


@pytest.mark.parametrize("step", ["ln", "resnet"])
def test_initialisation(step):
    torch.manual_seed(0)
    by_init = {}
    for init in ("pytorch", "kaiming", "trunc-normal"):
        network = build(step, "nano", init=init)
        by_init[init] = network.stages[3].blocks[0].branch.spatial.weight.std().item()
        linear_zero = not network.head.bias.any().item()
        assert linear_zero == (init != "kaiming")
        if linear_zero:
            assert network.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    conv = network.stages[3].blocks[0].branch.spatial
    fan_in, fan_out = conv.weight[0].numel(), conv.out_channels * conv.weight[0, 0].numel()
    fan_out //= conv.groups if step == "resnet" else 1
    assert by_init["pytorch"] == pytest.approx((1 / 3 / fan_in) ** 0.5, rel=0.1)
    assert by_init["kaiming"] == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    assert by_init["trunc-normal"] == pytest.approx(0.02, rel=0.1)


# -- every network runs, learns, and survives what is done to modules ----------------------------


def nano(step, **fields):
    torch.manual_seed(0)
    return build(step, "nano", num_classes=10, **fields)


def backward(network, size):
    """Runs a batch of two images forward and back; returns the gradients by name."""
    torch.manual_seed(1)
    logits = network(torch.randn(2, network.spec.in_channels, size, size))
    assert logits.shape == (2, network.spec.num_classes)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    return {name: p.grad for name, p in network.named_parameters()}


def assert_learning(gradients, but=()):
    for name, gradient in gradients.items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.any() or name in but, name


@pytest.mark.parametrize("training", [True, False])
@every_step
def test_every_parameter_learns_in_nano(step, training):
    # In training a BatchNorm takes away whatever constant the patchify stem's bias adds, so its
    # gradient is nothing but rounding; in evaluation it has one.
    but = ["stem.0.bias"] if training else []
    assert_learning(backward(nano(step, drop_path=0.1).train(training), 64), but)


@pytest.mark.integration
@every_step
def test_every_parameter_learns_in_resnet50s_regime(step):
    torch.manual_seed(0)
    assert_learning(backward(build(step, num_classes=10), 64), ["stem.0.bias"])


@pytest.mark.integration
@every_step
def test_every_parameter_learns_at_resnet200s_depth(step):
    torch.manual_seed(0)
    spec = spec_of(step, "resnet200", num_classes=10)
    network = Network(spec.replace(width=spec.width // 8))
    assert_learning(backward(network, 64), ["stem.0.bias"])


@every_step
def test_both_memory_formats_agree(step):
    network, x = nano(step).eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits = network(x)
        network.to(memory_format=torch.channels_last)
        other = network(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.integration
@pytest.mark.filterwarnings(r"ignore:.*torch\.jit")
@every_step
def test_trace(step):
    network, x = nano(step).eval(), torch.randn(2, 3, 32, 32)
    traced = torch.jit.trace(network, x)
    other = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(traced(other), network(other))


@every_step
def test_copies_and_state_dicts_give_the_same_logits(step):
    network, x = nano(step).eval(), torch.randn(2, 3, 32, 32)
    loaded = Network(network.spec).eval()
    loaded.load_state_dict(network.state_dict())
    with torch.no_grad():
        logits = network(x)
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), loaded):  # noqa: S301
            assert torch.equal(other(x), logits)
            assert other.spec == network.spec


@every_step
def test_other_sizes_channels_and_classes(step):
    network = nano(step).eval()
    with torch.no_grad():
        for height, width in ((32, 32), (64, 96), (75, 61)):
            assert network(torch.randn(1, 3, height, width)).shape == (1, 10)
        grey = build(step, "nano", in_channels=1, num_classes=7).eval()
        assert grey(torch.randn(2, 1, 32, 32)).shape == (2, 7)


def test_more_and_fewer_stages():
    for depths in ((1,), (1, 1), (1, 1, 1, 1, 1)):
        spec = NetSpec(depths=depths, width=4, downsampling=Downsampling.SEPARATE, norm=Norm.LAYER)
        size = spec.total_stride
        assert Network(spec)(torch.randn(1, 3, size, size)).shape == (1, 1000)
