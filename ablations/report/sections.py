"""The sections of a report, for HTML and for Markdown alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from ablations.analysis.baselines import PARENT
from ablations.report.page import NUMBERS, Page, Rows
from ablations.report.pictures import Picture
from ablations.units import integer

GONE = "Unknown: the runs of this study are not here."
ONLY_SUMMARY = (
    "Only the description of this study and its summary.csv are here. Learning curves, failed runs "
    "and provenance need its runs."
)
_INTERVAL = "95\N{NO-BREAK SPACE}% interval"


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph, or a heading inside a section; ``soft``: it explains others."""

    text: str
    style: Literal["", "soft", "heading"] = ""


@dataclasses.dataclass(frozen=True)
class Lines:
    """A list; with a title, HTML folds it."""

    lines: Sequence[str]
    title: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table below its caption; ``numbers``: its right-aligned columns."""

    rows: Rows
    caption: str
    numbers: Collection[str] = NUMBERS


@dataclasses.dataclass(frozen=True)
class Strips:
    """Rows of pictures, each column with a name."""

    columns: Sequence[str]
    strips: Sequence[Sequence[Picture]]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures above their caption; ``style``: the class in HTML."""

    pictures: Sequence[Picture]
    style: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Code:
    """A text shown as it is; with a title, HTML folds it. ``wrap``: its lines may be broken."""

    text: str
    title: str = ""
    wrap: bool = False


Part = Text | Lines | Table | Pictures | Strips | Code


@dataclasses.dataclass(frozen=True)
class Section:
    """A section, with a key for links to it."""

    key: str
    title: str
    parts: Sequence[Part]


def sections(page: Page) -> list[Section]:
    """Returns all sections, in order."""
    results = Table(
        page.results,
        f"Mean of {page.metric.in_unit} ({page.epoch}) over n finished runs, with the sample "
        f"standard deviation (std) and the {_INTERVAL} of the mean. Cost of one image. Seconds of "
        "training and evaluation per run",
    )
    contents: dict[str, Iterable[Part]] = {
        "findings": [Lines(page.findings)],
        "chart": [Pictures([page.chart], "chart")],
        "results": [results, *_recipes(page)],
        "changes": _changes(page),
        "examples": _examples(page),
        "classes": _classes(page),
        "blocks": _blocks(page),
        "curves": _curves(page),
        "cost": _cost(page),
        "robustness": _robustness(page),
        "failed": _failed(page),
        "provenance": _provenance(page),
        "reproduction": _reproduction(page),
    }
    titles = {
        "examples": "Validation images",
        "curves": "Learning curves",
        "cost": "Accuracy and cost",
        "failed": "Failed runs",
    }
    return [
        Section(key, titles.get(key, key.capitalize()), content)
        for key, parts in contents.items()
        if (content := list(parts))
    ]


def _recipes(page: Page) -> Iterator[Part]:
    if page.recipes:
        yield Table(
            page.recipes,
            "Steps with other values than the preset's recipe of that name; all other steps are "
            "trained with one of its recipes",
        )


def _changes(page: Page) -> Iterator[Part]:
    if page.changes:
        baseline = page.baseline
        if baseline == PARENT:
            baseline = "the step it builds on"
            if any(" (vs " in row["conclusion"] for row in page.changes):
                baseline += ", or the nearest one before it with finished runs"
        yield Table(page.changes, f"Each step compared with {baseline}, in percentage points")
    else:
        yield Text("No step here builds on another.")
    if page.tornado:
        caption = (
            f"Changes of {page.metric.label} from {page.tornado_baseline}, the largest first, "
            "with their "
        )
        yield Pictures([page.tornado], "single", f"{caption}{_INTERVAL}s.")
    if page.how_to_read:
        yield Lines(page.how_to_read, "How to read this")


def _examples(page: Page) -> Iterator[Part]:
    if page.examples:
        _, *steps = page.examples.columns
        runs = [
            f"{step} (seed {seed})" for step, seed in zip(steps, page.examples.seeds, strict=True)
        ]
        yield Text(
            "Images evenly spaced in the validation set: the truth, and the predictions of "
            f"{' and '.join(runs)}. {page.examples.note}",
            "soft",
        )
        yield Strips(page.examples.columns, page.examples.rows)


def _classes(page: Page) -> Iterator[Part]:
    for metric, rows in page.classes:
        caption = f"By class: {metric.class_header}, mean over the finished runs"
        yield Table(rows, caption, [*rows[0]][1:])


def _blocks(page: Page) -> Iterator[Part]:
    if page.blocks:
        yield Pictures([page.blocks], "chart")
        yield Text(
            "A block of each step, compared with that of the step it builds on. Steps with the "
            "same block as that step are not shown.",
            "soft",
        )


def _curves(page: Page) -> Iterator[Part]:
    if page.curves:
        yield Text(page.curves_note, "soft")
        yield Pictures(page.curves, "panels")
    else:
        yield Text(GONE if page.only_summary else "No run has trained an epoch yet.")


def _cost(page: Page) -> Iterator[Part]:
    if not page.costs:
        yield Text("This needs two steps with a finished run.")
        return
    yield Pictures(page.costs, "pair")
    yield Text(
        "Bars: one standard deviation to either side. The Pareto front joins the steps that no "
        f"other step beats in {page.metric.label} at the same or lower cost. It compares means and "
        f"is not a test: {page.front}. Hollow: side branches. Some points have no room for a name.",
        "soft",
    )


def _robustness(page: Page) -> Iterator[Part]:
    if page.robustness is None or page.severities is None:
        return
    columns = page.robustness.columns.numbers
    yield Table([dict(row) for row in page.robustness.texts], "Steps under corruption", columns)
    yield Pictures([page.severities], "chart")
    yield Lines(page.robustness.notes)


def _failed(page: Page) -> Iterator[Part]:
    if page.unfinished:
        yield Text(f"Not ended yet: {page.unfinished}.")
    if not page.failed_runs:
        yield Text(GONE if page.only_summary else "No run failed, diverged or collapsed.")
    for run in page.failed_runs:
        yield Text(f"{run.step}, seed {run.seed}: {run.status}", "heading")
        yield Code(run.reason or "no reason recorded", wrap=True)
        if run.log:
            yield Code(run.log, "The end of its log")
    if more := page.failed_count - len(page.failed_runs):
        yield Text(f"And {integer(more)} more; their records and logs are in runs/.")


def _provenance(page: Page) -> Iterator[Part]:
    if page.provenance:
        caption = "Properties that the records name, and the number of runs with each value"
        yield Table(page.provenance, caption)
    else:
        yield Text(GONE if page.only_summary else "No run has a record yet.")


def _reproduction(page: Page) -> Iterator[Part]:
    command, files = page.reproduction.command, page.reproduction.files
    if not command:
        yield Text(
            "No command for this study is known: it does not come with this version, or has "
            "changed since. study.json describes each network in full."
        )
    else:
        if page.provenance:
            yield Text("With the version of the program that is named above:")
        if files:
            yield Text(f"Save the text below the command as {' and '.join(files)}.")
        if needed := page.reproduction.needed:
            yield Text(f"It needs {needed}.")
        yield Code(command)
    yield from (Code(text, name) for name, text in files.items())
    yield Code(page.reproduction.preset, "The preset; other settings have their default value")
