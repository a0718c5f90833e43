"""The paper's models: ours against other libraries', and all against the published cells."""

import csv
import io
import json
import re
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ablations import paper
from ablations.cli import main
from ablations.costs import model_costs, reference_costs
from ablations.costs.reference_costs import ProductCost, count_products, reference_cost
from ablations.costs.reference_models import REFERENCE_MODELS, ReferenceModel, find_reference
from modernize.closed_form import closed_form
from modernize.cost import cost
from modernize.errors import UnknownNameError, UsageError
from modernize.models import MODELS
from modernize.network import Network

with warnings.catch_warnings():
    # It scripts a function as it is imported, which torch calls deprecated.
    warnings.filterwarnings("ignore", message=r".*torch\.jit")
    from fvcore.nn import FlopCountAnalysis

TABLES = ("1", "2", "8", "12")
ENDS = {"10": ("ResNet-50", "ConvNeXt-T", "Swin-T"), "11": ("ResNet-200", "ConvNeXt-B", "Swin-B")}
NOT_OURS = ("RegNet", "EffNet", "DeiT", "ViT", "RVT")
# Figures that are not the count, rounded: the convention that explains them, if any.
EXCEPTIONS = {
    ("ConvNeXt-T", 224, "4.49"): "",
    ("ConvNeXt-B", 384, "45.0"): "",
    ("Swin-T", 224, "4.50"): "",
    ("Swin-B", 384, "47.0"): "truncated",
}


def published():
    """Every cell of the models built here: (model, size, metric, printed, table)."""
    found = [
        (v.model, int(v.image_size), v.metric, v.printed, table)
        for table in TABLES
        for metric in ("params", "flops")
        for v in paper.select(table=table, metric=metric)
        if not v.model.startswith(NOT_OURS)
    ]
    for table, models in ENDS.items():
        cells = {v.step: v.printed for v in paper.select(table=table, metric="flops")}
        for model, step in zip(models, ("resnet", "downsample", ""), strict=True):
            found.append((model, 224, "flops", cells[step], table))
    return found


@pytest.fixture(scope="module")
def rows():
    return model_costs.model_rows()


# -- our networks --------------------------------------------------------------------------------

PARAMETERS = {
    "ResNet-50": 25_557_032,
    "ResNet-200": 64_673_832,
    "ConvNeXt-T": 28_589_128,
    "ConvNeXt-S": 50_223_688,
    "ConvNeXt-B": 88_591_464,
    "ConvNeXt-L": 197_767_336,
    "ConvNeXt-XL": 350_196_968,
}


@pytest.mark.integration
def test_parameters_are_the_released_networks():
    counted = {name: cost(MODELS[name], 224).params for name in PARAMETERS}
    assert counted == PARAMETERS


@pytest.mark.integration
@pytest.mark.parametrize(
    "reference", [p for p in REFERENCE_MODELS if p.model in MODELS], ids=lambda p: p.name
)
def test_costs_are_those_of_other_libraries_by_another_counter(reference):
    ours = cost(MODELS[reference.model], 224)
    assert reference_cost(reference, 224) == ProductCost(ours.params, ours.flops, attention=0)


@pytest.mark.integration
def test_costs_are_those_of_the_closed_form(rows):
    ours = [row for row in rows if row.library == model_costs.OURS]
    assert {row.model for row in ours} == set(MODELS)
    for row in ours:
        counted = (row.cost.params, row.cost.flops)
        assert counted == closed_form(MODELS[row.model], row.image_size), row.model


# -- isotropic networks --------------------------------------------------------------------------


def tiny_isotropic():
    spec = MODELS["ConvNeXt-L (iso.)"].replace(depths=(2,), width=8, num_classes=5)
    network = Network(spec).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3)
    return network


def test_isotropic_logits_are_those_of_the_formula():
    network = tiny_isotropic()
    state = dict(network.named_parameters())
    images = torch.randn(2, 3, 64, 48)
    x = F.conv2d(images, state.pop("stem.conv.weight"), state.pop("stem.conv.bias"), stride=16)
    assert x.shape == (2, 8, 4, 3)
    for block in range(2):

        def part(name, block=block):
            return state.pop(f"stages.0.blocks.{block}.branch.{name}")

        y = F.conv2d(x, part("spatial.weight"), part("spatial.bias"), padding=3, groups=8)
        y = F.layer_norm(
            y.movedim(1, -1), (8,), part("spatial_norm.weight"), part("spatial_norm.bias"), 1e-6
        )
        y = F.gelu(F.linear(y, part("expand.weight").flatten(1), part("expand.bias")))
        y = F.linear(y, part("project.weight").flatten(1), part("project.bias"))
        x = x + (y * part("scale.gamma")).movedim(-1, 1)
    x = F.layer_norm(x.mean((2, 3)), (8,), state.pop("norm.weight"), state.pop("norm.bias"), 1e-6)
    logits = F.linear(x, state.pop("head.weight"), state.pop("head.bias"))
    assert not state  # the formula names every parameter
    torch.testing.assert_close(network(images), logits, rtol=1e-5, atol=1e-5)


def test_layer_scale_of_the_isotropic_networks():
    scaled = [name for name, spec in MODELS.items() if "iso" in name and spec.layer_scale]
    assert scaled == ["ConvNeXt-L (iso.)"]


def test_isotropic_networks_need_one_patch():
    spec = MODELS["ConvNeXt-S (iso.)"]
    assert spec.total_stride == 16
    spec.check_image_size(16)
    with pytest.raises(UsageError, match=r"15.*at least 16"):
        spec.check_image_size(15)
    assert spec.replace(stem="patchify").total_stride == 4


# -- networks of other libraries -----------------------------------------------------------------


@pytest.mark.integration
def test_attention_is_counted_as_fvcore_counts_it():
    reference = find_reference("Swin-T", 224)
    with torch.device("meta"):
        network = reference.build()
    network = network.to_empty(device="cpu").eval()
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.detach().zero_()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        analysis = FlopCountAnalysis(network, torch.zeros(1, 3, 224, 224))
        counted = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        flops = counted.by_operator()
    assert reference_cost(reference, 224) == ProductCost(
        params=28_288_354, flops=flops["conv"] + flops["linear"], attention=flops["matmul"]
    )


def test_fused_attention_is_counted_like_any_other():
    with torch.device("meta"):
        network = ReferenceModel("Swin-T", "timm", "swin_tiny_patch4_window7_224").build()
    attentions = [module for module in network.modules() if hasattr(module, "fused_attn")]
    assert len(attentions) == 12
    for attention in attentions:
        attention.fused_attn = True
    assert count_products(network, 224) == reference_cost(find_reference("Swin-T", 224), 224)


def test_attention_by_hand():
    class Attention(nn.Module):
        def forward(self, x):  # 1, 3, 8, 8 as three heads of eight positions with eight channels
            return F.scaled_dot_product_attention(x, x, x)

    assert count_products(Attention(), 8) == ProductCost(0, 0, attention=2 * 3 * 8 * 8 * 8)


def test_a_peer_is_counted_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    counted = []

    def count(network, image_size):
        counted.append((type(network).__name__, image_size))
        return ProductCost(1, 2, 3)

    monkeypatch.setattr(reference_costs, "count_products", count)
    reference = find_reference("ConvNeXt-T", 224)
    assert [reference_cost(reference, 224) for _ in range(2)] == [ProductCost(1, 2, 3)] * 2
    reference_cost(reference, 384)
    assert counted == [("ConvNeXt", 224), ("ConvNeXt", 384)]


def test_peers_are_found_by_size():
    assert find_reference("Swin-B", 224).library == "torchvision"
    assert find_reference("Swin-B", 384).name == "swin_base_patch4_window12_384"
    with pytest.raises(UnknownNameError, match=r"'Swin-T at 384'.*Swin-T at 224"):
        find_reference("Swin-T", 384)


# -- against the paper ---------------------------------------------------------------------------


@pytest.mark.integration
def test_every_published_cell_is_listed_once(rows):
    listed = [
        (row.model, row.image_size, f.metric, f.printed, table.partition(" ")[0])
        for row in rows
        for f in row.figures
        for table in f.tables
    ]
    assert len(listed) == len(set(listed)) >= 70
    assert set(listed) == set(published())
    assert len({(row.model, row.image_size) for row in rows}) == len(rows) == 21


@pytest.mark.integration
def test_every_published_cell_but_the_exceptions_is_the_count_rounded(rows):
    costs = {(row.model, row.image_size): row.cost for row in rows}
    missed = set()
    for model, size, metric, printed, _ in published():
        counted = costs[model, size]
        macs = counted.flops + (counted.attention if model.startswith("Swin") else 0)
        value = counted.params / 1e6 if metric == "params" else macs / 1e9
        if f"{value:.{len(printed.partition('.')[2])}f}" != printed:
            missed.add((model, size, printed))
    assert missed == set(EXCEPTIONS)


@pytest.mark.integration
def test_the_convention_that_is_named_gives_the_figure(rows):
    for row in rows:
        for figure in row.figures:
            expected = EXCEPTIONS.get((row.model, row.image_size, figure.printed), "rounded")
            assert figure.rounding == expected
            assert bool(figure.note) == (expected != "rounded")
            if figure.metric == "flops" and figure.rounding:
                attention = row.model.startswith("Swin")
                assert figure.convention == ("+ attention" if attention else "conv + linear")


@pytest.mark.parametrize(
    ("metric", "printed", "found"),
    [
        ("flops", "1.5", ("conv + linear", "rounded")),
        ("flops", "1.47", ("conv + linear", "rounded")),
        ("flops", "1.4", ("conv + linear", "truncated")),
        ("flops", "1.9", ("+ attention", "rounded")),
        ("flops", "1.8", ("+ attention", "truncated")),
        ("flops", "2", ("+ attention", "rounded")),
        ("flops", "1.6", None),
        ("params", "26", ("parameters", "rounded")),
        ("params", "25", ("parameters", "truncated")),
        ("params", "1.5", None),
    ],
)
def test_agreement(metric, printed, found):
    counted = ProductCost(25_600_000, 1_470_000_000, 400_000_000)
    assert model_costs.agreement(metric, printed, counted) == found


@pytest.mark.integration
def test_notes_say_how_far_off_and_what_else_is_printed(rows):
    notes = model_costs.footnotes(rows)
    for named in ("ConvNeXt-B at 384", "45.0", "1 (1K), 12", "0.12 below", "45.12", "1 (22K), 8",
                  "45.1"):  # fmt: skip
        assert named in notes[1]
    assert "misprint" in notes[0]
    assert "truncated" in notes[3]
    assert "1 (1K), 12 print 47.1" in notes[3]
    assert "RegNetY-16G, " in notes[-1]
    assert "ConvNeXt" not in notes[-1]


# -- the command ---------------------------------------------------------------------------------


def flops_models(monkeypatch, capsys, *arguments, status=0):
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", "flops", "--models", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == status
    return capsys.readouterr()


@pytest.mark.integration
def test_csv_and_json_have_a_row_per_figure(monkeypatch, capsys, rows):
    text = flops_models(monkeypatch, capsys, "--format", "csv").out
    as_csv = list(csv.DictReader(io.StringIO(text)))
    as_json = json.loads(flops_models(monkeypatch, capsys, "--format", "json").out)
    assert len(as_csv) == len(as_json) == sum(len(row.figures) for row in rows)
    assert [row["printed"] for row in as_csv] == [row["printed"] for row in as_json]
    odd = next(row for row in as_json if row["printed"] == "45.0")
    assert odd["params"] == PARAMETERS["ConvNeXt-B"]
    assert odd["agrees"] is False
    assert odd["convention"] is odd["rounding"] is None
    assert {r["printed"] for r in as_csv if r["agrees"] == "no"} == {"4.49", "45.0", "4.50"}


@pytest.mark.integration
@pytest.mark.parametrize("style", ["table", "markdown"])
def test_tables_have_a_row_per_model_and_size(style, monkeypatch, capsys, rows):
    text = flops_models(monkeypatch, capsys, "--format", style).out
    for row in rows:
        line = rf"^[| ]*{re.escape(row.model)} [| ]*{row.image_size} "
        assert len(re.findall(line, text, flags=re.MULTILINE)) == 1
    assert "45.0 *, 45.1" in text.replace(r"\*", "*")
    assert "+ attention; 47.0 truncated" in text
    for note in model_costs.footnotes(rows):
        assert note in text.replace(r"\*", "*")
    assert (r"- \* ConvNeXt-B" in text) == (style == "markdown")


@pytest.mark.parametrize(
    "given",
    [["--regime", "nano"], ["--until", "ln"], ["--step", "ln"], ["--image-size", "64"]],
    ids=lambda words: words[0],
)
def test_options_of_the_steps_are_refused(given, monkeypatch, capsys):
    said = flops_models(monkeypatch, capsys, *given, status=2)
    assert f"{given[0]} cannot be used with --models" in said.err
    assert said.out == ""
