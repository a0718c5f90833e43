"""Summaries: means, standard deviations, and missing runs."""

import csv
import statistics
from pathlib import Path

import pytest
from reporting import write_study

from ablations.analysis.summary import (
    as_texts,
    columns,
    read_summary,
    summarise,
    write_summary,
)
from ablations.charts.figures import study_figure
from ablations.metrics import CLASSIFICATION
from ablations.records import Record, Status, Study
from modernize.cost import cost
from modernize.errors import RoadmapError, UsageError

Outcomes = dict[str, list[Record | None]]


def finished(top1: float) -> Record:
    return Record(
        Status.FINISHED,
        metrics={"top1": top1, "top5": 99.0, "top1_best": top1 + 1},
        best_epoch=1,
        epochs=2,
        seconds=10,
    )


COLLAPSED = Record(
    Status.COLLAPSED, "at chance", metrics={"top1": 10.0, "top5": 50.0, "top1_best": 12.0}, epochs=2
)
DIVERGED = Record(Status.DIVERGED, "the loss became nan")
FAILED = Record(Status.FAILED, "no memory")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study of four steps and three seeds, each row in another state."""
    ends: Outcomes = {
        "resnet": [finished(80.0), finished(81.0), finished(84.0)],
        "recipe": [finished(85.0), None, COLLAPSED],
        "stage-ratio": [DIVERGED, COLLAPSED, None],
        "patchify": [COLLAPSED, COLLAPSED, COLLAPSED],
        "depthwise": [FAILED, None, None],
        "width": [None, None, None],
    }
    return write_study(tmp_path / "study", ends)


def test_rows_say_n_mean_deviation_and_what_is_missing(study: Study) -> None:
    table = summarise(study).set_index("step")
    top1 = [80.0, 81.0, 84.0]
    assert table.loc["resnet", "n"] == 3
    assert table.loc["resnet", "top1"] == pytest.approx(statistics.mean(top1))
    assert table.loc["resnet", "top1_std"] == pytest.approx(statistics.stdev(top1))
    assert table.loc["resnet", "top1_best"] == pytest.approx(statistics.mean(top1) + 1)
    assert table.loc["resnet", "status"] == "finished"
    assert table["status"].to_dict() == {
        "resnet": "finished",
        "recipe": "partial",
        "stage-ratio": "diverged",
        "patchify": "collapsed",
        "depthwise": "failed",
        "width": "missing",
    }
    assert table["n"].to_dict() == {
        "resnet": 3, "recipe": 1, "stage-ratio": 0, "patchify": 0, "depthwise": 0, "width": 0,
    }  # fmt: skip
    assert table.loc["recipe", "top1"] == 85.0  # the collapsed seed is named, not averaged in
    assert table.loc["recipe", "detail"] == "seed 1 missing, seed 2 collapsed"
    assert table.loc["patchify", "top1"] == 10.0
    assert table["top1"].isna().sum() == 2


def test_parameters_and_flops_are_the_counted_ones(study: Study) -> None:
    table = summarise(study)
    for variant, (_, row) in zip(study.variants, table.iterrows(), strict=True):
        counted = cost(variant.spec, 32)
        assert (row["params"], row["flops"]) == (counted.params, counted.flops)


def test_a_running_run_is_said_to_run(study: Study) -> None:
    for variant, run, folder in study.runs():
        if variant.key == "width":
            folder.prepare(run)
            folder.write_progress(fraction=0.5)
    assert summarise(study).set_index("step").loc["width", "status"] == "running"


def test_a_half_written_record_is_named_and_stops_nothing(study: Study) -> None:
    variant, _, folder = next(iter(study.runs()))
    (folder.path / "record.json").write_text('{"status": "fin')
    row = summarise(study).set_index("step").loc[variant.key]
    assert (row["status"], row["n"], row["detail"]) == ("partial", 2, "seed 0 unreadable")


def test_the_summary_file_can_stand_alone(study: Study) -> None:
    written = write_summary(study)
    with (study.folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == columns(CLASSIFICATION)
    assert list(rows[0])[:5] == ["step", "label", "n", "top1", "top1_std"]
    assert float(rows[0]["top1"]) == pytest.approx(statistics.mean([80, 81, 84]), abs=1e-4)
    (study.folder / "runs").rename(study.folder.parent / "elsewhere")
    alone = read_summary(study)
    assert as_texts(alone) == as_texts(written)
    assert study_figure(study).axes


def test_texts_that_are_all_empty_are_read_as_texts(study: Study) -> None:
    table = write_summary(study).assign(detail="", parent="")
    table.to_csv(study.folder / "summary.csv", index=False)
    (study.folder / "runs").rename(study.folder.parent / "elsewhere")
    alone = read_summary(study)
    assert set(alone["detail"]) == set(alone["parent"]) == {""}
    assert list(alone["step"]) == list(table["step"])


def test_a_study_without_runs_or_summary_says_so(study: Study) -> None:
    (study.folder / "runs").rename(study.folder.parent / "elsewhere")
    with pytest.raises(UsageError, match="no runs yet"):
        read_summary(study)


def test_a_damaged_summary_is_named(study: Study) -> None:
    (study.folder / "runs").rename(study.folder.parent / "elsewhere")
    (study.folder / "summary.csv").write_text("step,label\nresnet\n")
    with pytest.raises(RoadmapError, match=r"summary\.csv"):
        read_summary(study)


def test_texts_show_changes_from_the_parent(study: Study) -> None:
    rows = {row["step"]: row for row in as_texts(summarise(study))}
    assert rows["resnet"]["top-1"] == "81.67 ± 2.08"
    assert rows["recipe"]["change"] == "+3.33"
    assert rows["patchify"]["change"] == ""
    assert rows["width"]["top-1"] == ""
    assert rows["recipe"]["status"] == "partial (seed 1 missing, seed 2 collapsed)"


def test_the_chart_of_such_a_study_names_every_bad_row(study: Study) -> None:
    figure = study_figure(study)
    words = " ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))
    for word in ("missing", "collapsed", "diverged", "failed"):
        assert word in words
