"""A study under corruption: accuracies, relative errors, and whether effects differ. No torch here.

The gap of a run is its accuracy under corruption less its accuracy without. If a change has the
same effect on both, it leaves the gap as it is: so the change of the gap, tested like any change of
accuracy, tells whether the effect under corruption differs from the effect without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.analysis.accuracies import LAST, Accuracies, VariantAccuracy
from ablations.analysis.comparison import compare
from ablations.analysis.corruption_errors import (
    Parts,
    accuracy,
    corruption_error,
    corruption_errors,
    severity_accuracies,
)
from ablations.analysis.statistics import LEVEL, Summary, summarise_values
from ablations.data.corruptions.names import CORRUPTIONS, GROUPS, SEVERITIES
from ablations.records import Study
from ablations.tables import Columns, Report
from ablations.units import fixed, mean_and_std, p_value, signed
from modernize.errors import UnknownNameError, UsageError
from modernize.text import plural

if TYPE_CHECKING:
    import pandas as pd

CLEAN = "clean"
PARTS = (CLEAN, *(f"{name}/{severity}" for name in CORRUPTIONS for severity in SEVERITIES))
"""The parts that are counted for a run; the first one has the images as they are."""

_COLUMNS = Columns(
    numbers=("n", "clean", "corrupted", "rel. error", "change", "corr. change", "difference", "p"),
    optional=("n", "corr. change", "change"),
)


def is_complete(parts: Mapping[str, Any]) -> bool:
    """Tells whether all parts were counted."""
    return all(name in parts for name in PARTS)


@dataclasses.dataclass(frozen=True)
class StepRobustness:
    """The runs of one step under corruption.

    Attributes:
        key, title: of the step.
        runs: seed -> counts of all parts.
        relative_errors: seed -> mean over corruptions of the error relative to that of the
            reference, in percent.
    """

    key: str
    title: str
    runs: Mapping[int, Parts]
    relative_errors: Mapping[int, float]

    @property
    def clean(self) -> dict[int, float]:
        """Seed -> accuracy without corruption, in percent."""
        return {seed: accuracy(parts[CLEAN]) for seed, parts in self.runs.items()}

    @property
    def corrupted(self) -> dict[int, float]:
        """Seed -> mean accuracy over all corruptions and severities, in percent."""
        return {
            seed: 100 - float(np.mean([*corruption_errors(parts).values()]))
            for seed, parts in self.runs.items()
        }

    @property
    def gap(self) -> dict[int, float]:
        """Seed -> accuracy under corruption less accuracy without, in percentage points."""
        clean = self.clean
        return {seed: value - clean[seed] for seed, value in self.corrupted.items()}

    def by_severity(self) -> dict[int, list[float]]:
        """Returns severity -> mean accuracy of each run; 0 is without corruption."""
        found = [severity_accuracies(parts) for parts in self.runs.values()]
        by_severity = {n: [each[n] for each in found] for n in SEVERITIES}
        return {0: [*self.clean.values()], **by_severity}

    def errors(self) -> dict[str, Summary]:
        """Returns corruption -> mean error over severities, summarised over the runs."""
        found = [corruption_errors(parts) for parts in self.runs.values()]
        return {name: summarise_values([each[name] for each in found]) for name in CORRUPTIONS}


@dataclasses.dataclass(frozen=True)
class StudyRobustness:
    """A study under corruption.

    Attributes:
        study: its name.
        images: what it was trained on.
        relative_to: the key of the step that errors are relative to.
        steps: those with runs that were evaluated, in order.
        table: a row for each of them; see :func:`read`.
        finished: the number of finished runs, and of those among them that were evaluated.
    """

    study: str
    images: str
    relative_to: str
    steps: Sequence[StepRobustness]
    table: Sequence[Mapping[str, Any]]
    finished: tuple[int, int]


def read(
    study: Study, steps: Sequence[str] = (), relative_to: str | None = None, finished: int = 0
) -> StudyRobustness | None:
    """Returns a study under corruption, from the counts of its runs; None if there are none.

    Args:
        study: which one.
        steps: keys or indices; empty: all.
        relative_to: the step that errors are relative to; None: the first one with counts.
        finished: the number of finished runs, if it is known.

    Raises:
        UnknownNameError: for an unknown step.
        UsageError: if ``relative_to`` has no counts.
    """
    runs: dict[str, dict[int, Parts]] = {}
    for variant, run, folder in study.runs():
        tallies = folder.read_tallies()
        if tallies is not None and is_complete(tallies.parts):
            runs.setdefault(variant.key, {})[run.seed] = tallies.parts
    if not runs:
        return None
    reference = next(iter(runs)) if relative_to is None else study.key_of(relative_to)
    if reference not in runs:
        raise UnknownNameError("step with results under corruption", reference, runs)
    references = _mean_errors(runs[reference])
    wanted = {study.key_of(step) for step in steps} or {*runs}
    found = [
        StepRobustness(
            variant.key,
            variant.title,
            runs[variant.key],
            {
                seed: corruption_error(corruption_errors(parts), references)
                for seed, parts in runs[variant.key].items()
            },
        )
        for variant in study.variants
        if variant.key in runs and variant.key in wanted
    ]
    if not found:
        raise UsageError(
            f"no run of {', '.join(sorted(wanted))} was evaluated under corruption; those of "
            f"{', '.join(runs)} were."
        )
    count = sum(len(step.runs) for step in found)
    return StudyRobustness(
        study.name,
        study.preset.title,
        reference,
        found,
        _table(study, found),
        (max(finished, count), count),
    )


def _mean_errors(runs: Mapping[int, Parts]) -> dict[str, float]:
    found = [corruption_errors(parts) for parts in runs.values()]
    return {name: float(np.mean([each[name] for each in found])) for name in CORRUPTIONS}


def _changes(
    study: Study, steps: Sequence[StepRobustness], values: Sequence[Mapping[int, float]]
) -> pd.DataFrame:
    """Returns the comparison of each step with the one that it builds on."""
    parents = study.parents
    rows = tuple(
        VariantAccuracy(
            step.key, step.title, parents.get(step.key), summarise_values([*v.values()]), v
        )
        for step, v in zip(steps, values, strict=True)
    )
    return compare(Accuracies(study.name, LAST, rows, parents)).set_index("step")


def _table(study: Study, steps: Sequence[StepRobustness]) -> list[dict[str, Any]]:
    """Returns the rows: means, standard deviations, changes and the tests of their difference."""
    clean, corrupted, gap = (
        _changes(study, steps, [getattr(step, name) for step in steps])
        for name in ("clean", "corrupted", "gap")
    )
    rows = []
    for step in steps:
        row: dict[str, Any] = {"step": step.key, "label": step.title, "n": len(step.runs)}
        for name in ("clean", "corrupted", "relative_errors"):
            found = summarise_values([*getattr(step, name).values()])
            name = name.removesuffix("s")
            row |= {name: found.mean, f"{name}_std": found.std}
        tested = gap.loc[step.key]
        row["baseline"] = tested["baseline"] if tested["baseline"] in clean.index else ""
        row["clean_change"] = _number(clean.loc[step.key, "change"])
        row["corrupted_change"] = _number(corrupted.loc[step.key, "change"])
        for name, column in (("difference", "change"), ("difference_low", "change_low"),
                             ("difference_high", "change_high"), ("p", "p"),
                             ("p_holm", "p_holm")):  # fmt: skip
            row[name] = _number(tested[column])
        rows.append(row)
    return rows


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def summary(found: StudyRobustness) -> Report:
    """Returns a row for each step, with the findings."""
    texts = [
        {
            "step": row["step"],
            "n": str(row["n"]),
            "clean": mean_and_std(row["clean"], row["clean_std"]),
            "corrupted": mean_and_std(row["corrupted"], row["corrupted_std"]),
            "rel. error": " ± ".join(
                fixed(value, 1)
                for value in (row["relative_error"], row["relative_error_std"])
                if value is not None
            ),
            "change": signed(row["clean_change"]),
            "corr. change": signed(row["corrupted_change"]),
            "difference": signed(row["difference"]),
            "p": "" if row["p_holm"] is None else p_value(row["p_holm"], LEVEL).removeprefix("= "),
        }
        for row in found.table
    ]
    return Report(found.table, texts, _COLUMNS, title(found), notes(found))


def title(found: StudyRobustness) -> str:
    """Returns the title of tables and charts."""
    return f"{found.study} under corruption: {found.images}"


def findings(found: StudyRobustness) -> list[str]:
    """Returns which changes have another effect under corruption, and which runs are missing."""
    tested = [row for row in found.table if row["p_holm"] is not None]
    lines = []
    if tested:
        differ = [row for row in tested if row["p_holm"] < LEVEL]
        others = [row["step"] for row in tested if row["p_holm"] >= LEVEL]
        named = ", ".join(f"{row['step']} {signed(row['difference'])}" for row in differ)
        lines.append(
            f"The effect under corruption differs from the clean effect: {named or 'none'}."
        )
        lines.append(f"Not distinguishable from it: {', '.join(others) or 'none'}.")
    else:
        lines.append("No difference can be tested: a test needs two or more seeds of both steps.")
    finished, count = found.finished
    if count < finished:
        lines.append(f"{count} of {plural(finished, 'finished run')} were evaluated.")
    return lines


def notes(found: StudyRobustness) -> list[str]:
    """Returns the findings, and how to read the numbers."""
    tests = sum(row["p_holm"] is not None for row in found.table)
    return [
        *findings(found),
        f"Top-1 in percent over n seeds; corrupted: mean over {len(CORRUPTIONS)} corruptions x "
        f"{len(SEVERITIES)} severities, made here (frost from a drawn texture).",
        f"rel. error: for each corruption the error in percent of that of {found.relative_to}; "
        "then the mean. It is not mCE, which divides by AlexNet's errors on ImageNet-C.",
        "difference: the change under corruption (corr. change) less the clean change, from the "
        "step that each builds on, in percentage points; p: of paired t-tests over seeds, "
        f"corrected for {plural(tests, 'test')} by Holm's method.",
    ]


def corruptions(found: StudyRobustness) -> Report:
    """Returns a row for each corruption: the mean error of each step."""
    errors = {step.key: step.errors() for step in found.steps}
    groups = {name: group for group, names in GROUPS.items() for name in names}
    values: list[dict[str, Any]] = []
    texts = []
    for name in CORRUPTIONS:
        text = {"corruption": name, "group": groups[name]}
        for key, of in errors.items():
            row = {"group": groups[name], "corruption": name, "step": key}
            values.append({**row, "error": of[name].mean, "error_std": of[name].std})
            text[key] = fixed(of[name].mean)
        texts.append(text)
    columns = Columns([*errors], optional=("group",))
    return Report(
        values, texts, columns, title(found), ["Mean errors in percent, over severities."]
    )


def severities(found: StudyRobustness) -> Report:
    """Returns a row for each step: its accuracy without corruption and at each severity."""
    values, texts = [], []
    for step in found.steps:
        means = {n: summarise_values(v) for n, v in step.by_severity().items()}
        value: dict[str, Any] = {"step": step.key}
        text = {"step": step.key}
        for severity, of in means.items():
            name = f"severity_{severity}" if severity else CLEAN
            value |= {name: of.mean, f"{name}_std": of.std}
            text[str(severity) if severity else CLEAN] = fixed(of.mean)
        values.append(value)
        texts.append(text)
    note = f"Top-1 in percent, without corruption and at the severities 1 to {len(SEVERITIES)}."
    return Report(values, texts, Columns([*texts[0]][1:]), title(found), [note])


VIEWS = {"summary": summary, "corruptions": corruptions, "severities": severities}
"""The tables by name."""
