"""Agreement of changes: of the paper's regimes, of a study with the paper, and the command."""

import dataclasses
import json

import numpy as np
import pytest
from command_line import call
from reporting import write_study
from scipy import stats

from ablations.analysis.accuracies import LAST, Accuracies, VariantAccuracy, of_paper
from ablations.analysis.agreement import agreement, agreement_of
from ablations.analysis.agreement_text import notes, of_studies
from ablations.analysis.statistics import spearman, summarise_values
from ablations.metrics import DETECTION
from modernize.errors import UnknownNameError, UsageError

MEASURED = {
    "resnet": 82.58, "recipe": 86.36, "stage-ratio": 85.83, "patchify": 84.85, "depthwise": 83.69,
    "width": 84.89, "inverted": 85.56, "move-up": 83.05, "kernel-5": 82.06, "kernel-7": 82.18,
    "kernel-9": 82.38, "kernel-11": 82.07, "gelu": 83.14, "fewer-acts": 84.31,
    "fewer-norms": 83.26, "ln": 83.19, "downsample": 83.7,
}  # fmt: skip
"""A nano road's accuracies in percent, the means of five seeds."""
NO_EFFECT = [0.3, -0.2, 0.1, 0.4, -0.3, 0.2, -0.1, -0.4]
ELSEWHERE = [0.1, 0.2, -0.3, 0.1, 0.3, -0.2, -0.1, 0.2]


def road(name, changes, noise=(0.0,), keys=None):
    """A road of steps with these changes from one to the next, and the noise of each seed."""
    keys = keys or [f"s{i}" for i in range(len(changes) + 1)]
    rows, accuracy = [], 80.0
    for place, (key, change) in enumerate(zip(keys, [0.0, *changes], strict=True)):
        accuracy += change
        top1 = {s: accuracy + e * (-1) ** place for s, e in enumerate(noise)}
        summary = summarise_values(list(top1.values()))
        rows.append(VariantAccuracy(key, key, keys[place - 1] if place else None, summary, top1))
    return Accuracies(name, LAST, tuple(rows))


def test_the_regimes_of_the_paper_agree_for_13_of_16_changes():
    """The figures are the paper's, the correlation is scipy's."""
    found = agreement_of(of_paper("resnet200"), of_paper("resnet50"))
    assert (found.same_sign, len(found.pairs)) == (13, 16)
    assert found.correlation == pytest.approx(0.827, abs=5e-4)
    ours, theirs = zip(*((pair.ours, pair.theirs) for pair in found.pairs), strict=True)
    assert found.correlation == pytest.approx(stats.spearmanr(ours, theirs).statistic)
    exact = stats.binomtest(13, 16).proportion_ci()
    assert found.sign_interval == pytest.approx((exact.low, exact.high))
    assert found.over_seeds is None  # single runs are not known
    reverse = agreement_of(of_paper("resnet50"), of_paper("resnet200"))
    assert (reverse.same_sign, reverse.correlation) == (13, found.correlation)


def test_a_study_with_another_metric_is_compared_by_rank():
    first = road("classes", ELSEWHERE)
    second = dataclasses.replace(road("boxes", ELSEWHERE), metric=DETECTION.headline)
    report = of_studies(first, second)
    assert "box AP and top-1" in report.title
    assert "Rank correlation: 1.00" in " ".join(report.notes)
    assert all(row["change in classes"] == row["change"] for row in report.texts)


def test_the_interval_over_the_changes_is_that_of_scipy():
    found = agreement_of(of_paper("resnet200"), of_paper("resnet50"))
    data = [pair.ours for pair in found.pairs], [pair.theirs for pair in found.pairs]

    def statistic(x, y, axis):
        assert axis == -1
        return spearman(np.atleast_2d(x), np.atleast_2d(y)).reshape(x.shape[:-1])

    expected = stats.bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=4999,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert found.over_steps == pytest.approx((expected.low, expected.high), abs=0.03)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The road as measured, with three seeds about each mean."""
    ends = {step: [top1 - 0.3, top1 + 0.2, top1 + 0.1] for step, top1 in MEASURED.items()}
    return write_study(tmp_path_factory.mktemp("results") / "mine", ends)


def test_a_study_and_the_paper(study):
    found = agreement(study)
    assert (found.same_sign, len(found.pairs)) == (10, 16)
    assert found.correlation == pytest.approx(0.590, abs=5e-4)
    assert found.over_steps[0] < found.correlation < found.over_steps[1]
    assert found.over_seeds == pytest.approx([found.correlation] * 2, abs=0.01)  # all steps alike
    assert not any(found.missing.values())


def test_equal_and_opposite_changes():
    up = road("a", [0.5, -0.2, 1.0, 0.1, -0.7, 0.3, 0.8, -0.4])
    down = road("b", [-0.5, 0.2, -1.0, -0.1, 0.7, -0.3, -0.8, 0.4])
    same, opposite = agreement_of(up, up), agreement_of(up, down)
    assert (same.same_sign, same.correlation) == (8, pytest.approx(1))
    assert (opposite.same_sign, opposite.correlation) == (0, pytest.approx(-1))
    assert "more than half" in notes(same)[0]
    assert "above zero" in notes(same)[1]
    assert "less than half" in notes(opposite)[0]
    assert "below zero" in notes(opposite)[1]


def test_without_agreement_nothing_is_claimed():
    found = agreement_of(road("a", NO_EFFECT), road("b", ELSEWHERE))
    assert found.over_steps[0] < 0 < found.over_steps[1]
    assert "not distinguishable from half" in notes(found)[0]
    assert "includes zero" in notes(found)[1]


def test_more_noise_between_seeds_widens_the_interval_over_seeds():
    theirs = road("paper", NO_EFFECT)
    widths = []
    for size in (0.0, 0.05, 0.2):
        noise = size * np.array([-1.0, 0.2, 0.9, -0.4, 0.3])
        low, high = agreement_of(road("a", NO_EFFECT, noise), theirs).over_seeds
        widths.append(high - low)
    assert widths[0] == 0 < widths[1] < widths[2]
    assert agreement_of(road("a", NO_EFFECT, (0.0, 0.1)), theirs).over_seeds is None


def test_a_missing_step_is_named_and_bridged():
    """The change of a step whose parent is missing is from the nearest step in both."""
    full = road("b", [1.0, 2.0, 4.0, 8.0])
    rows = tuple(row for row in full.rows if row.key != "s2")
    found = agreement_of(Accuracies("a", LAST, rows), full)
    assert [(p.step, p.baseline, p.ours) for p in found.pairs] == [
        ("s1", "s0", 1.0), ("s3", "s1", 6.0), ("s4", "s3", 8.0),
    ]  # fmt: skip
    assert found.missing == {"a": (), "b": ("s2",)}
    assert "s2" in notes(found)[-1]


def test_two_changes_have_no_rank_correlation():
    found = agreement_of(road("a", [1.0, 2.0]), road("b", [1.0, -2.0]))
    assert (found.same_sign, found.correlation, found.over_steps) == (1, None, None)
    assert notes(found)[1].startswith("No rank correlation")
    equal = agreement_of(road("a", [1.0] * 4), road("b", [1.0, 2.0, 3.0, 4.0]))
    assert (equal.correlation, equal.over_steps) == (None, None)


def test_nothing_in_common_is_wrong_use(study):
    with pytest.raises(UsageError, match="a and b"):
        agreement_of(road("a", [1.0]), road("b", [1.0], keys=["x", "y"]))
    with pytest.raises(UnknownNameError, match="nano"):
        agreement(study, "nano")


@pytest.mark.integration
def test_the_command(study):
    shown = call("compare", study.folder, "paper")
    for text in ("10 of 16", "0.59", "13 of 16", "0.83", "resnet50"):
        assert text in shown
    rows = json.loads(call("compare", study.folder, "paper", "--format", "json"))
    assert sum(row["same_sign"] for row in rows) == 10
    assert rows[0]["published"] == pytest.approx(2.69)
    assert "8 of 16" in call("compare", study.folder, "paper", "--regime", "resnet200")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["paper", "mine"], "paper"),
        (["mine", "paper", "--baseline", "ln"], "--baseline"),
        (["mine", "paper", "--regime", "nano"], "nano"),
        (["mine", "mine", "--regime", "resnet50"], "--regime"),
        (["mine", "nowhere"], "nowhere"),
    ],
    ids=" ".join,
)
def test_wrong_use(arguments, named, study):
    there = "--results", study.folder.parent
    assert named in call("compare", *arguments, *there, status=2)
