"""Accuracies -> conclusions: every case, the paper's own table, records, and the command."""

import csv
import dataclasses
import io
import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reporting import write_study

from ablations.analysis.accuracies import (
    BEST,
    LAST,
    Accuracies,
    VariantAccuracy,
    of_paper,
    of_study,
)
from ablations.analysis.comparison import columns, compare, sensitivity
from ablations.analysis.comparison_text import COLUMNS as SHOWN
from ablations.analysis.comparison_text import as_texts, as_values, notes
from ablations.analysis.conclusions import half_width
from ablations.analysis.statistics import summarise_values, summary_from
from ablations.analysis.summary import write_summary
from ablations.cli import main
from ablations.metrics import CLASSIFICATION
from ablations.recipe import load_preset
from ablations.records import Record, Status, Study, write_json
from ablations.studies.selection import roadmap
from ablations.tables import fit
from ablations.units import p_value, signed
from modernize.errors import UnknownNameError, UsageError

ROOT = Path(__file__).parent.parent


def sample(key, parent, values, excluded=()):
    """A variant with its accuracies by seed; None for a seed that did not come to any."""
    top1 = {seed: v for seed, v in enumerate(values) if v is not None}
    summary = summarise_values(list(top1.values())) if top1 else None
    return VariantAccuracy(key, key, parent, summary, top1, dict(excluded))


def two(before, after, missing_before=(), missing_after=()):
    """A step and the one after it."""
    rows = sample("a", None, before, missing_before), sample("b", "a", after, missing_after)
    return Accuracies("study", LAST, rows)


def says(text, *parts):
    """Whether a sentence has these names and values; its other words may change."""
    return all(part in text for part in parts)


def conclusion(before, after, missing_before=(), missing_after=()):
    return compare(two(before, after, missing_before, missing_after))["conclusion"][1]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([80.0], [80.3], "+0.30; one run each: no test"),
        ([80.0, 80.1], [80.05], "+0.05; b has one run: no test"),
        ([80.0, 80.2], [80.3, 80.4], "+0.25, not distinguishable from zero at n = 2"),
        (
            [80.0, 80.1, 80.2],
            [80.1, 80.1, 80.25],
            "+0.05, not distinguishable from zero at n = 3",
        ),
        ([80.0, 80.1, 80.2], [81.0, 81.2, 81.3], "+1.07 ± 0.14 (95 %), p < 0.001"),
        ([80.0, 80.1, 80.2], [79.0, 79.2, 79.1], "-1.00 ± 0.25 (95 %), p = 0.003"),
        (
            [80.0, 80.1, 80.2],
            [80.1, 80.2, 80.3],
            "+0.10; equal in each of 3 seeds: no test",
        ),
        (
            [80.0, 80.1, 80.2],
            [80.0, 80.1, 80.2],
            "0.00; equal in each of 3 seeds: no test",
        ),
        ([80.0, 80.0, 80.0], [80.1, 80.2, 80.1], "+0.13, not distinguishable from zero at n = 3"),
        ([80.0, None], [None, 80.4], "no comparison: no seed finished both here and in a"),
        ([None], [80.4], "no comparison: no finished run of a"),
        ([80.0], [None], "no comparison: no finished run"),
    ],
)
def test_conclusions(before, after, words):
    assert conclusion(before, after) == words


@pytest.mark.integration
def test_seeds_that_did_not_finish_in_both_are_counted_by_reason():
    words = conclusion(
        [80.0, 80.1, 80.2, None, None],
        [80.3, None, 80.4, 80.2, None],
        {3: "diverged", 4: "missing"},
        {1: "collapsed", 4: "missing"},
    )
    assert says(words, "+0.25", "n = 2", "1 collapsed, 1 missing, 1 diverged in a")
    assert says(conclusion([80.0, 80.1], [80.2, 80.9], {}, {2: "failed"}), "1 failed")


@pytest.mark.integration
def test_what_does_not_hold_for_all_tests_together_is_said_to_fail_the_correction():
    """Ten changes: one with p = 0.0075 alone, and nine that are nothing."""
    base = sample("a", None, [80.0, 80.1, 80.2])
    found = sample("b", "a", [80.4, 80.6, 80.7])
    nothing = [sample(f"c{i}", "a", [80.1, 80.0, 80.25]) for i in range(9)]
    alone = compare(Accuracies("study", LAST, (base, found)))
    assert alone["p"][1] == alone["p_holm"][1] == pytest.approx(0.0055, abs=5e-4)
    assert alone["conclusion"][1].startswith("+0.47 ± 0.14 (95 %), p = 0.005")
    table = compare(Accuracies("study", LAST, (base, found, *nothing)))
    assert table["p_holm"][1] == pytest.approx(10 * table["p"][1])
    assert says(table["conclusion"][1], "+0.47", "n = 3", "correction")
    assert says(table["conclusion"][2], "+0.02", "n = 3")
    assert "correction" not in table["conclusion"][2]
    assert int(table["seeds_needed_corrected"][1]) > int(table["seeds_needed"][1])


@pytest.mark.integration
def test_a_baseline_for_all_instead_of_the_parents():
    rows = (
        sample("a", None, [80.0, 80.2, 80.1]),
        sample("b", "a", [80.1, 80.3, 80.3]),
        sample("c", "gone", [80.5, 80.9, 80.6]),
    )
    parents = compare(Accuracies("study", LAST, rows))
    assert list(parents["baseline"]) == ["", "a", "gone"]
    assert not re.search(r"\d", parents["conclusion"][0])
    assert says(parents["conclusion"][2], "gone")
    last = compare(Accuracies("study", LAST, rows), "c")
    assert list(last["baseline"]) == ["c"] * 3
    assert last["change"][0] == pytest.approx(80.1 - 80.6666667)
    assert says(last["conclusion"][2], "baseline")
    with pytest.raises(UnknownNameError, match=r"'d'.*parent, a, b, c"):
        compare(Accuracies("study", LAST, rows), "d")


@pytest.mark.integration
def test_numbers_for_people():
    assert [signed(v) for v in (0.054, -1.2, -0.004, 0.0)] == ["+0.05", "-1.20", "0.00", "0.00"]
    assert [p_value(p, 0.05) for p in (1e-9, 0.00999, 0.0496, 0.0504, 1.0)] == [
        "< 0.001", "= 0.010", "= 0.0496", "= 0.0504", "= 1.000",
    ]  # fmt: skip
    table = compare(two([80.0, 80.1, 80.2], [81.0, 81.1, 81.2001]))
    assert "± <0.01 (95 %)" in table["conclusion"][1]
    assert half_width(summarise_values([80.0])) == ""


def test_the_papers_own_table():
    """Which of its steps stand out of its noise."""
    found = of_paper("resnet50")
    table = compare(found).set_index("step")
    tested = table[table["p"].notna()]
    assert len(tested) == 15
    assert set(tested["test"]) == {"Welch t"}
    assert list(tested.index[tested["p_holm"] < 0.05]) == [
        "stage-ratio", "depthwise", "width", "inverted", "move-up", "kernel-5", "downsample",
    ]  # fmt: skip
    assert says(table.loc["gelu", "conclusion"], "+0.05", "n = 3")
    assert says(table.loc["ln", "conclusion"], "+0.06", "n = 3")
    assert says(table.loc["recipe", "conclusion"], "+2.69", "resnet")
    # With equal standard deviations, Welch's t is Student's with 4 degrees of freedom.
    t = 0.54 / (0.07 * math.sqrt(2 / 3))
    tail = 1 - t * (t * t + 6) / (t * t + 4) ** 1.5
    assert table.loc["stage-ratio", "p"] == pytest.approx(tail, abs=1e-9)
    assert table.loc["kernel-9", "change"] == 0
    assert table.loc["kernel-9", "seeds_needed"] == ">1000"


@pytest.mark.integration
def test_the_paper_s_conclusions_depend_on_how_its_deviations_are_read():
    readings = list(sensitivity(of_paper("resnet50")).values())
    assert readings == [["depthwise", "inverted", "kernel-5", "downsample"], ["inverted"]]


def test_one_run_each_is_never_tested():
    found = of_paper("resnet200")
    table = compare(found)
    assert table["p"].isna().all()
    assert table["seeds_needed"].eq("").all()
    assert table["conclusion"][1] == "+2.94; one run each: no test"
    assert "No change can be tested" in notes(found, table, "parent")[-1]


@pytest.mark.integration
def test_a_chain_without_differences_errs_no_more_often_than_nominal():
    """Neighbouring changes share a step, so their tests hang together; Holm's method allows it."""
    simulations, rng = 250, np.random.default_rng(7)
    wrong = 0
    for accuracies in rng.normal(80, 0.1, (simulations, 6, 3)):
        rows = [
            sample(str(i), str(i - 1) if i else None, list(values))
            for i, values in enumerate(accuracies)
        ]
        words = " ".join(compare(Accuracies("study", LAST, tuple(rows)))["conclusion"])
        assert words.count("not distinguishable") + words.count("after") >= 5
        wrong += " (95 %)" in words
    assert wrong / simulations < 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / simulations)


def finished(top1, best=None):
    return Record(
        Status.FINISHED,
        metrics={"top1": top1, "top5": 99.0, "top1_best": best or top1 + 0.5},
        epochs=2,
    )


COLLAPSED = Record(
    Status.COLLAPSED, "at chance", metrics={"top1": 10.0, "top1_best": 12.0}, epochs=2
)
DIVERGED = Record(Status.DIVERGED, "the loss became nan")


@pytest.fixture
def study(tmp_path):
    """Four steps and three seeds, with all kinds of ends."""
    ends = {
        "resnet": [finished(80.0), finished(81.0), finished(80.4)],
        "recipe": [finished(85.1), finished(86.0), finished(85.6)],
        "stage-ratio": [finished(85.0), None, COLLAPSED],
        "patchify": [COLLAPSED, DIVERGED, None],
        "depthwise": [finished(85.0), finished(math.nan), Record(Status.FINISHED)],
    }
    return write_study(tmp_path / "mine", ends)


def test_a_study_from_its_records(study):
    table = compare(of_study(study)).set_index("step")
    assert list(table["n"]) == [3, 3, 1, 0, 1]
    assert table.loc["recipe", "change"] == pytest.approx(5.1)
    assert table.loc["recipe", "change_std"] == pytest.approx(statistics.stdev([5.1, 5.0, 5.2]))
    assert table.loc["recipe", "conclusion"] == "+5.10 ± 0.25 (95 %), p < 0.001"
    assert table.loc["recipe", "test"] == "paired t"
    assert table.loc["stage-ratio", "excluded"] == "seed 1 missing, seed 2 collapsed"
    words = table["conclusion"]
    assert says(words["stage-ratio"], "-0.10", "stage-ratio", "1 missing, 1 collapsed")
    assert says(words["patchify"], "seed 0 collapsed, seed 1 diverged, seed 2 missing")
    excluded = "1 unreadable, 1 without accuracy"
    assert says(words["depthwise"], "0.00", excluded, "vs stage-ratio", "patchify")
    assert says(table.loc["depthwise", "excluded"], "seed 1 unreadable", "seed 2")
    told = notes(of_study(study), table.reset_index(), "parent")
    assert any("excluded" in line for line in told)


@pytest.mark.integration
def test_the_best_epoch_is_never_shown_without_saying_so(study):
    best = of_study(study, best_epoch=True)
    table = compare(best)
    assert table["top1"][0] == pytest.approx(statistics.mean([80.5, 81.5, 80.9]))
    assert set(table["epoch"]) == {BEST}
    assert "optimistic" in BEST
    assert notes(best, table, "parent")[0].startswith("OPTIMISTIC")
    assert set(compare(of_study(study))["epoch"]) == {LAST}


def test_only_a_summary_was_kept(study):
    write_summary(study)
    (study.folder / "runs").rename(study.folder.parent / "elsewhere")
    table = compare(of_study(study)).set_index("step")
    assert table.loc["recipe", "test"] == "Welch t"
    assert table.loc["recipe", "change"] == pytest.approx(5.1, abs=1e-3)
    assert table.loc["patchify", "n"] == 0
    assert says(table.loc["patchify", "conclusion"], "seed 0")
    with pytest.raises(UsageError, match=r"--best-epoch.*summary\.csv"):
        of_study(study, best_epoch=True)


def test_different_numbers_of_runs_are_both_said():
    rows = (
        VariantAccuracy("a", "a", None, summary_from(3, 80.0, 0.2)),
        VariantAccuracy("b", "b", "a", summary_from(5, 80.1, 0.2)),
    )
    words = compare(Accuracies("study", LAST, rows))["conclusion"][1]
    assert says(words, "+0.10", "n = 5 and 3")


@pytest.mark.integration
def test_ten_thousand_records(tmp_path):
    """A thousand variants with ten seeds each, each on top of the one before."""
    first = roadmap("nano", last="resnet")[0]
    keys = [f"v{i}" for i in range(1000)]
    variants = [
        dataclasses.replace(first, key=key, parent=keys[i - 1] if i else None)
        for i, key in enumerate(keys)
    ]
    made = Study.merge(
        tmp_path / "many",
        preset=load_preset("nano"),
        regime="nano",
        images={"name": "fashion-mnist"},
        variants=variants,
        seeds=10,
        order=keys,
    )
    made.write()
    top1 = np.random.default_rng(8).normal(80, 0.1, (1000, 10))
    top1[17:] += 1.0
    for variant, run, folder in made.runs():
        folder.path.mkdir(parents=True)
        value = top1[keys.index(variant.key), run.seed]
        write_json(folder.path / "record.json", {"status": "finished", "top1": value})
    table = compare(of_study(made))
    assert len(table) == 1000
    assert table["top1"].to_numpy() == pytest.approx(top1.mean(axis=1))
    assert table["change"].to_numpy()[1:] == pytest.approx(np.diff(top1, axis=0).mean(axis=1))
    assert table["boot_low"].notna().sum() == table["p"].notna().sum() == 999
    assert list(table["step"][table["p_holm"] < 0.05]) == ["v17"]


def command(monkeypatch, capsys, *arguments, status=0):
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    told = capsys.readouterr()
    assert caught.value.code == status, told.err
    return told.out if status == 0 else told.err


@pytest.mark.integration
def test_the_command_in_all_formats(study, monkeypatch, capsys):
    there = ["--results", study.folder.parent]
    for name in ([], ["mine"]):
        text = command(monkeypatch, capsys, *name, *there)
        assert "mine: top-1 in percent, last epoch" in text
        assert "+5.10 ± 0.25 (95 %), p < 0.001" in text
        assert "Distinguishable from zero: recipe +5.10." in text
    best = command(monkeypatch, capsys, "mine", *there, "--best-epoch")
    assert "optimistic" in best
    text = command(monkeypatch, capsys, *there, "--format", "csv", "--baseline", "resnet")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == columns(CLASSIFICATION.headline)
    assert rows[1]["pairs"] == "3"
    assert float(rows[2]["change"]) == pytest.approx(5.0)
    assert rows[0]["change"] == rows[0]["p"] == ""
    objects = json.loads(command(monkeypatch, capsys, *there, "--format", "json"))
    assert objects == as_values(compare(of_study(study)))
    assert objects[0]["p"] is None
    markdown = command(monkeypatch, capsys, *there, "--format", "markdown", "--best-epoch")
    assert "| recipe | 3 |" in markdown
    assert "\n- OPTIMISTIC" in markdown
    latex = command(monkeypatch, capsys, *there, "--format", "latex")
    assert r"recipe & 3 & $85.57 \pm 0.45$ & resnet & $+5.10$ & " in latex


@pytest.mark.integration
@pytest.mark.parametrize("style", ["table", "csv", "json", "markdown", "latex"])
@pytest.mark.parametrize("best", [[], ["--best-epoch"]])
def test_nothing_that_is_no_number_is_shown_as_one(study, style, best, monkeypatch, capsys):
    there = ["--results", study.folder.parent, *best]
    words = command(monkeypatch, capsys, *there, "--format", style)
    assert not re.search(r"\b(nan|inf|infinity|nat)\b|<na>", words, flags=re.IGNORECASE)
    if best:
        assert "optimistic" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no study 'nowhere'"),
        (["mine", "--baseline", "recipee"], "unknown step 'recipee'. Did you mean 'recipe'?"),
        (["mine", "--regime", "nano"], "--regime"),
        (["paper", "--regime", "nano"], "unknown published regime 'nano'. Valid: resnet50"),
        (["paper", "--best-epoch"], "--best-epoch"),
        (["paper", "--baseline", "swin"], "unknown step 'swin'"),
        (["--format", "xml"], "xml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_message_and_status_2(arguments, message, study, monkeypatch, capsys):
    there = ["--results", study.folder.parent]
    error = command(monkeypatch, capsys, *arguments, *there, status=2)
    assert message in error
    assert "Traceback" not in error


def test_columns_without_any_text_are_left_out():
    texts = as_texts(compare(two([80.0], [80.3])))
    assert list(texts[0]) == ["step", "n", "top-1", "baseline", "conclusion"]


@pytest.mark.integration
@pytest.mark.parametrize("width", [80, 120, 1000])
def test_a_narrow_terminal_shows_all_conclusions_and_names_missing_columns(
    width, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", command(monkeypatch, capsys, "paper"))
    every = as_texts(compare(of_paper("resnet50")))
    shown_ones, dropped = fit(every, SHOWN, width)
    assert {*shown_ones, *dropped} == {*every[0]}
    words = " ".join(shown.split())
    assert ("Omitted columns: " in words) == bool(dropped)
    assert all(name in words for name in dropped)
    assert shown.partition("Distinguishable")[0].count("distinguishable") == 8
    assert "fewer-acts" in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown


@pytest.mark.integration
def test_only_comparing_pays_for_the_statistics_libraries():
    code = (
        "import sys, ablations.cli, ablations.commands.compare\n"
        "assert not {'scipy', 'pandas', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
