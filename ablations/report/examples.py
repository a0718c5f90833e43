"""Validation images with true targets and those that two steps predict; tables of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ablations.analysis.outcomes import Outcomes
from ablations.metrics import METRICS, Metric
from ablations.records import Study
from ablations.report.pictures import Picture
from ablations.tasks import drawing
from ablations.tasks.registry import make_task
from ablations.tasks.task import Shown
from ablations.units import fixed
from modernize.text import file_name

SIDE = 320  # pixels of the longer side of a picture
TRUE = "true"

Rows = list[dict[str, str]]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Validation images.

    Attributes:
        columns: :data:`TRUE`, and the steps that predict.
        rows: for each image a picture for each column.
        seeds: of the runs that predict.
        note: a sentence about the pictures.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Picture]]
    seeds: Sequence[int]
    note: str


def read_examples(study: Study) -> Examples | None:
    """Returns the validation images that runs have written; None if there are none.

    A damaged file is ignored, and noted in the study's ``faults``.
    """
    shows = make_task(study.preset.task_choice).pictures
    if shows is None:
        return None
    classes: Sequence[str] = ()
    images: dict[int, Any] = {}  # pixels by number
    shown: dict[str, dict[int, Shown]] = {TRUE: {}}  # by column and number
    seeds = []
    for run, folder in study.example_runs():
        values = folder.read_examples()
        if values is None:
            continue
        classes, predicted = values["classes"], {}
        try:
            for image in values["images"]:
                number, pixels = image["number"], drawing.from_text(image["image"], "RGB")
                size = pixels.shape[1], pixels.shape[0]
                shown[TRUE][number] = shows.shown.from_dict(image["true"], *size)
                predicted[number] = shows.shown.from_dict(image["predicted"], *size)
                images[number] = pixels
        except ValueError as error:
            study.faults[folder.examples] = f"{folder.examples} is damaged ({error}); it is ignored"
            continue
        shown[run.key] = predicted
        seeds.append(run.seed)
    numbers = [n for n in sorted(images) if all(n in found for found in shown.values())]
    if not seeds or not numbers:
        return None
    rows = [
        [_picture(found[n], images[n], n, column, classes) for column, found in shown.items()]
        for n in numbers
    ]
    return Examples([*shown], rows, seeds, shows.shown.note)


def _picture(
    found: Shown, pixels: Any, number: int, column: str, classes: Sequence[str]
) -> Picture:
    path = f"report/example-{number}-{file_name(column)}.webp"
    alt = f"Validation image {number}, {column}: {found.describe(classes)}"
    return Picture(path, alt, drawing.webp(found.draw(pixels, classes, SIDE)))


def class_tables(outcomes: Mapping[str, Outcomes]) -> list[tuple[Metric, Rows]]:
    """Returns a table for each metric that the records have for each class.

    The values are means over finished runs. The table has a row per step and a column per class,
    or the reverse if there are more classes than steps.
    """
    by_step = {step: _means(each.finished.values()) for step, each in outcomes.items()}
    by_step = {step: means for step, means in by_step.items() if means}
    keys = list(dict.fromkeys(key for means in by_step.values() for key, _ in means))
    return [(METRICS[key], _table(by_step, key)) for key in keys if key in METRICS]


def _means(records: Iterable[Any]) -> dict[tuple[str, str], str]:
    """Returns the mean over records, as text, by the key of a metric and the name of a class."""
    values: dict[tuple[str, str], list[float]] = {}
    for record in records:
        names: list[str] = []
        for row in record.classes:
            repeated = names.count(row["name"])
            names.append(row["name"])
            name = f"{row['name']} ({repeated + 1})" if repeated else row["name"]
            for key in [key for key in row if key != "name"]:
                value = values.setdefault((key, name), [])
                value += [] if row[key] is None else [row[key]]
    return {place: fixed(float(np.mean(v)), 1) if v else "" for place, v in values.items()}


def _table(by_step: Mapping[str, Mapping[tuple[str, str], str]], key: str) -> Rows:
    names = list(dict.fromkeys(n for means in by_step.values() for k, n in means if k == key))
    if len(names) > len(by_step):
        return [
            {"class": name, **{step: means.get((key, name), "") for step, means in by_step.items()}}
            for name in names
        ]
    return [
        {"step": step, **{name: means.get((key, name), "") for name in names}}
        for step, means in by_step.items()
    ]
