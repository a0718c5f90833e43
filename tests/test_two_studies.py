"""Two studies compared: pairs by seed, samples, and everything in which the studies differ."""

import csv
import io
import statistics

import pytest
from command_line import call
from reporting import write_study
from scipy import stats

from ablations.analysis.comparison import columns
from ablations.analysis.two_studies import as_report
from ablations.metrics import CLASSIFICATION
from ablations.records import Study, write_json
from modernize.errors import UsageError

BEFORE = {
    "resnet": [80.0, 81.0, 80.4],
    "recipe": [85.1, 86.0, 85.6],
    "stage-ratio": [85.0, 85.2, 85.9],
    "patchify": [84.0, 84.3, 84.1],
}
AFTER = {
    "resnet": [80.1, 81.2, 80.7],
    "recipe": [85.3, 85.9, 85.1, 88.0],
    "stage-ratio": [85.5],
    "depthwise": [81.0, 82.0, 83.0],
}


@pytest.fixture
def studies(tmp_path):
    changed = ["recipes.enhanced.epochs=7", "recipes.enhanced.mixup=0.3"]
    return (
        write_study(tmp_path / "a", BEFORE),
        write_study(tmp_path / "b", AFTER, settings=changed),
    )


def rows_of(before, after):
    report = as_report(before, after)
    return {row["step"]: row for row in report.values}, "\n".join(report.notes)


def on_other_images(study):
    """The same study on other images, with its runs as they are."""
    kept = {run.seed: folder.read_record() for v, run, folder in study.runs() if v.key == "recipe"}
    images = {**study.manifest["images"], "sha256": "1"}
    write_json(study.folder / "study.json", {**study.manifest, "images": images})
    moved = Study.open(study.folder)
    for variant, run, folder in moved.runs():
        if variant.key == "recipe" and kept.get(run.seed):
            folder.prepare(run)
            folder.write_record(kept[run.seed])
    return moved


def test_runs_are_paired_by_seed_where_both_have_it(studies):
    rows, notes = rows_of(*studies)
    assert list(rows) == ["resnet", "recipe", "stage-ratio"]
    expected = stats.ttest_rel(AFTER["recipe"][:3], BEFORE["recipe"])
    assert rows["recipe"]["test"] == "paired t"
    assert rows["recipe"]["pairs"] == 3
    assert rows["recipe"]["p"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert rows["recipe"]["change_low"] == pytest.approx(interval.low)
    assert rows["recipe"]["change_high"] == pytest.approx(interval.high)
    assert rows["recipe"]["baseline"] == "a"
    assert rows["recipe"]["baseline_top1"] == pytest.approx(statistics.mean(BEFORE["recipe"]))
    assert rows["recipe"]["n"] == 4
    both = [rows[step]["p"] for step in ("resnet", "recipe")]
    assert rows["resnet"]["p_holm"] == pytest.approx(min(1, 2 * min(both)))
    assert "same initial weights" in notes


def test_one_common_seed_is_no_test(studies):
    rows, _ = rows_of(*studies)
    assert rows["stage-ratio"]["p"] is None
    assert rows["stage-ratio"]["change"] == pytest.approx(85.5 - statistics.mean([85, 85.2, 85.9]))


def test_two_samples_if_the_images_differ(studies):
    before, after = studies
    rows, notes = rows_of(before, on_other_images(after))
    expected = stats.ttest_ind(AFTER["recipe"], BEFORE["recipe"], equal_var=False)
    assert rows["recipe"]["test"] == "Welch t"
    assert rows["recipe"]["p"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert rows["recipe"]["change_low"] == pytest.approx(interval.low)
    assert "DIFFERENT IMAGES (images.sha256: 0, 1)" in notes
    assert "Not paired" in notes


def test_everything_in_which_they_differ_is_named(studies):
    _, notes = rows_of(*studies)
    assert "Only in a: patchify." in notes
    assert "Only in b: depthwise." in notes
    assert "recipe.epochs: 5, 7 (recipe, stage-ratio)" in notes
    assert "recipe.mixup: 0.0, 0.3 (recipe, stage-ratio)" in notes
    assert "IMAGES" not in notes


def test_a_study_with_itself(studies):
    rows, notes = rows_of(studies[0], Study.open(studies[0].folder))
    assert {row["change"] for row in rows.values()} == {0.0}
    assert {row["p"] for row in rows.values()} == {None}
    assert ": none." in notes


def test_no_step_in_common(tmp_path):
    first = write_study(tmp_path / "a", {"resnet": [80.0]})
    second = write_study(tmp_path / "b", {"recipe": [80.0]})
    with pytest.raises(UsageError, match=r"a and b.*resnet.*recipe"):
        as_report(first, second)


@pytest.mark.integration
def test_the_command(studies):
    there = "--results", studies[0].folder.parent
    shown = call("compare", "a", "b", *there)
    assert "b less a" in shown
    assert "80.47 ± 0.50" in shown
    table = list(csv.DictReader(io.StringIO(call("compare", "a", "b", *there, "--format", "csv"))))
    assert list(table[0]) == columns(CLASSIFICATION.headline)
    paths = call("compare", studies[0].folder, studies[1].folder, "--format", "markdown")
    assert "| recipe |" in paths
    assert "optimistic" in call("compare", "a", "b", *there, "--best-epoch")
    assert "--baseline" in call("compare", "a", "b", *there, "--baseline", "recipe", status=2)
