"""The runs of a study as one tidy table: a row for each run, a column for each variable."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.metrics import TaskMetrics
from ablations.records import Record, RunStatus, Study, open_study, read_statuses
from modernize.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("study", "step", "seed", "recipe", "status")
"""The columns that say which run it is, and how it ended."""
NUMBERS = tuple(
    field.name
    for field in dataclasses.fields(Record)
    if field.name not in ("status", "reason", "metrics", "classes", "provenance")
)


def numbers(measured: TaskMetrics) -> list[str]:
    """Returns the columns with numbers: all of a record but those of single classes.

    A number that was not measured is empty (NaN).
    """
    return [*(metric.key for metric in measured.metrics), measured.headline.best, *NUMBERS]


def runs(study: Study | Path | str, results: Path | str = "results") -> pd.DataFrame:
    """Returns a row for each run of a study, also of those that did not finish.

    Columns: ``study``, ``step``, ``seed``; ``recipe`` (``classic`` or ``enhanced``, and the keys
    that the step changes); ``status``; then every number of the run's record: accuracies in
    percent after the last epoch (``top1``, ...) and of the best one (``top1_best``: optimistic),
    losses, ``epochs``, ``seconds`` of training and evaluating; ``device``, and ``run``, the name of
    the run's folder. The numbers of single classes are not in it.

    Args:
        study: its name, or its folder.
        results: the folder of the studies, if a name is given.

    Raises:
        UsageError: if there is no such study, or only a summary of it is left.
    """
    import pandas as pd

    found = open_study(study, results)
    names = numbers(found.metrics)
    table = pd.DataFrame(rows(found), columns=[*KEYS, *names, "device", "run"])
    return table.astype(dict.fromkeys(names, float))


def rows(study: Study) -> list[dict[str, Any]]:
    """Returns the same as :func:`runs`, without pandas: None for a number that does not exist.

    Raises:
        UsageError: if the study has no runs.
    """
    if not study.has_runs:
        raise UsageError(f"study {study.name!r} has no runs: only study.json or a summary is here.")
    return [_row(study, status) for status in read_statuses(study)]


def _row(study: Study, found: RunStatus) -> dict[str, Any]:
    variant, record = found.variant, found.record
    values = record.values() if record else {}
    return {
        "study": study.name,
        "step": variant.key,
        "seed": found.run.seed,
        "recipe": ", ".join(filter(None, [variant.training, variant.recipe_changes])),
        "status": str(found.status),
        **{name: values.get(name) for name in numbers(study.metrics)},
        "device": record.provenance.get("device", "") if record else "",
        "run": found.run.name,
    }
