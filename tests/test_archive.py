"""A study whose runs are kept in one file: what it still shows, and how it is resumed."""

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from reporting import finished, write_study

from ablations.analysis.accuracies import of_study
from ablations.analysis.comparison import compare
from ablations.analysis.summary import read_summary, summarise, write_summary
from ablations.cli import cli
from ablations.commands.launch import design
from ablations.records import Record, ResultsError, Status, Study
from ablations.report.data import read_data
from ablations.report.html import as_html
from ablations.report.page import make
from modernize.errors import UsageError

DIVERGED = Record(Status.DIVERGED, "the loss was nan at iteration 7", epochs=0)
ENDS = {
    "recipe": [85.0, 85.4, 85.9],
    "stage-ratio": [85.5, 86.0, DIVERGED],
    "patchify": [84.0, None, finished(84.5, device="another")],
}


@pytest.fixture
def whole(tmp_path: Path) -> Study:
    return write_study(tmp_path / "study", ENDS)


def without_folders(study: Study) -> Study:
    """The same study after its archive was written and its runs were removed."""
    study.archive()
    shutil.rmtree(study.folder / "runs")
    return Study.open(study.folder)


@pytest.mark.integration
def test_the_archive_says_what_the_folders_said(whole: Study) -> None:
    table, changes, data = summarise(whole), compare(of_study(whole)), read_data(whole)
    best = compare(of_study(whole, best_epoch=True))
    page = make(whole)
    kept = without_folders(whole)
    assert not (kept.folder / "runs").exists()
    pd.testing.assert_frame_equal(summarise(kept), table)
    pd.testing.assert_frame_equal(compare(of_study(kept)), changes)
    assert set(changes["test"]) == {"", "paired t"}
    pd.testing.assert_frame_equal(compare(of_study(kept, best_epoch=True)), best)
    again = read_data(kept)
    assert again is not None
    assert data is not None
    assert again.outcomes == data.outcomes
    assert [t.reason for t in again.failed_runs] == ["the loss was nan at iteration 7"]
    for key, curves in data.curves.items():
        assert [(c.seed, c.finished, *c.values) for c in again.curves[key]] == [
            (c.seed, c.finished, *c.values) for c in curves
        ]
    page_again = make(kept)
    assert page_again.provenance == page.provenance
    assert not page_again.only_summary


@pytest.mark.integration
def test_the_page_of_a_whole_study_is_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_study(tmp_path / "study", {"recipe": [85.0, 85.4], "stage-ratio": [85.5, 86.0]})
    before = as_html(make(whole))
    kept = without_folders(whole)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert as_html(make(kept)) == before


def test_a_line_is_a_run_and_holds_no_weights(whole: Study) -> None:
    path, count = whole.archive()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert count == len(lines) == 8  # of nine, one has no record
    assert {tuple(line) for line in lines} == {("run", "record", "metrics")}
    names = {run.name for _, run, folder in whole.runs() if folder.read_record()}
    assert {line["run"] for line in lines} == names


def test_archived_again_it_is_the_same(whole: Study) -> None:
    path, _ = whole.archive()
    before = path.read_bytes()
    kept = without_folders(whole)
    kept.archive()
    assert path.read_bytes() == before


def test_a_folder_comes_before_the_archive(whole: Study) -> None:
    kept = without_folders(whole)
    _, run, folder = next(iter(kept.runs()))
    folder.prepare(run)  # it is trained again
    assert folder.read_record() is None
    assert folder.read_metrics() == []
    folder.write_record(finished(12.0))
    again = Study.open(kept.folder)
    assert summarise(again).set_index("step").loc["recipe", "n"] == 3
    assert of_study(again).rows[0].values == {0: 12.0, 1: 85.4, 2: 85.9}


def test_a_run_that_is_trained_again_keeps_its_line_until_it_has_ended(whole: Study) -> None:
    kept = without_folders(whole)
    _, run, folder = next(iter(kept.runs()))
    folder.prepare(run)
    before = (kept.folder / "runs.jsonl").read_text()
    Study.open(kept.folder).archive()
    assert (kept.folder / "runs.jsonl").read_text() == before


def test_another_run_of_the_same_name_is_not_taken_for_it(whole: Study) -> None:
    kept = without_folders(whole)
    recipe = kept.manifest["preset"]["recipes"]["enhanced"]
    recipe["epochs"] += 1  # as if study.json had been edited
    assert set(summarise(Study(kept.folder, kept.manifest))["n"]) == {0}


@pytest.mark.parametrize("line", ['{"run": "x"', "[]", '{"run": "x"}', '{"odd": 1}', "7"])
def test_a_damaged_line_of_the_archive_is_named_and_costs_itself_alone(
    whole: Study, line: str
) -> None:
    table = summarise(whole)
    path, _ = whole.archive()
    path.write_text(path.read_text() + line + "\n")
    shutil.rmtree(whole.folder / "runs")
    kept = Study.open(whole.folder)
    pd.testing.assert_frame_equal(summarise(kept), table)
    assert "line 9" in kept.faults[path]
    with pytest.raises(ResultsError, match="line 9"):  # it may yet be mended
        kept.archive()
    assert path.read_text().endswith(line + "\n")


def test_a_damaged_record_is_not_archived(whole: Study) -> None:
    _, _, folder = next(iter(whole.runs()))
    (folder.path / "record.json").write_text('{"status": "fin')
    with pytest.raises(ResultsError, match=r"record\.json"):
        whole.archive()
    assert not (whole.folder / "runs.jsonl").exists()


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)
    assert result.exception is None
    return result.output


def test_collect_writes_it(whole: Study) -> None:
    results = str(whole.folder.parent)
    for study in ([], ["study"]):
        said = invoke("collect", *study, "--archive", "--results", results)
        assert "runs.jsonl: 8 runs" in said
        assert "study: 7 finished, 1 diverged, 1 missing" in invoke(
            "status", *study, "--results", results
        )
    assert (whole.folder / "runs.jsonl").is_file()


def test_what_is_only_archived_has_no_weights_and_no_log(whole: Study) -> None:
    results = str(without_folders(whole).folder.parent)
    for command in (
        ["logs", "study", "--step", "recipe"],
        ["evaluate", "study", "--step", "recipe"],
    ):
        with pytest.raises(UsageError, match=r"runs\.jsonl"):
            invoke(*command, "--results", results)
    assert "finished" in invoke("status", "study", "--results", results)


def test_what_is_archived_is_not_trained_again(tmp_path: Path) -> None:
    launch = ["--only", "patchify", "--results", str(tmp_path), "--set", "epochs=3", "--dry-run"]
    ours = ["--name", "study", "--seeds", "2"]
    assert "2 of 2 runs to do" in invoke(*launch, *ours)
    settings = ("epochs=3",)
    asked = {
        "study": "roadmap", "first": None, "last": None, "only": ("patchify",), "preset": None,
        "regime": None, "data": None, "settings": settings,
    }  # fmt: skip
    study = design(
        name="study", results=tmp_path, seeds=2, skip_bad_images=False, loggers=(), **asked
    ).study
    study.write()
    for _, run, folder in study.runs():
        folder.prepare(run)
        folder.write_record(dataclasses.replace(finished(80.0), epochs=3))
    without_folders(study)
    said = " ".join(invoke(*launch, "--name", "study", "--seeds", "3").split())
    assert "1 of 3 runs to do" in said
    assert said.count("(in runs.jsonl)") == 2
    assert "2 runs only in runs.jsonl" in said


def test_a_lone_summary_is_not_overwritten(whole: Study) -> None:
    write_summary(whole)
    before = (whole.folder / "summary.csv").read_bytes()
    shutil.rmtree(whole.folder / "runs")
    results = str(whole.folder.parent)
    with pytest.raises(UsageError, match=r"summary\.csv"):
        invoke("collect", "study", "--results", results)
    assert (whole.folder / "summary.csv").read_bytes() == before
    assert "finished" in invoke("collect", "study", "--results", results, "--format", "csv")


@pytest.mark.parametrize("column", ["n", "top1", "top5_std", "flops", "seconds"])
@pytest.mark.parametrize("odd", ["text", "inf", "0x1", "1e999"])
def test_a_damaged_summary_is_named_with_its_column(whole: Study, column: str, odd: str) -> None:
    write_summary(whole)
    shutil.rmtree(whole.folder / "runs")
    path = whole.folder / "summary.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[1, column] = odd
    table.to_csv(path, index=False)
    for use in (read_summary, of_study, make):
        with pytest.raises(ResultsError, match=rf"summary\.csv is damaged.*{column}"):
            use(Study.open(whole.folder))
    for content in (b"", b"\xff\xfe", bytes(99), b"step\n"):
        path.write_bytes(content)
        with pytest.raises(ResultsError, match=r"summary\.csv"):
            read_summary(whole)
