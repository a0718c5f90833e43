"""The outcomes of the runs of each variant of a study, by seed. No torch here."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from ablations.records import ProcessState, Record, ResultsError, RunFolder, Status, Study
from modernize.text import plural

FEWEST_IN_RANGE = 3  # consecutive seeds from which on only the first and the last are named
MOST_LISTED = 12  # seeds and ranges that are named; of more, only the numbers are given


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The outcomes of the runs of one variant.

    Attributes:
        records: seed -> record, of the runs that have one.
        statuses: seed -> the record's status; without a record "running", "missing" or
            "unreadable".
        ema: seed -> top-1 of the moving average of the weights after the last epoch, in percent, of
            the finished runs that have one.
    """

    records: Mapping[int, Record]
    statuses: Mapping[int, str]
    ema: Mapping[int, float]

    @property
    def finished(self) -> dict[int, Record]:
        """The records of the seeds that finished."""
        return {s: r for s, r in self.records.items() if r.status is Status.FINISHED}

    @property
    def unfinished(self) -> dict[int, str]:
        """The statuses of all other seeds."""
        return {seed: status for seed, status in self.statuses.items() if status != Status.FINISHED}


def read_outcomes(study: Study) -> dict[str, Outcomes]:
    """Returns the outcomes of all runs, by the keys of the variants; each record is read once."""
    records: dict[str, dict[int, Record]] = {variant.key: {} for variant in study.variants}
    statuses: dict[str, dict[int, str]] = {variant.key: {} for variant in study.variants}
    averages: dict[str, dict[int, float]] = {variant.key: {} for variant in study.variants}
    for variant, run, folder in study.runs():
        record = folder.record_or_fault()
        if isinstance(record, ResultsError):
            statuses[variant.key][run.seed] = "unreadable"
        elif record is None:
            alive = folder.process_state() is not ProcessState.GONE
            statuses[variant.key][run.seed] = "running" if alive else "missing"
        else:
            records[variant.key][run.seed] = record
            statuses[variant.key][run.seed] = str(record.status)
            finished = record.status is Status.FINISHED
            if finished and run.recipe.ema_decay is not None:
                top1 = _ema_top1(folder, record.epochs)
                averages[variant.key] |= {} if top1 is None else {run.seed: top1}
    return {key: Outcomes(records[key], statuses[key], averages[key]) for key in records}


def _ema_top1(folder: RunFolder, epochs: int) -> float | None:
    """Returns the moving average's top-1 after this many epochs; None if it is not known."""
    found = [row.get("ema_top1") for row in folder.read_metrics() if row["epoch"] == epochs]
    return found[-1] if found else None


def describe_seeds(statuses: Mapping[int, str]) -> str:
    """Returns seeds with their statuses: "seed 1 collapsed, seed 2 missing, seeds 4 to 9 failed".

    If that is a long list, only the number of seeds of each status: "40 seeds failed".
    """
    spans: list[list[tuple[int, str]]] = []
    for seed, status in sorted(statuses.items()):
        if spans and spans[-1][-1] == (seed - 1, status):
            spans[-1].append((seed, status))
        else:
            spans.append([(seed, status)])
    texts = []
    for span in spans:
        if len(span) >= FEWEST_IN_RANGE:
            texts.append(f"seeds {span[0][0]} to {span[-1][0]} {span[0][1]}")
        else:
            texts += [f"seed {seed} {status}" for seed, status in span]
    if len(texts) > MOST_LISTED:
        counts = Counter(statuses.values())
        texts = [f"{plural(count, 'seed')} {status}" for status, count in counts.items()]
    return ", ".join(texts)
