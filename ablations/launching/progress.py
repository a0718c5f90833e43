"""The progress of a launch for the user: bars on a terminal, elsewhere a line per run."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ablations import terminal
from ablations.launching.executors import Event
from ablations.launching.job import Job
from ablations.records import Record, RunFolder, Status
from ablations.records.status import epoch_of
from ablations.units import about, duration
from modernize.text import plural, visible


def outcome(record: Record) -> str:
    """Returns in a few words how a run ended."""
    if record.status is Status.FINISHED:
        if record.reason:
            return record.reason
        best = f" (best epoch {record.best_result})" if record.best_result else ""
        return f"{record.result}{best}" if record.result else "finished"
    return f"{record.status.upper()}: {record.reason}"


def follow(events: Iterable[Event], total: int, console: Console, *, bars: bool) -> None:
    """Shows the progress of ``total`` runs until the last event.

    Args:
        events: of the executor.
        total: number of runs.
        console: where to show it.
        bars: whether to show progress bars, if the console is a terminal.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        TextColumn("left:", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}", markup=False),
    )
    tasks: dict[str, TaskID] = {}
    ended = 0
    began: float | None = None
    first_done = 0.0  # work done before this launch, by runs that continue
    bars = bars and console.is_terminal
    shown = Progress(*columns, console=console, disable=not bars)
    with terminal.cursor_kept(console), shown as progress:
        whole = progress.add_task("study", total=total, news=f"0 of {plural(total, 'run')}")
        for event in events:
            if event.message:
                progress.console.print(event.message, soft_wrap=True)
                continue
            fractions = {}
            for job in event.running:
                name = label(job)
                state = job.progress(RunFolder(job.folder))
                fractions[name] = float(state.get("fraction", 0.0))
                if name not in tasks:
                    tasks[name] = progress.add_task(visible(name), total=1.0, news="")
                news = epoch_of(state) if state else ""
                progress.update(tasks[name], completed=fractions[name], news=news)
            for job, _record in event.ended:
                if (task := tasks.pop(label(job), None)) is not None:
                    progress.remove_task(task)
            ended += len(event.ended)
            done = ended + sum(fractions.values())
            if began is None:
                began, first_done = time.monotonic(), done
            for job, record in event.ended:
                style = "" if record.status is Status.FINISHED else "bold red"
                line = f"[{ended}/{total}] {label(job)}: {outcome(record)}"
                line += f", {duration(record.seconds)}" if record.seconds else ""
                if not bars and ended < total and done > first_done:
                    left = (time.monotonic() - began) * (total - done) / (done - first_done)
                    line += f"; {about(left)} left"
                progress.console.print(line, style=style, soft_wrap=True)
            progress.update(whole, completed=done, news=f"{ended} of {plural(total, 'run')}")


def label(job: Job) -> str:
    """Returns the name of a run for the user."""
    return f"{job.run.key}, seed {job.run.seed}"
