"""Custom layers: loaded from one file, identified by its content, and never built without it."""

import json
import os
import signal

import pytest
import torch

from modernize import spec as s
from modernize import spec_of, weights
from modernize.closed_form import closed_form
from modernize.cost import cost, count
from modernize.custom_layers import load_custom_layers
from modernize.errors import CustomLayersError, SpecError, UnknownNameError, WeightsError
from modernize.network import Network
from modernize.spec import CustomLayer, NetSpec
from modernize.steps import step_of

SOURCE = """
import torch
from torch import nn
import torch.nn.functional as F

class StarReLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * F.relu(x) ** 2

class Affine(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x):
        return self.weight * x

def separable(width, kernel_size, stride, bias):
    k, pad = kernel_size, kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(width, width, (k, 1), (stride, 1), (pad, 0), groups=width),
        nn.Conv2d(width, width, (1, k), (1, stride), (0, pad), groups=width, bias=bias),
    )

ACTIVATIONS = {"star-relu": StarReLU}
NORMS = {"affine": Affine}
SPATIAL_CONVS = {"separable": separable}
"""
TINY = {"depths": [1, 2], "width": 4, "num_classes": 3}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def layers(path):
    return load_custom_layers(path)


def with_all(layers):
    named = {"activation": "star-relu", "norm": "affine", "spatial_conv": "separable"}
    custom = {field: layers.named(field, name) for field, name in named.items()}
    return spec_of("downsample", "nano", **TINY).replace(**custom)


def test_a_network_of_custom_layers_is_built_trained_and_counted(layers):
    spec = with_all(layers)
    network = Network(spec)
    kinds = [type(module).__name__ for module in network.modules()]
    assert kinds.count("StarReLU") == 3  # one a block
    assert kinds.count("Affine") == 1 + 1 + 3 + 1  # stem, downsampling, blocks, head
    assert not {"GELU", "LayerNorm2d", "DepthwiseConv2d"} & set(kinds)
    network(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    counted = count(spec, 32)
    assert counted.params == sum(p.numel() for p in network.parameters())
    whole = spec_of("downsample", "nano", **TINY)
    # Of each block, 7 + 7 weights a channel instead of 7 x 7.
    places = 4 * 8**2 + 2 * 8 * 4**2
    assert count(whole, 32).flops - counted.flops == (49 - 14) * places


def test_where_a_stride_or_another_norm_decides(layers):
    """Strided first blocks, shortcuts and BatchNorm's missing biases, with custom layers."""
    spec = spec_of("move-up", "nano", **TINY).replace(
        spatial_conv=layers.named("spatial_conv", "separable")
    )
    network = Network(spec)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert network.stages[0].blocks[0].branch.spatial[1].bias is None
    affine = Network(spec.replace(norm=layers.named("norm", "affine")))
    assert affine.stages[0].blocks[0].branch.spatial[1].bias is not None


def test_the_files_content_is_part_of_the_network(path, layers, forget_custom_layers):
    spec = with_all(layers)
    plain = json.loads(json.dumps(spec.to_dict()))
    assert plain["activation"] == f"star-relu@{layers.digest}"
    assert NetSpec.from_dict(plain) == spec
    path.write_text(SOURCE + "# edited\n")
    forget_custom_layers()
    edited = load_custom_layers(path)
    assert with_all(edited).digest() != spec.digest()
    with pytest.raises(CustomLayersError) as error:
        Network(spec)
    assert all(text in str(error.value) for text in (layers.digest, "mine.py", edited.digest))
    with pytest.raises(CustomLayersError, match=rf"{edited.digest}, not {layers.digest}"):
        load_custom_layers(path, layers.digest)


def test_one_content_is_run_once_and_files_do_not_disturb_each_other(path, layers, tmp_path):
    copy = tmp_path / "copy.py"
    copy.write_text(SOURCE)
    assert load_custom_layers(copy) is load_custom_layers(path) is layers
    first = with_all(layers)
    path.write_text(SOURCE + "# edited\n")
    second = with_all(load_custom_layers(path))
    assert first != second
    for spec in (first, second):
        assert Network(spec)(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_without_its_file_nothing_is_built_or_counted(layers, forget_custom_layers):
    spec = with_all(layers)
    forget_custom_layers()
    for use in (Network, lambda spec: cost(spec, 32), lambda spec: count(spec, 32)):
        with pytest.raises(CustomLayersError, match=r"star-relu|separable|affine"):
            use(spec)
    with pytest.raises(CustomLayersError, match=f"star-relu@{layers.digest}"):
        closed_form(spec, 32)
    assert step_of(spec) is None


def test_weights_never_lead_to_code(path, layers, tmp_path, monkeypatch, forget_custom_layers):
    """A file of weights that names custom layers is refused, and runs nothing, even beside them."""
    network = Network(with_all(layers))
    for file in (tmp_path / "w.pt", tmp_path / "w.safetensors"):
        weights.write(network, file, "ours")
        monkeypatch.chdir(tmp_path)
        path.write_text("raise SystemExit('run')")
        forget_custom_layers()
        with pytest.raises(CustomLayersError, match=rf"{file.name}: .*{layers.digest}"):
            weights.read(file)
        path.write_text(SOURCE)
        load_custom_layers(path)
        loaded = weights.load(file)
        images = torch.randn(1, 3, 32, 32)
        assert torch.equal(loaded.eval()(images), network.eval()(images))
    with pytest.raises(WeightsError, match="activation is star-relu@"):
        weights.write(network, tmp_path / "other.pt", "timm")


def test_a_spec_of_a_file_can_name_a_layer_but_no_path(tmp_path):
    network = Network(spec_of("patchify", "nano", **TINY))
    spec = {**network.spec.to_dict(), "activation": f"{tmp_path}/mine.py@0123456789abcdef"}
    torch.save({"network": network.state_dict(), "spec": spec}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"w\.pt .*: .*activation is"):
        weights.read(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import torch\n1 / 0\n", r"mine.py.* ZeroDivisionError: .*\(line 2\)"),
        ("def f(:\n", r"mine.py.* SyntaxError: .*\(line 1\)"),
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1\n", "ACTIVATIONS, NORMS, SPATIAL_CONVS"),
        ("NORMS = [1]\n", "NORMS is not a dictionary"),
        ("NORMS = {'Mine': int, 'batch': int, 'x': 3}\n",
         "'Mine'.*'batch'.*'x'"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(source, message, path):
    path.write_text(source)
    with pytest.raises(CustomLayersError, match=message):
        load_custom_layers(path)


def test_layers_that_cannot_be_made_or_run_say_why(path):
    path.write_text(
        "from torch import nn\n"
        "class Needy(nn.Module):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "ACTIVATIONS = {'needy': Needy, 'number': lambda: 3, 'flat': nn.Flatten}\n"
    )
    layers = load_custom_layers(path)
    spec = spec_of("patchify", "nano", **TINY)

    def with_(name):
        return spec.replace(activation=layers.named("activation", name))

    with pytest.raises(CustomLayersError, match=r"ACTIVATIONS\['needy'\]\(\) fails: TypeError"):
        Network(with_("needy"))
    with pytest.raises(CustomLayersError, match=r"ACTIVATIONS\['number'\].*int.*torch.nn.Module"):
        Network(with_("number"))
    with pytest.raises(CustomLayersError, match=r"activation flat .* 32 pixels"):
        count(with_("flat"), 32)
    with pytest.raises(
        UnknownNameError, match=r"'needle'.*Did you mean 'needy'.*relu, gelu, needy"
    ):
        layers.named("activation", "needle")
    with pytest.raises(CustomLayersError, match=r"nothing\.py"):
        load_custom_layers(path.with_name("nothing.py"))


ENDS = {
    "sys.exit": "import sys\n\nsys.exit(0)",
    "SystemExit": "\n\nraise SystemExit",
    "KeyboardInterrupt": "\n\nraise KeyboardInterrupt",
    "GeneratorExit": "\n\nraise GeneratorExit",
    "RecursionError": "def again():\n    again()\nagain()",
    "Stop": "class Stop(BaseException):\n    def __str__(self): return 1 / 0\nraise Stop",
}


@pytest.mark.parametrize("kind", ENDS)
def test_nothing_in_a_file_ends_a_command_without_a_word(kind, path):
    path.write_text(ENDS[kind])
    with pytest.raises(CustomLayersError) as error:
        load_custom_layers(path)
    assert str(path) in str(error.value)
    assert kind.replace("sys.exit", "SystemExit") in str(error.value)
    assert (
        "line 2" in str(error.value) if kind == "RecursionError" else "line 3" in str(error.value)
    )


def test_ctrl_c_ends_what_a_file_does(path):
    lines = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    path.write_text(f"{lines}signal.raise_signal(signal.SIGINT)\n" + SOURCE)
    before = signal.getsignal(signal.SIGINT)  # ignored if the tests run in a shell's background
    with pytest.raises(KeyboardInterrupt):
        load_custom_layers(path)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("where", ["__init__", "forward"])
def test_a_layer_that_exits_is_an_error_too(where, path):
    path.write_text(
        "from torch import nn\n\n\nclass Ends(nn.ReLU):\n"
        f"    def {where}(self, *_):\n        raise SystemExit(0)\n\n\n"
        "ACTIVATIONS = {'ends': Ends}\n"
    )
    layers = load_custom_layers(path)
    spec = spec_of("downsample", "nano", **TINY)
    spec = spec.replace(activation=layers.named("activation", "ends"))
    with pytest.raises(CustomLayersError, match=r"ends.*SystemExit: 0 \(line 6\)"):
        count(spec, 32)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "not UTF-8"])
def test_only_a_file_of_text_is_read(kind, tmp_path):
    path = tmp_path / "mine.py"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"# -*- coding: latin-1 -*-\n# \xe9t\xe9\n" + SOURCE.encode())
    with pytest.raises(CustomLayersError, match=r"mine\.py"):
        load_custom_layers(path)


def test_a_name_alone_is_no_layer():
    with pytest.raises(SpecError, match=r"activation is 'star-relu'.*relu, gelu"):
        spec_of("ln", "nano", activation="star-relu")
    with pytest.raises(SpecError, match="stem is"):
        spec_of("ln", "nano", stem=CustomLayer("mine", "0" * 16))
    assert s.CUSTOM_LAYER_FIELDS == ("spatial_conv", "activation", "norm")
