"""The notebook: stored clean, made of calls alone, and run from top to bottom."""

import ast
import base64
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from ablations import paper
from ablations.analysis.accuracies import of_study
from ablations.analysis.comparison import compare
from ablations.charts import chart
from ablations.charts.figures import paper_figure, study_figure
from ablations.records import REPOSITORY, Study
from ablations.report.figures import tornado_figure
from ablations.report.page import tornado_table
from modernize.cost import cost
from modernize.steps import STEPS, spec_of

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
PATH = FOLDER / "roadmap.ipynb"
SECONDS = 300  # for one cell, on a busy machine


def cells(kind):
    notebook = nbformat.read(PATH, as_version=nbformat.NO_CONVERT)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def test_it_is_stored_clean():
    notebook = nbformat.read(PATH, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert not any(cell.metadata for cell in notebook.cells)
    for cell in cells("code"):
        assert cell.outputs == [], cell.id
        assert cell.execution_count is None, cell.id


def test_its_cells_are_named_for_people():
    """So that a name stays when the cell changes; an editor would have drawn it at random."""
    ids = [cell.id for kind in ("code", "markdown") for cell in cells(kind)]
    assert len(set(ids)) == len(ids)
    assert not [name for name in ids if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)]


@pytest.mark.parametrize("cell", cells("code"), ids=lambda cell: cell.id)
def test_it_calls_the_library_and_defines_nothing(cell):
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    tree = ast.parse(cell.source)  # which refuses magics, as well
    assert not [node for node in ast.walk(tree) if isinstance(node, defining)]
    assert len(cell.source.splitlines()) <= 15


def test_what_it_links_to_is_there():
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(cell.source for cell in cells("markdown")))
    ours = [link for link in links if not link.startswith("https://")]
    assert ours
    for link in ours:
        assert (FOLDER / link).exists(), link


@pytest.fixture
def jupyter(tmp_path, monkeypatch):
    """Jupyter without the user's settings, kernels and history; the kernel imports this program."""
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JUPYTER_NO_CONFIG", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONWARNINGS", "default")  # those of libraries as well
    # Of the fonts that matplotlib finds it makes a list, once, and where that takes long, says so.
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("jupyter")
@pytest.mark.parametrize("folder", [ROOT, FOLDER], ids=["root", "notebooks"])
def test_it_runs_from_top_to_bottom(folder):
    notebook = nbformat.read(PATH, as_version=nbformat.NO_CONVERT)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=where).execute()

    shown = {}
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        assert cell.outputs, f"{cell.id} shows nothing"
        for output in cell.outputs:
            assert output.output_type != "error", output
            assert output.get("name") != "stderr", f"{cell.id}: {output.text}"
        shown[cell.id] = cell.outputs
    check(shown)


def check(shown):
    """Compares some of the shown results with the library."""
    assert all(step.key in text(shown["road-rows"]) for step in STEPS)
    assert spec_of("depthwise").text() in text(shown["one-step-text"])

    assert "'depthwise'" in text(shown["change-diff"])
    for step in ("patchify", "depthwise"):
        params = f"{cost(spec_of(step), 224).params:,}"
        assert params in text(shown["change-built-both"])
        assert params in text(shown["change-cost-both"])
    assert "28,589,128" in text(shown["road-cost-all"])
    assert text(shown["road-cost-all"]).count(r"| no \*") == len(paper.misprints("resnet50"))

    assert f"{cost(spec_of('downsample'), 224).flops}" in text(shown["own-cost"])
    assert "29.8 GFLOPs" in text(shown["own-road-folded"])

    study = Study.open(REPOSITORY / "results" / "reference-nano")
    assert png(shown["change-drawn"]).startswith(b"\x89PNG")
    assert "d7x7, 768" in text(shown["change-architecture-table"])
    assert png(shown["figure-drawn"]) == chart.as_png(paper_figure())
    assert png(shown["study-figure"]) == chart.as_png(study_figure(study))
    for variant in study.variants:
        assert f"| {variant.key} |" in text(shown["study-table"])
        assert f"| {variant.key} |" in text(shown["study-compared"])
    other = Study.open(REPOSITORY / "results" / "reference-leave-one-out")
    changes = tornado_table(compare(of_study(other)))
    assert len(changes) > 10
    assert png(shown["left-out-drawn"]) == chart.as_png(tornado_figure(changes))
    assert "+0.06, not distinguishable from zero at n = 3" in text(shown["paper-compared"])
    assert "stage-ratio" in text(shown["paper-sorted"])
    assert "patchify" not in text(shown["paper-sorted"])


def text(outputs):
    """What a reader reads: Markdown where there is some, else plain text, else what was printed."""
    data = [output.get("data", {"text/plain": output.get("text", "")}) for output in outputs]
    return "\n".join(each.get("text/markdown", each["text/plain"]) for each in data)


def png(outputs):
    return base64.b64decode(outputs[-1].data["image/png"])
