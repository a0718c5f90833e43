"""How a run ended: finished, collapsed or diverged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablations.metrics import TaskMetrics
from ablations.records import Record, Status


def final_record(
    rows: Sequence[Mapping[str, Any]],
    measured: TaskMetrics,
    chance: Callable[[Mapping[str, Any]], str],
    diverged: str = "",
) -> Record:
    """Returns the record of a run with these metrics.

    Args:
        rows: the metrics of each epoch, oldest first; only losses if there is no validation.
        measured: of the task.
        chance: returns why an epoch's metrics are no better than chance; empty if they are.
        diverged: why it diverged; an empty text if it did not.
    """
    if not rows:
        return Record(Status.DIVERGED, diverged)
    last, headline = rows[-1], measured.headline
    metrics = {m.key: last[m.key] for m in measured.metrics if m.key in last}
    evaluated = [row for row in rows if headline.key in row]
    best = max(evaluated, key=lambda row: row[headline.key], default={})
    if best:
        metrics[headline.best] = best[headline.key]
    if diverged:
        status, reason = Status.DIVERGED, diverged
    else:
        reason = chance(last) if headline.key in last else ""
        status = Status.COLLAPSED if reason else Status.FINISHED
    return Record(
        status,
        reason,
        metrics=metrics,
        best_epoch=best.get("epoch"),
        epochs=len(rows),
        train_loss=last["train_loss"],
        val_loss=last.get("val_loss"),
    )
