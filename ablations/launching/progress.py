"""What a person sees while a study trains: bars on a terminal, a line per run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ablations import terminal
from ablations.launching.job import Job
from ablations.launching.local_queue import Tick
from ablations.records import Record, RunFolder, Status
from ablations.records.status import epoch_of
from ablations.units import duration
from modernize.text import plural, visible


def outcome(record: Record) -> str:
    """Returns in a few words how a run ended."""
    if record.status is Status.FINISHED:
        best = "" if record.top1_best is None else f" (best epoch {record.top1_best:.2f} %)"
        return "finished" if record.top1 is None else f"top-1 {record.top1:.2f} %{best}"
    return f"{record.status.upper()}: {record.reason}"


def follow(ticks: Iterable[Tick], total: int, console: Console) -> list[tuple[Job, Record]]:
    """Shows how ``total`` runs come along until all have ended, and returns how they did."""
    ended: list[tuple[Job, Record]] = []
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        TextColumn("left:", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}", markup=False),
    )
    bars: dict[str, TaskID] = {}
    began: float | None = None
    first_done = 0.0  # what resumed runs had behind them when first seen
    bars_shown = Progress(*columns, console=console, disable=not console.is_terminal)
    with terminal.cursor_kept(console), bars_shown as progress:
        whole = progress.add_task("study", total=total, news=f"0 of {plural(total, 'run')}")
        for tick in ticks:
            shares = {}
            for job in tick.running:
                name = label(job)
                said = RunFolder(job.folder).read_progress() or {}
                shares[name] = float(said.get("fraction", 0.0))
                if name not in bars:
                    bars[name] = progress.add_task(visible(name), total=1.0, news="")
                news = epoch_of(said) if said else ""
                progress.update(bars[name], completed=shares[name], news=news)
            for job, record in tick.ended:
                ended.append((job, record))
                name = label(job)
                if name in bars:
                    progress.remove_task(bars.pop(name))
            done = len(ended) + sum(shares.values())
            if began is None:
                began, first_done = time.monotonic(), done
            for job, record in tick.ended:
                style = "" if record.status is Status.FINISHED else "bold red"
                line = f"[{len(ended)}/{total}] {label(job)}: {outcome(record)}"
                line += f", {duration(record.seconds)}" if record.seconds else ""
                if not console.is_terminal and len(ended) < total and done > first_done:
                    left = (time.monotonic() - began) * (total - done) / (done - first_done)
                    line += f"; about {duration(left)} left"
                progress.console.print(line, style=style, soft_wrap=True)
            progress.update(whole, completed=done, news=f"{len(ended)} of {plural(total, 'run')}")
    return ended


def label(job: Job) -> str:
    """Returns what a run is called for people."""
    return f"{job.run.key}, seed {job.run.seed}"
