"""Whether a run is at chance: an exact test for its number of validation images."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from ablations.records import Record, Status
from ablations.tasks.chance import FEWEST, LEVEL, ChanceLevel
from ablations.tasks.classification import Classification
from ablations.training.outcome import final_record

RESULTS = Path(__file__).parent.parent / "results"


def end_of(rows: list[dict[str, Any]], images: int, fraction: float) -> Record:
    task = Classification()
    return final_record(rows, task.metrics, lambda values: task.chance(values, images, fraction))


def status_of(right: int, images: int, fraction: float) -> Status:
    rows = [{"epoch": 1, "top1": 100 * right / images, "top5": 100.0, "train_loss": 2.3}]
    record = end_of(rows, images, fraction)
    assert (record.status is Status.FINISHED) == (record.reason == "")
    return record.status


@pytest.mark.parametrize(
    ("images", "fraction"),
    [(2000, 0.1), (200, 0.1), (200, 0.5), (40, 0.5), (50_000, 0.001), (300, 0.9), (1000, 0.95)],
)
def test_the_limit_is_that_of_scipys_exact_test(images: int, fraction: float) -> None:
    limit = ChanceLevel(images, fraction).limit()
    assert limit is not None
    for right in (limit, limit + 1):
        p = binomtest(right, images, fraction, alternative="greater").pvalue
        expected = Status.FINISHED if p <= LEVEL else Status.COLLAPSED
        assert status_of(right, images, fraction) is expected
    assert status_of(0, images, fraction) is Status.COLLAPSED
    assert status_of(images, images, fraction) is Status.FINISHED


@pytest.mark.parametrize(
    ("right", "images", "fraction", "status"),
    [
        (141, 200, 0.5, Status.FINISHED),  # 70.5 % with two classes
        (104, 200, 0.5, Status.COLLAPSED),
        (180, 200, 0.9, Status.COLLAPSED),  # always the most common class
        (193, 200, 0.9, Status.FINISHED),
        (100, 100, 1.0, Status.FINISHED),  # one class alone to evaluate on tells nothing
        (0, 0, 0.5, Status.FINISHED),
    ],
)
def test_chance_is_the_most_common_class(
    right: int, images: int, fraction: float, status: Status
) -> None:
    if images:
        assert status_of(right, images, fraction) is status
    else:
        assert ChanceLevel(images, fraction).limit() is None


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.001])
def test_a_few_images_tell_nothing(fraction: float) -> None:
    for images in range(1, FEWEST):
        assert {status_of(right, images, fraction) for right in range(images + 1)} == {
            Status.FINISHED
        }


@pytest.mark.parametrize("fraction", [0.5, 0.9, 1 / 3, 0.1, 0.001])
def test_no_good_accuracy_is_at_chance(fraction: float) -> None:
    """Neither 100 % nor what is halfway there, however few images there are."""
    for images in range(1, 300):
        limit = ChanceLevel(images, fraction).limit()
        assert limit is None or limit / images < (1 + fraction) / 2


def test_the_reason_names_accuracy_limit_images_and_chance() -> None:
    reason = ChanceLevel(2000, 0.1).explain(11.6)
    for part in ("11.60 %", "2,000 images", "10.00 %", "1 % level"):
        assert part in reason
    assert not ChanceLevel(2000, 0.1).explain(11.65)


@pytest.mark.parametrize("study", ["reference-nano", "reference-leave-one-out"])
def test_the_shipped_studies_end_as_they_are_on_record(study: str) -> None:
    images = json.loads((RESULTS / study / "study.json").read_text())["images"]["val_images"]
    for line in (RESULTS / study / "runs.jsonl").read_text().splitlines():
        run = json.loads(line)
        assert end_of(run["metrics"], images, 0.1).status == run["record"]["status"]
