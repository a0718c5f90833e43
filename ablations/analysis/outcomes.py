"""How the runs of each variant of a study ended, seed by seed. No torch here."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from ablations.records import Life, Record, ResultsError, RunFolder, Status, Study
from modernize.text import plural

RANGE = 2  # seeds in a row that are named one by one; of more, the first and the last
LISTED = 12  # names of seeds; where there are more, the seeds are counted


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """How the runs of one variant ended.

    Attributes:
        records: seed -> record, where there is one.
        states: seed -> the record's status; without a record "running", "missing" or "unreadable".
        ema: seed -> top-1 of the moving average of the weights after the last epoch, in percent, of
            the runs that finished and have one.
    """

    records: Mapping[int, Record]
    states: Mapping[int, str]
    ema: Mapping[int, float]

    @property
    def finished(self) -> dict[int, Record]:
        """The records of the seeds that finished."""
        return {s: r for s, r in self.records.items() if r.status is Status.FINISHED}

    @property
    def unfinished(self) -> dict[int, str]:
        """The states of all other seeds."""
        return {seed: state for seed, state in self.states.items() if state != Status.FINISHED}


def read_outcomes(study: Study) -> dict[str, Outcomes]:
    """Returns how all runs ended, by the keys of the variants; each record is read once."""
    records: dict[str, dict[int, Record]] = {variant.key: {} for variant in study.variants}
    states: dict[str, dict[int, str]] = {variant.key: {} for variant in study.variants}
    averages: dict[str, dict[int, float]] = {variant.key: {} for variant in study.variants}
    for variant, run, folder in study.runs():
        record = folder.record_or_fault()
        if isinstance(record, ResultsError):
            states[variant.key][run.seed] = "unreadable"
        elif record is None:
            alive = folder.life() is not Life.GONE
            states[variant.key][run.seed] = "running" if alive else "missing"
        else:
            records[variant.key][run.seed] = record
            states[variant.key][run.seed] = str(record.status)
            finished = record.status is Status.FINISHED
            if finished and run.recipe.ema_decay is not None:
                top1 = _ema_top1(folder, record.epochs)
                averages[variant.key] |= {} if top1 is None else {run.seed: top1}
    return {key: Outcomes(records[key], states[key], averages[key]) for key in records}


def _ema_top1(folder: RunFolder, epochs: int) -> float | None:
    """Returns the moving average's top-1 after so many epochs; None where it is not known."""
    found = [row.get("ema_top1") for row in folder.read_metrics() if row["epoch"] == epochs]
    return found[-1] if found else None


def describe_seeds(states: Mapping[int, str]) -> str:
    """Names seeds with their states: "seed 1 collapsed, seed 2 missing, seeds 4 to 9 failed".

    Where that would be a long list, the seeds of each state are counted: "40 seeds failed".
    """
    spans: list[list[tuple[int, str]]] = []
    for seed, state in sorted(states.items()):
        if spans and spans[-1][-1] == (seed - 1, state):
            spans[-1].append((seed, state))
        else:
            spans.append([(seed, state)])
    texts = []
    for span in spans:
        if len(span) > RANGE:
            texts.append(f"seeds {span[0][0]} to {span[-1][0]} {span[0][1]}")
        else:
            texts += [f"seed {seed} {state}" for seed, state in span]
    if len(texts) > LISTED:
        texts = [
            f"{plural(count, 'seed')} {state}" for state, count in Counter(states.values()).items()
        ]
    return ", ".join(texts)
