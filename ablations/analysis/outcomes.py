"""The outcomes of the runs of each variant of a study, by seed. No torch here."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

from ablations.metrics import TASKS
from ablations.records import Record, RunStatus, Status, Study, read_statuses
from modernize.text import plural

FEWEST_IN_RANGE = 3  # consecutive seeds from which on only the first and the last are named
MOST_LISTED = 12  # seeds and ranges that are named; of more, only the numbers are given


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The outcomes of the runs of one variant.

    Attributes:
        statuses: seed -> status.
        records: seed -> record, of the runs that ended.
        ema: seed -> headline of the moving average of the weights after the last epoch, of the
            finished runs that have one.
    """

    statuses: Mapping[int, Status]
    records: Mapping[int, Record]
    ema: Mapping[int, float]

    @property
    def finished(self) -> dict[int, Record]:
        """The records of the seeds that finished."""
        return {s: r for s, r in self.records.items() if r.status is Status.FINISHED}

    @property
    def unfinished(self) -> dict[int, str]:
        """The statuses of all other seeds."""
        return {s: status for s, status in self.statuses.items() if status is not Status.FINISHED}


def read_outcomes(study: Study) -> dict[str, Outcomes]:
    """Returns the outcomes of all runs, by the keys of the variants."""
    return outcomes_of(read_statuses(study))


def outcomes_of(runs: Iterable[RunStatus]) -> dict[str, Outcomes]:
    """Returns the outcomes of these runs, by the keys of the variants."""
    by_variant: dict[str, dict[int, RunStatus]] = {}
    for run in runs:
        by_variant.setdefault(run.variant.key, {})[run.run.seed] = run
    return {
        key: Outcomes(
            {seed: run.status for seed, run in found.items()},
            {seed: run.record for seed, run in found.items() if run.record},
            {seed: value for seed, run in found.items() if (value := _ema(run)) is not None},
        )
        for key, found in by_variant.items()
    }


def _ema(run: RunStatus) -> float | None:
    """Returns the moving average's headline after the last epoch; None if there is none."""
    if run.status is not Status.FINISHED or run.record is None or run.run.recipe.ema_decay is None:
        return None
    rows = run.folder.read_metrics()
    last = next((row for row in rows if row["epoch"] == run.record.epochs), {})
    return next((last[t.headline.ema] for t in TASKS.values() if t.headline.ema in last), None)


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
