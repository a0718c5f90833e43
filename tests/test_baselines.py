"""What a step is compared with when the step it builds on has no runs, and how that is said."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import pytest
from command_line import call
from matplotlib.text import Text
from reporting import finished, write_study

from ablations.analysis.accuracies import of_study
from ablations.analysis.baselines import baseline_of, nearest_measured
from ablations.analysis.comparison import compare
from ablations.analysis.comparison_text import as_values, findings
from ablations.analysis.summary import as_texts, read_summary, write_summary
from ablations.charts.figures import study_figure
from ablations.cli import main
from ablations.recipe import load_preset
from ablations.records import Record, Status, Study
from ablations.report.markdown import as_markdown
from ablations.report.page import make
from modernize.steps import until

LOW, HIGH = [80.0, 80.4, 80.2], [85.0, 85.3, 85.4]
FAILED = Record(Status.FAILED, "no memory")


def texts(study: Study) -> str:
    return " ".join(text.get_text() for text in study_figure(study).findobj(Text))


@pytest.mark.parametrize(
    ("measured", "found"),
    [("abcd", "c"), ("abd", "b"), ("ad", "a"), ("d", None), ("", None)],
)
def test_the_nearest_step_before_with_runs(measured: str, found: str | None) -> None:
    parents = {"a": None, "b": "a", "c": "b", "d": "c"}
    assert nearest_measured("d", parents, set(measured)) == found
    assert baseline_of("d", parents, set(measured)) == (found or "c")
    assert baseline_of("a", parents, set(measured)) == ""


def test_steps_that_build_on_each_other_have_no_nearest_measured() -> None:
    assert nearest_measured("a", {"a": "b", "b": "c", "c": "b"}, {"a"}) is None


@pytest.mark.parametrize(
    ("steps", "bases"),
    [
        (["recipe", "patchify"], {"recipe": "resnet", "patchify": "recipe"}),
        (["resnet", "ln"], {"ln": "resnet"}),
        # Side branches leave from kernel-7, as the next step does.
        (["kernel-5", "kernel-9", "gelu"], {"kernel-9": "kernel-5", "gelu": "kernel-5"}),
        (["kernel-7", "kernel-11", "ln"], {"kernel-11": "kernel-7", "ln": "kernel-7"}),
        # No step builds on a side branch.
        (["kernel-9", "kernel-11"], {"kernel-9": "kernel-7", "kernel-11": "kernel-7"}),
    ],
)
def test_parents_that_are_not_in_the_study(tmp_path: Path, steps, bases) -> None:
    study = write_study(tmp_path / "some", dict.fromkeys(steps, LOW))
    compared = compare(of_study(study)).set_index("step")
    shown = read_summary(study).set_index("step")
    for step, base in bases.items():
        assert compared["baseline"][step] == shown["baseline"][step] == base
        assert (compared["change"][step] == 0.0) == (base in steps)
    write_summary(study)
    (study.folder / "runs").rename(tmp_path / "elsewhere")
    assert list(read_summary(study)["baseline"]) == list(shown["baseline"])


@pytest.mark.integration
def test_it_is_said_wherever_the_change_is_shown(tmp_path: Path) -> None:
    study = write_study(tmp_path / "some", {"recipe": LOW, "patchify": HIGH})
    found = of_study(study)
    table = compare(found)
    for words in (table["conclusion"][1], as_markdown(make(study))):
        assert "vs recipe: stage-ratio is not in the table" in words
    assert "or the nearest one before it" in as_markdown(make(study))
    assert "patchify +5.03" in " ".join(findings(found, table, "parent"))
    shown = as_texts(write_summary(study))[1]
    assert (shown["change"], shown["baseline"]) == ("+5.03", "recipe")
    with (study.folder / "summary.csv").open() as file:
        assert [row["baseline"] for row in csv.DictReader(file)] == ["resnet", "recipe"]


def test_the_chart_marks_changes_that_are_not_from_the_row_above(tmp_path: Path) -> None:
    steps = ["kernel-7", "kernel-9", "kernel-11", "gelu", "ln"]
    words = texts(write_study(tmp_path / "some", dict.fromkeys(steps, LOW)))
    assert "\N{DAGGER} change from kernel size 7: kernel size 11, ReLU to GELU" in words
    assert words.count("\N{DAGGER}") == 3
    steps.remove("ln")
    words = texts(write_study(tmp_path / "one", dict.fromkeys(steps, LOW)))
    assert "change: from kernel size 7" in words
    assert "\N{DAGGER}" not in words
    words = texts(write_study(tmp_path / "none", {"resnet": LOW, "recipe": HIGH}))
    assert "change: from" not in words


@pytest.mark.parametrize(
    "end", [FAILED, Record(Status.COLLAPSED, "at chance", metrics={"top1": 10.0}), None]
)
def test_a_parent_without_a_finished_run(tmp_path: Path, end: Record | None) -> None:
    study = write_study(
        tmp_path / "some", {"recipe": LOW, "stage-ratio": [end] * 3, "patchify": HIGH}
    )
    table = compare(of_study(study)).set_index("step")
    assert table["baseline"]["patchify"] == "recipe"
    assert "vs recipe: no finished run of stage-ratio" in table["conclusion"]["patchify"]
    assert table["conclusion"]["stage-ratio"].startswith("no comparison: no finished run")
    changes = {row["step"]: row["change"] for row in as_texts(read_summary(study))}
    assert changes == {"recipe": "", "stage-ratio": "", "patchify": "+5.03"}


def test_a_study_knows_the_parents_of_steps_that_it_does_not_have(tmp_path: Path) -> None:
    """study.json has the parents of all steps of a custom roadmap, also of absent ones."""
    road = until("patchify", "nano")
    keys = {variant.key: f"own-{variant.key}" for variant in road}
    whole = [dataclasses.replace(v, key=keys[v.key], parent=keys.get(v.parent or "")) for v in road]

    def joined(*places: int) -> Study:
        study = Study.merge(
            tmp_path / "own", preset=load_preset("nano"), regime="nano", seeds=1, name="own",
            images={"name": "fashion-mnist", "train_images": 1, "val_images": 1, "sha256": "0"},
            variants=[whole[place] for place in places], order=list(keys.values()), whole=whole,
        )  # fmt: skip
        study.write()
        return Study.open(study.folder)

    study = joined(0, 3)
    for _, run, folder in study.runs():
        folder.prepare(run)
        folder.write_record(finished(80.0 + len(run.key)))
    table = compare(of_study(study))
    assert list(table["baseline"]) == ["", "own-resnet"]
    assert joined(1).parents == {v.key: v.parent for v in whole}
    assert joined(1).sections == [*dict.fromkeys(variant.section for variant in whole)]


@pytest.mark.integration
def test_a_report_takes_the_baseline_of_compare(tmp_path, monkeypatch, capsys) -> None:
    ends = {"resnet": LOW, "recipe": HIGH, "ln": [84.0, 84.5, 84.1]}
    study = write_study(tmp_path / "some", ends)

    def report(*options: str, status: int = 0) -> str:
        arguments = ["report", "some", "--results", str(tmp_path), *options]
        monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == status
        return capsys.readouterr().err

    report("--baseline", "ln")
    page = (study.folder / "report.md").read_text()
    for text in ("compared with ln", "| recipe | ln | +1.03", "the baseline of the others"):
        assert text in page
    assert "Changes of top-1 from ln" in page  # all from one baseline: drawn as a tornado
    assert "recipes" in report("--baseline", "recipes", status=2)
    report()
    assert "| recipe | resnet |" in (study.folder / "report.md").read_text()


def averaged(study: Study, values: dict[str, list[float | None]]) -> None:
    """Adds the moving average's accuracy to what the runs wrote down of their epochs."""
    for variant, run, folder in study.runs():
        if (value := values[variant.key][run.seed]) is not None:
            rows = folder.read_metrics()
            lines = [json.dumps({**row, "ema_top1": value - 3 + row["epoch"]}) for row in rows]
            (folder.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.integration
def test_the_moving_averages_accuracy_is_in_the_tables(tmp_path: Path) -> None:
    study = write_study(
        tmp_path / "some", {"resnet": LOW, "recipe": HIGH}, settings=["ema_decay=0.9"]
    )
    averaged(study, {"resnet": [81.0, 82.0, 83.0], "recipe": [None, None, float("nan")]})
    table = write_summary(study)
    assert table["ema_top1"][0] == pytest.approx(82.0)
    assert table["ema_top1_std"][0] == pytest.approx(1.0)
    with (study.folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["ema_top1"], r["ema_top1_std"]) for r in rows] == [("82.0000", "1.0000"), ("", "")]
    assert [row["EMA top-1"] for row in as_texts(table)] == ["82.00 ± 1.00", ""]
    assert "| 82.00 ± 1.00 |" in as_markdown(make(study))
    assert "EMA" not in as_markdown(make(study, best_epoch=True))
    for other in ([], [str(study.folder)]):  # the changes of one study, and two studies
        assert "82.00 ± 1.00" in call("compare", study.folder, *other, "--format", "markdown")
    values = as_values(compare(of_study(study)))
    assert [(row["ema_top1"], row["ema_top1_std"]) for row in values] == [(82.0, 1.0), (None, None)]
    assert "ema_top1" not in compare(of_study(study, best_epoch=True))
    (study.folder / "runs").rename(tmp_path / "elsewhere")
    assert read_summary(study)["ema_top1"][0] == pytest.approx(82.0)
    assert compare(of_study(study))["ema_top1"][0] == pytest.approx(82.0)


@pytest.mark.integration
def test_without_a_moving_average_there_is_no_column_for_it(tmp_path: Path) -> None:
    study = write_study(tmp_path / "some", {"resnet": LOW, "recipe": HIGH})
    assert "ema_top1" not in write_summary(study)
    assert "EMA top-1" not in as_texts(read_summary(study))[0]
    assert "EMA" not in as_markdown(make(study))
