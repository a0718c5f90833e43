"""Costs of detectors and segmenters: against the built modules, other libraries and the paper."""

import csv
import io

import pytest
import torch
from command_line import call
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ablations.costs.dense_backbones import BACKBONES
from ablations.costs.dense_costs import TASKS, model_rows
from ablations.heads import DETECTORS, SEGMENTERS
from ablations.tasks.registry import make_task
from modernize.custom_layers import load_custom_layers
from modernize.heads import (
    MASK_RCNN_NANO,
    UPERNET,
    UPERNET_NANO,
    DetectorSpec,
    build_detector,
    build_segmenter,
)
from modernize.heads.cost import BOXES, MASKS, backbone, head_cost
from modernize.heads.counted import counted_backbone
from modernize.models import MODELS
from modernize.network import LayerNorm2d, PointwiseConv2d
from modernize.steps import STEPS, spec_of

# Head, backbone, GMACs, GMACs as mmcv counts them, the same with attention, parameters: counted by
# others in three ways, one of them with mmcv's rules on the modules of mmdetection and mmseg.
COUNTED = """
mask-rcnn          Swin-T       263.448   263.783   266.888   47794602
mask-rcnn          ConvNeXt-T   261.904   262.114   262.114   48095376
cascade-mask-rcnn  ResNet-50    737.567   738.713   738.713   82231538
cascade-mask-rcnn  X101-32      816.767   818.532   818.532   100852210
cascade-mask-rcnn  X101-64      969.630   972.007   972.007   140129778
cascade-mask-rcnn  Swin-T       741.699   742.359   745.464   85629804
cascade-mask-rcnn  ConvNeXt-T   740.155   740.690   740.690   85930578
cascade-mask-rcnn  Swin-S       831.617   832.350   837.579   106947708
cascade-mask-rcnn  ConvNeXt-S   826.444   827.007   827.007   107565138
cascade-mask-rcnn  Swin-B       974.316   975.134   982.107   144977002
cascade-mask-rcnn  ConvNeXt-B   963.565   964.156   964.156   145800242
cascade-mask-rcnn  Swin-L       1381.102  1382.089  1392.548  253475910
cascade-mask-rcnn  ConvNeXt-L   1353.413  1354.058  1354.058  254710770
cascade-mask-rcnn  ConvNeXt-XL  1897.401  1898.102  1898.102  406875058
upernet            Swin-T       941.134   941.698   944.949   59941862
upernet            ConvNeXt-T   938.485   938.922   938.922   60242636
upernet            Swin-S       1032.064  1032.703  1038.056  81259766
upernet            ConvNeXt-S   1026.846  1027.310  1027.310  81877196
upernet            Swin-B       1180.214  1180.941  1188.078  121279716
upernet            ConvNeXt-B   1169.345  1169.839  1169.839  122102956
upernet-640        Swin-B       1828.756  1829.891  1840.311  121279716
upernet-640        ConvNeXt-B   1827.086  1827.858  1827.858  122102956
upernet-640        Swin-L       2466.713  2468.122  2483.751  233759936
upernet-640        ConvNeXt-L   2457.357  2458.220  2458.220  234994796
upernet-640        ConvNeXt-XL  3334.252  3335.207  3335.207  391140396
"""
HEADS = {**DETECTORS, **SEGMENTERS, "upernet-640": UPERNET.replace(image_size=(2560, 640))}
SMALL = [name for name in HEADS if name.endswith("-nano")]


def rows_of(*arguments):
    return list(csv.DictReader(io.StringIO(call("flops", *arguments, "--format", "csv"))))


@pytest.mark.parametrize("line", COUNTED.split("\n")[1:-1])
def test_counts_of_others(line):
    head, model, macs, mmcv, attention, params = line.split()
    spec = HEADS[head]
    width, height = spec.image_size
    counted = head_cost(BACKBONES[model].maps((height, width)), spec)
    as_mmcv = counted.mmcv + (0 if isinstance(spec, DetectorSpec) else counted.head_norms)
    found = [counted.macs, as_mmcv, as_mmcv + counted.attention]
    assert [f"{count / 1e9:.3f}" for count in found] == [macs, mmcv, attention]
    assert counted.params == int(params)


# -- the built modules ----------------------------------------------------------------------------


def run(model, spec):
    """What is counted of an image: all layers, without pooling of boxes and suppression."""
    width, height = spec.image_size
    maps = model.backbone(torch.empty(1, 3, height, width, device="meta"))
    if not isinstance(spec, DetectorSpec):
        model.head(maps)
        return
    model.rpn.predict(model.fpn(maps))
    for box, mask in zip(model.box_heads, model.mask_heads, strict=True):
        box(torch.empty(BOXES, spec.width, spec.roi.size, spec.roi.size, device="meta"))
        size = spec.roi.mask_size
        mask(torch.empty(MASKS, spec.width, size, size, device="meta"))


class Hooks:
    """Mmcv's rules on modules: the operations beside MACs; those of BatchNorms in heads apart."""

    def __init__(self, model):
        self.other = self.head_norms = 0
        for name, module in model.named_modules():
            module.register_forward_hook(self.hook(name.startswith("backbone.")))

    def hook(self, inside):
        def count(module, inputs, output):
            match module:
                case PointwiseConv2d():  # a linear layer in the authors' code
                    return
                case nn.Conv2d() | nn.ConvTranspose2d() if module.bias is not None:
                    self.other += output.numel()
                case nn.ReLU():
                    self.other += output.numel()
                case nn.BatchNorm2d() if inside:
                    self.other += 2 * output.numel()
                case nn.BatchNorm2d():
                    self.head_norms += 2 * output.numel()
                case nn.MaxPool2d() | nn.AdaptiveAvgPool2d():
                    self.other += inputs[0].numel()
                case LayerNorm2d():
                    return

        return count


def built(spec, head):
    build = build_detector if isinstance(head, DetectorSpec) else build_segmenter
    with torch.device("meta"):
        model = build(spec, head).eval()
    hooks = Hooks(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(model, head)
    params = sum(p.numel() for p in model.parameters())
    return params, counter.get_total_flops() // 2, hooks.other, hooks.head_norms


def in_closed_form(spec, head):
    width, height = head.image_size
    cost = head_cost(backbone(spec, (height, width)), head)
    assert cost.attention == 0
    return cost.params, cost.macs, cost.other, cost.head_norms


@pytest.mark.integration
@pytest.mark.parametrize("step", [step.key for step in STEPS])
@pytest.mark.parametrize("head", SMALL)
def test_every_step_equals_the_built_modules(step, head):
    spec = spec_of(step, "nano")
    assert in_closed_form(spec, HEADS[head]) == built(spec, HEADS[head])


@pytest.mark.integration
@pytest.mark.parametrize("head", [name for name in HEADS if name not in SMALL])
@pytest.mark.parametrize("model", ["ResNet-50", "ConvNeXt-T", "ConvNeXt-XL"])
def test_the_papers_sizes_equal_the_built_modules(model, head):
    assert in_closed_form(MODELS[model], HEADS[head]) == built(MODELS[model], HEADS[head])


@pytest.mark.integration
def test_odd_sizes_and_other_numbers():
    spec = spec_of("downsample", "nano")
    detector = MASK_RCNN_NANO.replace(
        image_size=(203, 155), num_classes=3, roi={"mask_convs": 2, "size": 5, "linears": 1}
    )
    segmenter = UPERNET_NANO.replace(
        image_size=(203, 155), pools=(2, 5), auxiliary_stage=1, num_classes=4
    )
    for head in (detector, segmenter, segmenter.replace(auxiliary_weight=0.0)):
        assert in_closed_form(spec, head) == built(spec, head)


CUSTOM = """
import torch.nn.functional as F
from torch import nn

def separable(width, kernel_size, stride, bias):
    k, pad = kernel_size, kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(width, width, (k, 1), (stride, 1), (pad, 0), groups=width),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, (1, k), (1, stride), (0, pad), groups=width, bias=bias),
    )

class Gated(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate = nn.Conv2d(width, width, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return x * F.conv2d(self.pool(x), self.gate.weight).sigmoid()

ACTIVATIONS = {"relu6": nn.ReLU6, "plain": nn.ReLU}
NORMS = {"gated": Gated}
SPATIAL_CONVS = {"separable": separable}
"""


@pytest.fixture(scope="module")
def custom(tmp_path_factory):
    path = tmp_path_factory.mktemp("layers") / "mine.py"
    path.write_text(CUSTOM)
    return path


@pytest.mark.parametrize("step", ["resnet", "move-up", "downsample"])
@pytest.mark.parametrize("head", ["mask-rcnn-nano", "upernet-nano"])
def test_custom_layers_equal_the_built_modules(custom, step, head):
    """fvcore and hooks in the product, torch's counter and the hooks of this test here."""
    layers = load_custom_layers(custom)
    fields = {"activation": "plain", "spatial_conv": "separable", "norm": "gated"}
    spec = spec_of(step, "nano").replace(**{f: layers.named(f, n) for f, n in fields.items()})
    counted = in_closed_form(spec, HEADS[head])
    assert counted == built(spec, HEADS[head])
    plain = in_closed_form(spec_of(step, "nano"), HEADS[head])
    assert counted[1] != plain[1]
    task = make_task({"name": "detection" if "mask" in head else "segmentation", "head": head})
    classes = HEADS[head].num_classes
    assert task.cost(spec.replace(num_classes=classes), 128) == counted[:2]


@pytest.mark.parametrize("step", [step.key for step in STEPS])
def test_counting_gives_what_the_formulas_give(step):
    assert counted_backbone(spec_of(step, "nano"), (96, 131)) == backbone(
        spec_of(step, "nano"), (96, 131)
    )


# -- other libraries' backbones -------------------------------------------------------------------


def products(network, size):
    """MACs of convolutions and linear layers, and of attention."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, *size, device="meta"))
    found = {op.__name__: n // 2 for op, n in counter.get_flop_counts()["Global"].items()}
    attention = found.pop("bmm", 0)
    return sum(found.values()), attention


@pytest.mark.integration
@pytest.mark.parametrize(("model", "name"), [("X101-32", "32x4d"), ("X101-64", "64x4d")])
def test_resnext_is_timms(model, name):
    import timm

    with torch.device("meta"):
        network = timm.create_model(f"resnext101_{name}", features_only=True).eval()
    maps = BACKBONES[model].maps((800, 1280))
    assert maps.cost.params == sum(p.numel() for p in network.parameters())
    assert products(network, (800, 1280)) == (maps.cost.macs, 0)
    assert list(maps.widths) == network.feature_info.channels()[1:]


@pytest.mark.integration
@pytest.mark.parametrize(("model", "name"), [("Swin-T", "swin_t"), ("Swin-S", "swin_s")])
def test_swin_is_torchvisions(model, name):
    from torchvision.models import get_model

    with torch.device("meta"):
        network = get_model(name).features.eval()
    maps = BACKBONES[model].maps((800, 1280))
    norms = 2 * sum(maps.widths)
    assert maps.cost.params == sum(p.numel() for p in network.parameters()) + norms
    assert products(network, (800, 1280)) == (maps.cost.macs, maps.cost.attention)


# -- the command ----------------------------------------------------------------------------------


def test_published_cells():
    found = {task: model_rows(spec) for task, spec in TASKS.items()}
    for rows in found.values():
        for row in rows:
            if row.printed_params:
                assert f"{row.cost.params / 1e6:.0f}" == row.printed_params, row.model
    detection = [row for row in found["detection"] if row.printed_flops]
    assert len(detection) == 14
    assert all(row.met_by for row in detection)
    assert [row.model for row in detection if row.note] == ["Swin-L"]
    segmentation = found["segmentation"]
    assert len(segmentation) == 11
    [missed] = [row for row in segmentation if not row.met_by]
    assert (missed.model, missed.image_width, missed.printed_flops) == ("Swin-B", 2560, "1841")
    assert "1,840.3" in missed.note
    assert {row.model for row in segmentation if row.note} == {"Swin-B", "Swin-L"}


@pytest.mark.parametrize("task", TASKS)
def test_steps_have_a_row_for_each_head(task):
    rows = rows_of("--task", task)
    assert [*rows[0]][:4] == ["step", "head", "params", "macs"]
    heads = list(TASKS[task].heads)
    assert [(r["step"], r["head"]) for r in rows] == [(s.key, h) for s in STEPS for h in heads]
    one = rows_of("--task", task, "--only", "ln", "--regime", "nano", "--regime", "resnet200")
    assert [r["regime"] for r in one] == ["nano"] * len(heads) + ["resnet200"] * len(heads)
    assert "1280" not in {r["image_width"] for r in one[: len(heads)]}


def test_numbers_of_the_first_and_the_last_step():
    rows = {(r["step"], r["head"]): r for r in rows_of("--task", "detection")}
    first, last = rows["resnet", "mask-rcnn"], rows["downsample", "cascade-mask-rcnn"]
    assert (first["params"], last["params"]) == ("44396336", "85930578")
    [*_, row] = rows_of("--task", "segmentation")
    assert (row["params"], row["macs"]) == ("60242636", "938485481472")


def test_a_study_of_custom_layers_is_counted_with_its_heads(custom, tmp_path):
    study = tmp_path / "mine.yaml"
    study.write_text(
        "title: mine\nregime: nano\nbase: {until: downsample, key: convnext, title: x}\n"
        f"layers: {custom}\n"
        "variants:\n  - {key: relu6, title: ReLU6, fields: {activation: relu6}}\n"
    )
    rows = rows_of("--task", "detection", "--study", str(study))
    base, changed, *others = (row for row in rows if row["head"] == "mask-rcnn")
    assert not others
    assert [row["step"] for row in (base, changed)] == ["convnext", "relu6"]
    assert [base[key] for key in ("params", "macs")] == [changed[key] for key in ("params", "macs")]
    # ReLU6 is a module that mmcv counts, GELU is not: one for each number inside the blocks.
    spec = spec_of("downsample", "nano")
    inside = zip(spec.depths, spec.stream_widths, (32, 16, 8, 4), strict=True)
    numbers = sum(depth * 4 * width * side**2 for depth, width, side in inside)
    assert int(changed["mmcv"]) - int(base["mmcv"]) == numbers


def test_tables_for_people():
    text = call("flops", "--task", "detection", "--models")
    assert "1382 *" in text
    assert "1393" in text
    assert "1,840.3" in call("flops", "--task", "segmentation", "--models", "--format", "markdown")
    assert r"\toprule" in call("flops", "--task", "segmentation", "--format", "latex")


@pytest.mark.parametrize("option", [["--step", "ln"], ["--image-size", "64"]])
def test_options_that_do_not_go_together(option):
    assert option[0] in call("flops", "--task", "detection", *option, status=2)
