"""The benchmark: timing with a simulated clock, and the networks that are measured."""

import itertools
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from ablations.benchmark import results as benchmark_results
from ablations.benchmark.measurement import (
    LoadedNetwork,
    Setup,
    TimedNetwork,
    Trial,
    describe_failure,
    expected_seconds,
    load_networks,
    make_plan,
    prepare_for_inference,
    run_rounds,
    run_trial,
)
from ablations.benchmark.networks import (
    TABLE_12,
    BenchmarkNetwork,
    ReferenceSource,
    RoadmapSource,
    networks_of_models,
    networks_of_steps,
)
from ablations.benchmark.results import (
    Row,
)
from ablations.choices import Compute
from ablations.costs.reference_models import REFERENCE_MODELS, ReferenceModel
from ablations.heads import DETECTORS, SEGMENTERS
from ablations.studies import selection
from ablations.training.device_name import cpu_name, parse_cpuinfo, slug
from ablations.training.step import seconds_per_iteration
from modernize import spec_of
from modernize.errors import UnknownNameError
from modernize.steps import find_regime

NANO = spec_of("downsample", "nano")


def make_setup(batch_size=2, size=(32, 32), choice=None, **compute):
    values = {"precision": "fp32", "channels_last": True, "compile": False, "tf32": False}
    return Setup("cpu", Compute(**values | compute, workers=0), batch_size, size, 1, choice or {})


class Device:
    """A simulated device, on which an iteration takes time only when someone waits for it."""

    def __init__(self, *seconds):
        self.seconds = itertools.chain(seconds, itertools.repeat(seconds[-1]))
        self.now = self.queued = 0.0
        self.iterations = 0

    def iterate(self):
        self.iterations += 1
        self.queued += next(self.seconds)

    def synchronize(self):
        self.now, self.queued = self.now + self.queued, 0.0

    def measure(self, seconds):
        return seconds_per_iteration(
            self.iterate, seconds, self.synchronize, clock=lambda: self.now
        )


# -- timing ----------------------------------------------------------------------------------------


def test_a_measurement_warms_up_and_fills_its_time():
    device = Device(100.0, 0.25)  # the first compiles
    assert device.measure(2.0) == 0.25
    assert device.iterations == 1 + 1 + 8


def test_a_measurement_has_three_iterations_at_least():
    device = Device(5.0)
    assert device.measure(0.1) == 5.0
    assert device.iterations == 1 + 1 + 3


def test_every_network_is_measured_in_each_round_until_it_fails():
    order = []

    class Prepared:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            return self.name

        def __exit__(self, *_):
            order.append(f"end of {self.name}")

    rows = [Row((name,), "", "modernize", "", 1, 1, "inference") for name in "abc"]
    networks = [TimedNetwork(row, lambda name=row.names[0]: Prepared(name)) for row in rows]

    def measure(name):
        order.append(name)
        if name == "b" and len(order) > 6:
            raise torch.OutOfMemoryError("tried to allocate 1 GiB\nand more")
        return float(len(order))

    assert list(run_rounds(networks, 3, measure)) == [1, 2, 3]
    assert [name for name in order if len(name) == 1] == list("abcabcac")
    assert order[1::2] == [f"end of {name}" for name in order[::2]]
    assert [row.measured for row in rows] == [True, False, True]
    assert rows[1].failure == "out of memory: tried to allocate 1 GiB"
    assert len(rows[2].images_per_second) == 3


def test_failures_have_a_reason():
    allocator = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
    assert describe_failure(RuntimeError(allocator)).startswith("out of memory: ")
    assert describe_failure(RuntimeError("no such kernel\nat")) == "failed: no such kernel"
    assert describe_failure(KeyError()) == "failed: KeyError"


def test_the_expected_time_counts_warm_up_and_long_iterations():
    trials = [Trial(seconds=0.1), Trial(seconds=1.0)]
    assert expected_seconds(trials, 4, 0.5) == pytest.approx(4 * (0.5 + 0.2 + 3.0 + 2.0))


# -- networks ------------------------------------------------------------------------------------


class Watched(nn.Module):
    """A network that notes how it is run."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 1000, 32)
        self.seen = []

    def forward(self, x):
        y = self.layer(x)
        self.seen.append(
            {
                "training": self.training,
                "inference mode": torch.is_inference_mode_enabled(),
                "dtype": y.dtype,
                "channels-last": x.is_contiguous(memory_format=torch.channels_last),
                "weights": self.layer.weight.is_contiguous(memory_format=torch.channels_last),
                "images": x.sum().item(),
            }
        )
        return y.flatten(1)


class WatchedSource:
    def load(self):
        pass

    def build(self):
        return Watched()


@pytest.mark.parametrize("channels_last", [True, False])
def test_all_networks_have_the_same_conditions(channels_last):
    setup = make_setup(precision="bf16", channels_last=channels_last)
    common = {"version": "", "params": 1, "flops": 1, "spec": None, "source": WatchedSource()}
    both = [BenchmarkNetwork((n,), "", n, **common) for n in ("modernize", "timm")]
    plan = make_plan(both, benchmark_results.MODES)
    timed = load_networks(plan, setup)
    assert [t.row for t in timed] == [row for _, rows in plan for row in rows]
    seen = []
    for one in timed:
        network = one.prepare.func.__self__.network
        before = [p.clone() for p in network.parameters()]
        with one.prepare() as iterate:
            iterate()
        assert all(p.grad is None for p in network.parameters())
        changed = not all(map(torch.equal, before, network.parameters()))
        # The update is lost in rounding, except for parameters at 0.
        assert not changed or one.row.mode == "training"
        seen.append(network.seen.pop())
    assert seen[:2] == seen[2:]
    inference, training = seen[:2]
    assert inference.pop("inference mode")
    assert not training.pop("inference mode")
    assert not inference.pop("training")
    assert training.pop("training")
    assert inference == training
    assert training["dtype"] is torch.bfloat16
    assert training["channels-last"] is training["weights"] is channels_last


@pytest.mark.parametrize(
    "source",
    [
        RoadmapSource(NANO.replace(drop_path=0.9)),
        ReferenceSource(ReferenceModel("ConvNeXt-T", "torchvision", "convnext_tiny")),
        ReferenceSource(ReferenceModel("Swin-T", "timm", "swin_tiny_patch4_window7_224", (224,))),
    ],
    ids=lambda source: type(source).__name__,
)
def test_no_network_has_stochastic_depth(source):
    network = source.build().train()
    images = torch.randn(1, 3, 32, 32)
    if isinstance(source, ReferenceSource) and source.model.image_sizes:
        rates = [m.drop_prob for m in network.modules() if hasattr(m, "drop_prob")]
        assert rates
        assert not any(rates)
        return
    with torch.no_grad():
        assert torch.equal(network(images), network(images))


def test_training_updates_with_the_optimizers_state():
    setup = make_setup()
    context = setup.context()
    batch = setup.batch(context)
    loaded = LoadedNetwork(RoadmapSource(NANO), context, batch, ["training"], setup.task)
    gamma = next(p for n, p in loaded.network.named_parameters() if n.endswith("gamma"))
    before = gamma.detach().clone()
    with loaded.prepare("training") as iterate:
        iterate()
    assert loaded.network.training
    assert not torch.equal(gamma, before)
    assert torch.allclose(gamma, before, atol=1e-7)


@pytest.mark.integration
def test_memory_grows_with_the_batch_and_training_takes_more():
    source = RoadmapSource(NANO)
    small, large = (run_trial(source, "inference", make_setup(n)) for n in (64, 1024))
    assert not small.failure
    assert large.memory_mib > 2 * small.memory_mib > 0
    assert run_trial(source, "training", make_setup(64)).memory_mib > 1.5 * small.memory_mib


class Broken:
    def load(self):
        pass

    def build(self):
        raise RuntimeError("no such network\n...")


@pytest.mark.integration
def test_a_network_that_cannot_be_run_says_so():
    assert run_trial(Broken(), "training", make_setup()) == Trial(failure="failed: no such network")
    plan = make_plan(
        [BenchmarkNetwork(("x",), "", "timm", "", 1, 1, None, Broken())], ["inference"]
    )
    assert load_networks(plan, make_setup()) == []
    ((_, rows),) = plan
    assert rows[0].failure == "failed: no such network"


# -- networks --------------------------------------------------------------------------------------


def of_steps(*steps, regime="resnet50", references=True):
    variants = selection.roadmap(regime, only=steps)
    found = networks_of_steps(variants, find_regime(regime), (224, 224), {}, references)
    return [(n.names, n.library) for n in found]


@pytest.mark.integration
def test_steps_are_followed_by_their_reference_models():
    assert of_steps("resnet", "recipe", "ln", "downsample") == [
        (("resnet", "recipe"), "modernize"),
        (("resnet", "recipe"), "torchvision"),
        (("resnet", "recipe"), "timm"),
        (("ln",), "modernize"),
        (("downsample",), "modernize"),
        (("downsample",), "torchvision"),
        (("downsample",), "timm"),
        (("Swin-T",), "torchvision"),
        (("Swin-T",), "timm"),
    ]
    assert [library for _, library in of_steps("downsample", regime="resnet200")][:3] == [
        "modernize", "torchvision", "timm",
    ]  # fmt: skip


@pytest.mark.integration
def test_steps_without_reference_models():
    assert of_steps("downsample", references=False) == [(("downsample",), "modernize")]
    found = networks_of_steps(selection.roadmap("nano"), find_regime("nano"), (32, 32), {})
    assert {n.library for n in found} == {"modernize"}
    assert len(found) == 16  # `resnet` and `recipe` are one network


@pytest.mark.integration
def test_mask_rcnn_on_resnet_50_is_followed_by_torchvisions():
    def named(model, task, head):
        choice = {"name": task, "head": head}
        return networks_of_models([model], (64, 64), choice)

    assert len(named("ResNet-50", "detection", "cascade-mask-rcnn")) == 1
    assert len(named("ConvNeXt-T", "detection", "mask-rcnn")) == 1
    assert len(named("ResNet-50", "segmentation", "upernet")) == 1
    ours, theirs = named("ResNet-50", "detection", "mask-rcnn")
    assert (theirs.library, theirs.flops) == ("torchvision", ours.flops)
    # The background has a box and a mask, too.
    assert theirs.params - ours.params == 4 * (1024 + 1) + (256 + 1)
    model = theirs.source.build()
    setup = make_setup(1, (64, 64), {"name": "detection", "head": "mask-rcnn"})
    images, targets = setup.batch(setup.context())
    sum(model(images, targets).values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    [found] = model.eval()(images)
    assert set(found["labels"].tolist()) == {1}
    assert found["masks"].shape == (len(found["labels"]), 1, 64, 64)


@pytest.mark.integration
def test_models_are_the_papers():
    found = networks_of_models(TABLE_12, (224, 224), {})
    assert {n.model for n in found} == set(TABLE_12)
    assert sum(n.library == "modernize" for n in found) == 3
    alone = networks_of_models(["Swin-S", "ConvNeXt-S"], (224, 224), {}, references=False)
    assert [n.library for n in alone] == ["torchvision", "timm", "modernize"]
    with pytest.raises(UnknownNameError, match=r"unknown model at 384 x 384 pixels 'Swin-T'"):
        networks_of_models(["Swin-T"], (384, 384), {})


@pytest.mark.integration
def test_reference_models_have_the_same_costs():
    variants = selection.roadmap("resnet50", only=["downsample"])
    found = networks_of_steps(variants, find_regime("resnet50"), (224, 224), {})
    assert len({(n.params, n.flops) for n in found if n.model == "ConvNeXt-T"}) == 1


RELEASE = """
from timm.models.layers import trunc_normal_, DropPath
from timm.models.registry import register_model
import torch.nn as nn

class ConvNeXt(nn.Module):
    def __init__(self, in_chans, num_classes, depths, dims):
        super().__init__()
        self.asked = in_chans, num_classes, depths, dims

@register_model
def convnext_tiny(**kwargs):
    raise NotImplementedError
"""


def test_the_release_is_read_from_a_checkout_and_leaves_timm_as_it_is(tmp_path):
    import timm

    official = runpy.run_path(str(Path(__file__).parent / "benchmarks" / "official.py"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "convnext.py").write_text(RELEASE)
    (found,) = official["official_networks"](tmp_path, ["ResNet-50", "ConvNeXt-S"], 224)
    assert (found.names, found.library) == (("ConvNeXt-S",), "official")
    assert found.source.build().asked == (3, 1000, [3, 3, 27, 3], [96, 192, 384, 768])
    assert timm.list_models("convnext_tiny") == ["convnext_tiny"]
    with torch.device("meta"):
        assert timm.create_model("convnext_tiny").num_classes == 1000


def test_every_peer_is_a_network_of_its_library():
    assert len({(p.library, p.name) for p in REFERENCE_MODELS}) == len(REFERENCE_MODELS)


@pytest.mark.parametrize("head", ["mask-rcnn-nano", "cascade-mask-rcnn-nano", "upernet-nano"])
def test_fused_heads_give_the_same_outputs(head):
    """Of detectors that find as many objects as a trained one may."""
    choice = {"name": "segmentation" if head in SEGMENTERS else "detection", "head": head}
    torch.manual_seed(0)
    model = RoadmapSource(spec_of("resnet", "nano", num_classes=10), choice=choice).build()
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
        plain = model.eval()(images)
    fused = prepare_for_inference(model, torch.float32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    with torch.no_grad():
        found = fused(images)
    if head in SEGMENTERS:
        torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-4)
        return
    for one, other in zip(found, plain, strict=True):
        assert len(one["boxes"]) == DETECTORS[head].detections
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one["boxes"], other["boxes"], rtol=1e-2, atol=1e-2)


def test_devices_have_names():
    text = "processor\t: 0\nmodel name\t: Intel(R)  Core(TM) i7-8700 CPU @ 3.20GHz\n"
    assert slug(parse_cpuinfo(text)) == "intel-core-i7-8700"
    assert slug("NVIDIA A100-SXM4-40GB") == "nvidia-a100-sxm4-40gb"
    assert cpu_name()
