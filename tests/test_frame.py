"""All runs of a study as one table: in Python, and by the command."""

import csv
import io
import json
import subprocess
import sys

import pandas as pd
import pytest
from command_line import call
from reporting import PROVENANCE, finished, write_study

import ablations
from ablations.records import Record, Status, write_json
from modernize.errors import UsageError


@pytest.fixture
def study(tmp_path):
    diverged = Record(Status.DIVERGED, "the loss became nan", provenance=PROVENANCE)
    ends = {"resnet": [80.0, 81.0], "recipe": [finished(85.0, device="H100"), None, diverged]}
    return write_study(tmp_path / "mine", ends)


def test_a_row_for_each_run(study):
    table = ablations.runs("mine", study.folder.parent)
    assert list(zip(table["step"], table["seed"], table["status"], strict=True)) == [
        ("resnet", 0, "finished"), ("resnet", 1, "finished"), ("resnet", 2, "missing"),
        ("recipe", 0, "finished"), ("recipe", 1, "missing"), ("recipe", 2, "diverged"),
    ]  # fmt: skip
    assert set(table["study"]) == {"mine"}
    assert list(table["recipe"]) == ["classic"] * 3 + ["enhanced"] * 3
    assert list(table["device"]) == ["cpu", "cpu", "", "H100", "", "cpu"]
    pd.testing.assert_frame_equal(table, ablations.runs(study.folder))
    pd.testing.assert_frame_equal(table, ablations.runs(study))
    by_step = table.groupby("step", sort=False)["top1"].mean()
    assert by_step.to_dict() == {"resnet": 80.5, "recipe": 85.0}


def test_every_number_of_a_record_is_a_column(study):
    """Whatever the record has: what is in record.json, except texts, is in the table."""
    _, run, folder = next(study.runs())
    values = json.loads((folder.path / "record.json").read_text())
    row = ablations.runs(study).set_index("run").loc[run.name]
    numbers = [name for name in values if name not in ("status", "reason", "provenance")]
    assert {"top1", "top5", "top1_best", "train_loss", "seconds"} <= set(numbers)
    for name in numbers:
        expected = float("nan") if values[name] is None else float(values[name])
        assert row[name] == pytest.approx(expected, nan_ok=True), name


def test_the_changes_of_a_recipe_are_named(study):
    manifest = dict(study.manifest)
    manifest["variants"] = [{**v, "recipe": {"mixup": 0.4}} for v in manifest["variants"]]
    write_json(study.folder / "study.json", manifest)
    assert set(ablations.runs(study.folder)["recipe"]) == {
        "classic, mixup 0.4",
        "enhanced, mixup 0.4",
    }


@pytest.mark.integration
def test_the_command(study):
    there = "mine", "--results", study.folder.parent, "--per-run"
    rows = list(csv.DictReader(io.StringIO(call("collect", *there, "--format", "csv"))))
    assert list(rows[0]) == list(ablations.runs(study))
    assert [row["top1"] for row in rows] == ["80.0", "81.0", "", "85.0", "", ""]
    assert json.loads(call("collect", *there, "--format", "json"))[2]["top1"] is None
    assert "| resnet |" in call("collect", *there, "--format", "markdown")
    assert "--per-run" in call("collect", *there, status=2)
    assert not (study.folder / "summary.csv").exists()


def test_a_study_without_runs(study):
    (study.folder / "runs").rename(study.folder / "elsewhere")
    with pytest.raises(UsageError, match="mine"):
        ablations.runs(study.folder)
    with pytest.raises(UsageError, match="nowhere"):
        ablations.runs("nowhere", study.folder.parent)
    with pytest.raises(AttributeError, match="sweep"):
        _ = ablations.sweep


@pytest.mark.integration
def test_the_package_imports_no_slow_library():
    code = "import sys, ablations; assert not {'pandas', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
