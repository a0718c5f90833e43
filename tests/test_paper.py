"""The published figures: complete, unchanged, and used as the paper prints them."""

import collections
import math
import subprocess
import sys
from pathlib import Path

import pytest

from ablations import paper
from modernize.errors import RoadmapError, UnknownNameError
from modernize.steps import STEPS, until

ROOT = Path(__file__).parent.parent
METRICS = {
    "1": {"params": 29, "flops": 29, "images_per_second": 29, "top1": 29},
    "2": {"params": 6, "flops": 6, "images_per_second": 6, "training_memory": 6, "top1": 6},
    "8": {"params": 10, "flops": 10, "top1": 40, "mce": 10, "ce": 8},
    "10": {"top1": 18, "top1_std": 16, "flops": 18},
    "11": {"top1": 18, "flops": 18},
    "12": {"flops": 14, "images_per_second": 14, "top1": 20},
    "coco": {
        "params": 16, "flops": 16, "frames_per_second": 16,
        **{f"{kind}_ap{level}": 16 for kind in ("box", "mask") for level in ("", "50", "75")},
    },
    "ade20k": {"params": 11, "flops": 11, "miou_multi_scale": 11},
}  # fmt: skip
UNITS = {
    "params": "M", "flops": "G", "training_memory": "GB", "images_per_second": "",
    "frames_per_second": "",
}  # fmt: skip


@pytest.fixture
def damage(tmp_path, monkeypatch):
    """Replaces one text of the file by another, in a copy."""

    def replace(old, new):
        text = paper.FILE.read_text()
        assert old in text
        monkeypatch.setattr(paper, "FILE", tmp_path / "values.csv")
        paper.FILE.write_text(text.replace(old, new, 1))

    return replace


def test_every_table_is_complete():
    found = collections.defaultdict(collections.Counter)
    for value in paper.select():
        found[value.table][value.metric] += 1
    assert found == METRICS


def test_no_figure_is_listed_twice():
    values = paper.select()
    places = {
        (v.table, v.model, v.method, v.pretraining, v.image_size, v.dataset, v.metric)
        for v in values
    }
    assert len(places) == len(values)


def test_units_follow_from_metrics_and_errors_have_a_dataset():
    for value in paper.select():
        assert value.unit == UNITS.get(value.metric, "%")
        assert bool(value.dataset) == (value.unit == "%")


@pytest.mark.parametrize("table", ["10", "11"])
def test_the_published_steps_are_those_of_the_road(table):
    steps = [v.step for v in paper.select(table=table, metric="top1")]
    assert steps == [*(step.key for step in STEPS), ""]


def test_each_figure_is_where_the_paper_has_it():
    def printed(**fields):
        (value,) = paper.select(**fields)
        return value.printed

    assert printed(table="10", step="kernel-5", metric="flops") == "4.10"
    assert printed(table="10", step="patchify", metric="top1_std") == "0.18"
    assert printed(table="11", model="Swin-B", metric="flops") == "15.43"
    assert printed(table="8", model="RVT-B*", dataset="ImageNet-C", metric="mce") == "46.8"
    assert printed(table="2", model="ViT-L", metric="training_memory") == "22.5"
    tiny = {"table": "coco", "model": "ConvNeXt-T"}
    assert printed(**tiny, method="Mask R-CNN 3x", metric="box_ap") == "46.2"
    assert printed(**tiny, method="Cascade Mask R-CNN 3x", metric="mask_ap75") == "47.3"
    assert printed(table="ade20k", model="ConvNeXt-XL", metric="miou_multi_scale") == "54.0"


@pytest.mark.parametrize("regime", paper.TABLES)
def test_the_road_comes_from_the_steps(regime):
    table, variants = paper.published(regime), until("downsample", regime)
    assert list(table["step"]) == [v.key for v in variants]
    assert list(table["label"]) == [v.title for v in variants]
    assert list(table["section"]) == [v.section for v in variants]
    assert list(table["adopted"]) == [v.adopted for v in variants]
    assert list(table["parent"]) == [v.parent or "" for v in variants]
    assert set(table["status"]) == {"finished"}


def test_published_as_in_the_paper():
    tiny = paper.published("resnet50").set_index("step")
    base = paper.published("resnet200").set_index("step")
    assert tuple(tiny.loc["resnet", ["n", "top1", "flops"]]) == (1, 76.13, 4.09e9)
    assert math.isnan(tiny.loc["resnet", "top1_std"])
    assert tuple(tiny.loc["recipe", ["n", "top1", "top1_std"]]) == (3, 78.82, 0.07)
    assert tuple(tiny.loc["depthwise", ["top1", "flops"]]) == (78.28, 2.35e9)
    assert tuple(tiny.loc["downsample", ["top1", "top1_std"]]) == (81.97, 0.06)
    assert tuple(base.loc["width", ["top1", "flops"]]) == (81.85, 16.76e9)
    assert tuple(base.loc["downsample", ["n", "top1", "flops"]]) == (1, 83.60, 15.35e9)


def test_reference():
    assert paper.reference("resnet50") == paper.Reference("Swin-T", 81.30, 4.50)
    assert paper.reference("resnet200") == paper.Reference("Swin-B", 83.50, 15.43)


def test_misprints_are_two_figures_of_table_10():
    assert paper.misprints("resnet50").keys() == {"ln", "downsample"}
    assert [v.printed for v in paper.select() if v.misprint] == ["4.46", "4.49"]


@pytest.mark.parametrize("regime", ["nano", "no-such-regime"])
def test_a_regime_that_the_paper_lacks(regime):
    with pytest.raises(UnknownNameError, match=regime):
        paper.published(regime)
    assert paper.reference(regime) is None
    assert paper.printed_flops(regime) == {}
    assert paper.misprints(regime) == {}


def test_a_step_that_the_paper_lacks_has_no_row_and_is_no_parent(damage):
    text = paper.FILE.read_text()
    lines = "".join(line for line in text.splitlines(True) if ",kernel-7," not in line)
    damage(text, lines)
    table = paper.published("resnet50").set_index("step")
    assert "kernel-7" not in table.index
    assert "kernel-7" not in paper.printed_flops("resnet50")
    assert set(table.loc[["kernel-9", "kernel-11", "gelu"], "parent"]) == {"kernel-5"}


def test_costs_of_models_and_of_the_ends_of_the_roads():
    costs = paper.printed_costs()
    large = [v for v in costs if (v.model, v.image_size, v.table) == ("ConvNeXt-L", "384", "1")]
    assert [(v.metric, v.printed, v.pretraining) for v in large] == [
        ("params", "198", "1K"),
        ("flops", "101.0", "1K"),
        ("params", "198", "22K"),
        ("flops", "101.0", "22K"),
    ]
    ends = [(v.model, v.printed) for v in costs if v.table in ("10", "11")]
    assert ends == [
        ("ResNet-50", "4.09"),
        ("ConvNeXt-T", "4.49"),
        ("Swin-T", "4.50"),
        ("ResNet-200", "15.01"),
        ("ConvNeXt-B", "15.35"),
        ("Swin-B", "15.43"),
    ]
    assert sum(bool(v.misprint) for v in costs) == 1


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("78.82", "many", "many"),
        ("78.82", "nan", "nan"),
        ("model,", "name,", "name"),
        (",misprint", "", ""),
        (",M,\n", ",M,,\n", ""),
        ("Swin-T", '"Swin-T', ""),
    ],
)
def test_a_damaged_file_is_named(damage, old, new, named):
    damage(old, new)
    with pytest.raises(RoadmapError) as caught:
        paper.published("resnet50")
    assert str(paper.FILE) in str(caught.value)
    assert named in str(caught.value)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "FILE", tmp_path / "values.csv")
    with pytest.raises(RoadmapError) as caught:
        paper.reference("resnet200")
    assert str(paper.FILE) in str(caught.value)


@pytest.mark.integration
def test_importing_needs_neither_torch_nor_pandas():
    code = "import sys, ablations.paper; sys.exit(bool({'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
