"""Checkpoints of others against their own networks, weight by weight and logit by logit."""

import pytest
import timm
import timm.models.convnext
import timm.models.resnet
import torch
from foreign_networks import (
    SMALL_CONVNEXT,
    SMALL_RESNET,
    check_logits,
    check_same,
    every_foreign,
    made,
    randomise,
    small_convnext,
    small_resnet,
    timms_convnext,
    timms_resnet,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import specs_of
from torch import nn
from torchvision import models
from torchvision.models.resnet import Bottleneck, ResNet

from modernize import build
from modernize.errors import UnknownNameError, WeightsError
from modernize.layouts import LAYOUT_NAMES, LAYOUTS, OURS, find_layout
from modernize.network import Network
from modernize.spec import Role
from modernize.steps import REGIMES, STEPS, apply_steps, spec_of, step_of
from modernize.weights import (
    from_state_dict,
    load,
    map_tensors,
    read,
    read_start,
    start_from,
    to_state_dict,
    write,
)

ENDS = {  # the network of torchvision, the same of ours, and the size of images
    "resnet50": (models.resnet50, spec_of("resnet"), 128),
    "resnet200": (lambda: ResNet(Bottleneck, [3, 24, 36, 3]), spec_of("resnet", "resnet200"), 64),
    "convnext_tiny": (models.convnext_tiny, spec_of("downsample"), 128),
    "convnext_base": (models.convnext_base, spec_of("downsample", "resnet200"), 64),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", ENDS)
def test_logits_are_torchvisions(name):
    make, spec, size = ENDS[name]
    theirs = made(make)
    weights = from_state_dict(theirs.state_dict())
    assert weights.spec == spec
    assert weights.params == sum(p.numel() for p in theirs.parameters())
    network = Network(spec)
    network.load_state_dict(weights.tensors)
    check_logits(theirs, network, spec, size)


@every_foreign
def test_a_file_of_others_gives_their_logits(make, spec, layout, tmp_path):
    theirs = make()
    path = tmp_path / "any name"
    torch.save(theirs.state_dict(), path)
    weights = read(path)
    assert weights.spec == spec
    assert layout in weights.layout.names
    assert step_of(weights.spec) == (
        None
        if spec.kernel_size == 5 or len(spec.depths) == 1
        else "resnet"
        if spec.width == 64
        else "downsample"
    )
    check_logits(theirs, load(path), spec)


@pytest.mark.integration
@every_foreign
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_others_load_what_we_write(make, spec, layout, suffix, tmp_path):
    network = randomise(Network(spec), seed=1)
    path = tmp_path / f"written{suffix}"
    write(network, path, layout)
    if suffix == ".safetensors":
        from safetensors.torch import load_file

        written = load_file(path)
    else:
        written = torch.load(path, weights_only=True)
        if layout == "official":
            assert list(written) == ["model"]
            written = written["model"]
    theirs = make()
    theirs.load_state_dict(written)
    check_logits(theirs, network, spec)


@pytest.mark.integration
@every_foreign
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_round_trips_are_exact(make, spec, layout, suffix, tmp_path):
    theirs = make().state_dict()
    once, twice = tmp_path / f"once{suffix}", tmp_path / f"twice{suffix}"
    write(from_state_dict(theirs), once, "ours")
    write(read(once), twice, layout)
    assert read(once).spec == spec
    assert read(once).layout is OURS
    check_same(to_state_dict(read(twice), layout), theirs)
    check_same(read(twice).tensors, read(once).tensors)


def test_timm_takes_our_official_file_for_the_release(tmp_path):
    network = randomise(Network(SMALL_CONVNEXT))
    write(network, tmp_path / "official.pth", "official")
    theirs = timms_convnext()
    released = torch.load(tmp_path / "official.pth", weights_only=True)
    theirs.load_state_dict(timm.models.convnext.checkpoint_filter_fn(released, theirs))
    check_logits(theirs, network, SMALL_CONVNEXT)


def test_half_precision_stays_as_it_is(tmp_path):
    theirs = timms_convnext().bfloat16().state_dict()
    write(from_state_dict(theirs), tmp_path / "half.safetensors", "timm")
    check_same(to_state_dict(read(tmp_path / "half.safetensors"), "timm"), theirs)
    network = load(tmp_path / "half.safetensors")
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert torch.equal(network.head.weight, theirs["head.fc.weight"].float())


def test_batch_counters_may_be_missing():
    weights = small_resnet().state_dict()
    for name in [name for name in weights if name.endswith("num_batches_tracked")]:
        del weights[name]
    tensors = from_state_dict(weights).tensors
    Network(SMALL_RESNET).load_state_dict(tensors)
    assert tensors["stem.norm.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("make", "spec", "training"),
    [(small_resnet, SMALL_RESNET, True), (small_convnext, SMALL_CONVNEXT, False)],
    ids=["resnet", "convnext"],
)
def test_gradients_are_torchvisions(make, spec, training):
    theirs = make().train(training)
    network = Network(spec).train(training)
    network.load_state_dict(from_state_dict(theirs.state_dict()).tensors)
    x, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3])
    for each in (theirs, network):
        nn.functional.cross_entropy(each(x), labels).backward()

    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    buffers = dict(theirs.named_buffers())  # in training, the running statistics have moved too
    expected = from_state_dict(gradients | buffers).tensors
    for name, parameter in network.named_parameters():
        scale = expected[name].abs().max()
        assert scale > 0
        torch.testing.assert_close(
            parameter.grad / scale, expected[name] / scale, rtol=1e-4, atol=1e-4, msg=name
        )
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(buffer, expected[name], msg=name)


@every_foreign
@pytest.mark.parametrize("given", [True, False], ids=["spec-given", "spec-found"])
def test_every_fault_is_named_at_once(make, spec, layout, given):
    weights = dict(make().state_dict())
    names = list(weights)
    del weights[names[0]], weights[names[7]]
    weights[names[3]] = torch.zeros(2, 3)
    weights[names[9]] = 7
    weights[names[10]] = weights[names[10]].to(torch.int8)
    weights[names[-1]] = torch.zeros(()).expand(weights[names[-1]].shape)
    weights["ema.decay"] = torch.zeros(1)
    with pytest.raises(WeightsError) as error:
        from_state_dict(weights, spec if given else None)
    first, *lines = (line.strip() for line in str(error.value).splitlines())
    depths = ",".join(map(str, spec.depths))
    assert f"read as {find_layout(layout, spec).title} with depths {depths}" in first
    assert {line for line in lines if not line.startswith("mis")} == {"unexpected: ema.decay"}
    assert f"missing: {names[0]}" in lines
    assert f"missing: {names[7]}" in lines
    assert f"mistyped: {names[9]} is int, not a tensor" in lines
    assert f"mistyped: {names[10]} is int8" in lines
    assert any(line.startswith(f"mistyped: {names[-1]} ") for line in lines)
    assert any(line.startswith(f"misshapen: {names[3]} is (2, 3), not (") for line in lines)
    assert len(lines) == 7


def test_a_head_for_other_classes_is_named():
    with pytest.raises(WeightsError, match=r"fc\.weight is \(5, 2048\), not \(9, 2048\)"):
        from_state_dict(small_resnet().state_dict(), SMALL_RESNET.replace(num_classes=9))


def test_a_given_network_of_another_structure_is_refused():
    with pytest.raises(WeightsError, match=r"torchvision's ConvNeXt: .*stem is resnet"):
        from_state_dict(small_convnext().state_dict(), SMALL_RESNET)


LOOKALIKES = {
    "resnet-d": (
        lambda: timms_resnet(stem_width=32, stem_type="deep", avg_down=True),
        "a stem of several convolutions",
        ["missing: conv1.weight", "unexpected: conv1.0.weight"],
    ),
    "resnext": (
        lambda: made(ResNet, Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4),
        "grouped or wider",
        ["misshapen: layer1.0.conv1.weight is (128, 64, 1, 1), not (64, 64, 1, 1)"],
    ),
    "basic": (
        lambda: timms_resnet(timm.models.resnet.BasicBlock),
        "basic blocks",
        ["missing: layer1.0.conv3.weight"],
    ),
    "squeeze-excitation": (
        lambda: timms_resnet(block_args={"attn_layer": "se"}),
        "squeeze and excitation",
        ["unexpected: layer1.0.se.fc1.weight"],
    ),
    "convnext-v2": (
        lambda: timms_convnext(use_grn=True, ls_init_value=None),
        "Global Response Normalization",
        ["unexpected: stages.0.blocks.0.mlp.grn.weight"],
    ),
    "overlapping-stem": (
        lambda: timms_convnext(stem_type="overlap"), "another stem", ["unexpected: stem.2.weight"]
    ),
    "patch-2": (
        lambda: timms_convnext(patch_size=2),
        "another stem",
        ["misshapen: stem.0.weight is (8, 3, 2, 2), not (8, 3, 4, 4)"],
    ),
    "norm-first": (
        lambda: timms_convnext(head_norm_first=True),
        "another head",
        ["missing: head.norm.weight", "unexpected: norm_pre.bias"],
    ),
    "features": (
        lambda: made(timm.models.resnet.ResNet, timm.models.resnet.Bottleneck, [1, 1, 1, 1],
                     num_classes=0),
        "no classifier",
        ["missing: fc.weight", "missing: fc.bias"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "seems", "faults"), LOOKALIKES.values(), ids=LOOKALIKES)
def test_networks_that_only_look_alike_are_refused(make, seems, faults):
    with pytest.raises(WeightsError) as error:
        from_state_dict(make().state_dict())
    first, *lines = str(error.value).splitlines()
    assert seems in first
    assert {f"  {fault}" for fault in faults} <= set(lines)


@pytest.mark.parametrize(
    "names",
    [
        ["cls_token", "blocks.0.attn.qkv.weight", "norm.weight"],
        ["encoder.conv1.weight", "encoder.layer1.0.conv1.weight"],
        [f"layer{'9' * 5000}.0.conv1.weight", "layer1.99999999.conv1.weight", "x"],
    ],
    ids=["transformer", "prefixed", "forged"],
)
def test_weights_of_nothing_known_are_refused(names):
    with pytest.raises(WeightsError, match="Known are: torchvision"):
        from_state_dict(dict.fromkeys(names, torch.zeros(4, 4)))


def test_a_forged_number_of_a_block_makes_no_giant():
    weights = small_resnet().state_dict()
    weights["layer1.999999.conv1.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError) as error:
        from_state_dict(weights)
    assert "unexpected: layer1.999999.conv1.weight" in str(error.value)


@pytest.mark.parametrize(
    ("spec", "layout", "reason"),
    [
        (spec_of("patchify"), "torchvision", "stem is patchify"),
        (spec_of("ln"), "timm", "downsampling is block"),
        (spec_of("resnet"), "official", "the official ConvNeXt: stem is resnet"),
        (SMALL_CONVNEXT.replace(layer_scale=0.0), "torchvision", "it has a Layer Scale"),
        (SMALL_RESNET.replace(depths=(1, 1)), "timm", "it has 4 stages"),
    ],
    ids=["patchify", "ln", "resnet", "unscaled", "two-stages"],
)
def test_what_others_do_not_have_cannot_be_written_for_them(spec, layout, reason, tmp_path):
    with pytest.raises(WeightsError, match="'ours'") as error:
        write(Network(spec.replace(width=2)), tmp_path / "out.pth", layout)
    assert reason in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_layout_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'official'"):
        find_layout("oficial", SMALL_CONVNEXT)


def test_every_layout_can_be_asked_for():
    assert set(LAYOUT_NAMES) == {"torchvision", "timm", "timm-conv-mlp", "official", "ours"}
    for layout in LAYOUTS:
        spec = layout.reference or SMALL_RESNET
        assert all(find_layout(name, spec) is layout for name in layout.names)


@every_foreign
def test_the_table_is_one_to_one_and_keeps_sizes(make, spec, layout):
    table = map_tensors(find_layout(layout, spec), spec)
    assert [pair.ours for pair in table] == list(Network(spec).state_dict())
    assert len({pair.theirs for pair in table}) == len(table) == len(make().state_dict())
    for pair in table:
        assert torch.Size(pair.their_shape).numel() == torch.Size(pair.our_shape).numel()


@pytest.mark.integration
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.title)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_network_of_a_layout_comes_back_exactly(layout, data):
    spec = data.draw(specs_of(layout))
    network = randomise(Network(spec))
    name = next(name for name in layout.names if find_layout(name, spec) is layout)
    there = to_state_dict(network, name)
    back = from_state_dict(there, None if layout is not OURS else spec)
    ignoring = {Role.TRAINING, Role.INITIAL}
    assert back.spec.diff(spec, ignoring) == {}
    assert list(back.tensors) == list(network.state_dict())
    assert all(torch.equal(back.tensors[key], v) for key, v in network.state_dict().items())


def test_tensors_share_memory_with_those_given():
    weights = small_convnext().state_dict()
    mine = from_state_dict(weights).tensors
    name = "features.1.0.block.3.weight"
    assert mine["stages.0.blocks.0.branch.expand.weight"].data_ptr() == weights[name].data_ptr()
    assert mine["stages.0.blocks.0.branch.expand.weight"].shape == (32, 8, 1, 1)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_step_is_found_by_its_structure(regime):
    for variant in apply_steps(STEPS, REGIMES[regime]):
        spec = variant.spec.replace(num_classes=7, drop_path=0.1, layer_scale=0.5)
        # The second row is the first one's network, trained otherwise.
        assert step_of(spec) == ("resnet" if variant.key == "recipe" else variant.key)
    assert step_of(spec_of("ln", depths=(2, 2), width=10)) == "ln"
    assert step_of(spec_of("ln", activation="relu")) is None


# -- a network that starts from weights ----------------------------------------------------------


@pytest.mark.integration
@every_foreign
def test_other_classes_start_from_all_except_the_head(make, spec, layout, tmp_path):
    theirs = make()
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    found = read_start(tmp_path / "a.pth", spec.replace(num_classes=7))
    assert layout in found.layout.names
    assert found.spec.num_classes == 5
    torch.manual_seed(0)
    fresh = Network(spec.replace(num_classes=7))
    torch.manual_seed(0)
    network = Network(spec.replace(num_classes=7))
    start_from(network, found, 0.001)
    for name, tensor in network.state_dict().items():
        if name.startswith("head."):
            assert torch.equal(tensor, 0.001 * fresh.state_dict()[name]), name
        else:
            assert torch.equal(tensor, found.tensors[name]), name
    same = Network(spec)
    start_from(same, found, 0.001)
    check_logits(theirs, same, spec)


@pytest.mark.integration
def test_build_takes_weights_and_other_classes(tmp_path):
    theirs = randomise(models.convnext_tiny(num_classes=5))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    assert build("downsample", weights=tmp_path / "a.pth").head.out_features == 5
    network = build("downsample", num_classes=7, weights=tmp_path / "a.pth", head_init_scale=0.5)
    check_same(
        {n: t for n, t in from_state_dict(theirs.state_dict()).tensors.items() if "head" not in n},
        {n: t for n, t in network.state_dict().items() if "head" not in n},
    )
    assert network.head.weight.shape == (7, 768)
    assert network.head.weight.detach().std() == pytest.approx(0.5 * 0.02, rel=0.1)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_all_except_the_head_must_fit_and_is_named(suffix, tmp_path):
    write(randomise(build("ln", "nano", num_classes=5)), tmp_path / f"a{suffix}", "ours")
    with pytest.raises(WeightsError, match="activation is gelu, not relu") as error:
        build("fewer-norms", "nano", activation="relu", weights=tmp_path / f"a{suffix}")
    assert "norm is layer, not batch" in str(error.value)
    with pytest.raises(WeightsError, match="in_channels is 3, not 1"):
        build("ln", "nano", in_channels=1, weights=tmp_path / f"a{suffix}")
    torch.save(small_resnet().state_dict(), tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="width is 64, not 32"):
        build("resnet", depths=(1, 2, 1, 1), width=32, weights=tmp_path / "b.pth")
    state = {**small_resnet().state_dict(), "fc.bias": torch.zeros(6)}
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=r"misshapen: fc\.bias is \(6,\), not \(5,\)"):
        build("resnet", depths=(1, 2, 1, 1), num_classes=7, weights=tmp_path / "c.pth")


def test_weights_have_one_digest_in_every_layout(tmp_path):
    network = randomise(build("downsample", "nano", num_classes=5))
    for number, layout in enumerate(("torchvision", "timm", "official", "ours")):
        for suffix in (".pth", ".safetensors"):
            write(network, tmp_path / f"{number}{suffix}", layout)
    digests = {read_start(path, network.spec).digest() for path in tmp_path.iterdir()}
    assert len(digests) == 1
    with torch.no_grad():
        network.head.bias[0] += 1
    assert from_state_dict(network.state_dict(), network.spec).digest() not in digests
