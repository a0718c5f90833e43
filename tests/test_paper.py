"""The published tables against the files they come from, and against the paper itself."""

import csv
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ablations import paper
from modernize.errors import RoadmapError
from modernize.steps import until

ROOT = Path(__file__).parent.parent
FILES = {
    "resnet50": ROOT / "results/paper/table10_resnet50.csv",
    "resnet200": ROOT / "results/paper/table11_resnet200.csv",
}


def cells_of(regime):
    with FILES[regime].open(newline="") as file:
        return {row["step"]: row for row in csv.DictReader(file)}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the folder, to spoil."""
    shutil.copytree(ROOT / "results/paper", tmp_path / "paper")
    monkeypatch.setattr(paper, "FOLDER", tmp_path / "paper")
    return tmp_path / "paper"


@pytest.mark.parametrize("regime", FILES)
def test_published_holds_every_cell_of_the_file(regime):
    table, cells = paper.published(regime), cells_of(regime)
    assert list(table["step"]) == [step for step in cells if step != "swin"]
    for row in table.to_dict("records"):
        cell = cells[row["step"]]
        assert row["top1"] == float(cell["top1"])
        assert row["gflops"] == float(cell["gflops"])
        assert row["adopted"] == (cell["adopted"] == "yes")
        assert row["n"] == (3 if cell["top1_std"] else 1)
        assert math.isnan(row["top1_std"]) == (not cell["top1_std"])
        if cell["top1_std"]:
            assert row["top1_std"] == float(cell["top1_std"])
    assert set(table["status"]) == {"finished"}


@pytest.mark.parametrize("regime", FILES)
def test_published_takes_the_road_from_the_steps(regime):
    table, variants = paper.published(regime), until("downsample", regime)
    assert list(table["label"]) == [v.title for v in variants]
    assert list(table["section"]) == [v.section for v in variants]
    assert list(table["parent"]) == [v.parent or "" for v in variants]
    parents = dict(zip(table["step"], table["parent"], strict=True))
    assert parents["kernel-11"] == parents["gelu"] == "kernel-7"


def test_published_as_in_the_paper():
    tiny = paper.published("resnet50").set_index("step")
    base = paper.published("resnet200").set_index("step")
    assert tuple(tiny.loc["resnet", ["top1", "gflops"]]) == (76.13, 4.09)
    assert tuple(tiny.loc["recipe", ["top1", "top1_std"]]) == (78.82, 0.07)
    assert tuple(tiny.loc["depthwise", ["top1", "gflops"]]) == (78.28, 2.35)
    assert tuple(tiny.loc["downsample", ["top1", "top1_std"]]) == (81.97, 0.06)
    assert tuple(base.loc["width", ["top1", "gflops"]]) == (81.85, 16.76)
    assert tuple(base.loc["downsample", ["top1", "gflops"]]) == (83.60, 15.35)


def test_reference():
    assert paper.reference("resnet50") == paper.Reference("Swin-T", 81.30, 4.50)
    assert paper.reference("resnet200") == paper.Reference("Swin-B", 83.50, 15.43)


@pytest.mark.parametrize("regime", FILES)
def test_printed_gflops_keep_their_zeros(regime):
    printed, cells = paper.printed_gflops(regime), cells_of(regime)
    assert printed == {step: cell["gflops"] for step, cell in cells.items() if step != "swin"}
    assert all(len(text.split(".")[1]) == 2 for text in printed.values())
    assert paper.printed_gflops("resnet50")["kernel-5"] == "4.10"


def test_misprints_are_the_two_cells_of_table_10():
    assert set(paper.misprints("resnet50")) == {"ln", "downsample"}
    assert all(paper.misprints("resnet50").values())
    assert paper.misprints("resnet200") == {}


@pytest.mark.parametrize("regime", ["nano", "no-such-regime"])
def test_a_regime_that_the_paper_lacks(regime):
    assert paper.published(regime) is None
    assert paper.reference(regime) is None
    assert paper.printed_gflops(regime) == {}
    assert paper.misprints(regime) == {}


def test_a_missing_file_is_named(copy):
    (copy / "table10_resnet50.csv").unlink()
    with pytest.raises(RoadmapError, match=r"table10_resnet50\.csv.*restore it"):
        paper.published("resnet50")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("78.82", "many", r"'recipe': top1 is 'many', not a number"),
        ("78.82", "nan", r"'recipe': top1 is 'nan', not a number"),
        ("0.07,4.09", "?,4.09", r"'recipe': top1_std is '\?'"),
        ("gelu,", "glue,", r"'gelu' is missing; 'glue' is unknown"),
        ("kernel-9,", "kernel-7,", r"'kernel-9' is missing; 'kernel-7' stands twice"),
        ("top1_std,", "spread,", r"lacks the columns top1_std"),
        ("4.15,yes", "4.15,yes,so", r"more or fewer cells"),
        ("4.15,yes", "4.15", r"more or fewer cells"),
    ],
)
def test_a_malformed_file_says_what_is_wrong(copy, old, new, message):
    path = copy / "table10_resnet50.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RoadmapError, match=message):
        paper.published("resnet50")


def test_cells_of_models():
    cells = paper.model_cells()
    large = [c for c in cells if (c.model, c.image_size, c.table) == ("ConvNeXt-L", 384, "1")]
    assert [(c.column, c.printed, c.pretraining) for c in large] == [
        ("params_m", "198", "1K"),
        ("gflops", "101.0", "1K"),
        ("params_m", "198", "22K"),
        ("gflops", "101.0", "22K"),
    ]
    assert paper.Cell("ConvNeXt-T", 224, "gflops", "4.49", "10", misprint=True) in cells
    assert paper.Cell("Swin-B", 224, "gflops", "15.43", "11") in cells
    assert paper.Cell("ViT-L", 224, "params_m", "304", "2") in cells
    assert sum(c.misprint for c in cells) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("224,29,4.5", "224,29,few", r"table1.*model 'ConvNeXt-T': gflops is 'few', not a number"),
        ("224,29,4.5", "big,29,4.5", r"table1.*model 'ConvNeXt-T': image_size is 'big'"),
        ("gflops,", "cost,", r"table1.*lacks the columns gflops"),
    ],
)
def test_a_malformed_table_of_models_says_what_is_wrong(copy, old, new, message):
    path = copy / "table1_v100_throughput.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(RoadmapError, match=message):
        paper.model_cells()


def test_an_empty_file(copy):
    (copy / "table11_resnet200.csv").write_text("")
    with pytest.raises(RoadmapError, match=r"table11_resnet200\.csv.*no rows"):
        paper.reference("resnet200")


def test_a_misprint_must_be_in_the_table(copy):
    path = copy / "misprints.csv"
    path.write_text(path.read_text().replace("4.46", "4.47"))
    with pytest.raises(RoadmapError, match=r"'4\.47'.*'ln'.*'4\.46'"):
        paper.misprints("resnet50")


def test_importing_needs_neither_torch_nor_pandas():
    code = "import sys, ablations.paper; sys.exit(bool({'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
