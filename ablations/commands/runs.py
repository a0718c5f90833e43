"""The commands for launched runs: status, logs, cancel."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ablations import limits, tables, terminal
from ablations.commands.options import STUDY_HELP, find_study, study_argument
from ablations.commands.parameters import SEED, FloatType, StrictCommand, list_option
from ablations.units import integer
from modernize.errors import UsageError
from modernize.text import plural, visible

if TYPE_CHECKING:
    from ablations.records import RunStatus, Study

MANY = 200  # runs; of a larger study only the runs that are not settled are listed
TAIL = 5  # lines shown of a failed run's log
FOLLOW_SECONDS = 0.5
EVERY_SECONDS = 5.0
PIECE = 1 << 20  # bytes of a log, read at once


def show_status(console: Console, study: Study, seconds: float | None) -> None:
    """Prints the status of every run; with ``seconds``, again at this interval, until all ended."""
    from ablations.records.status import is_active, read_statuses

    if seconds is None:
        console.print(_status(console, study, read_statuses(study)), soft_wrap=True)
        return
    with terminal.cursor_kept(console), Live(console=console, auto_refresh=False) as live:
        while True:
            statuses = read_statuses(study)
            live.update(_status(console, study, statuses), refresh=True)
            if not is_active(study, statuses):
                return
            time.sleep(seconds)


_COLUMNS = tables.Columns(
    numbers=("seed",), optional=("preempted", "job"), wrapped={"detail": 20, "job": 10}
)


def _status(console: Console, study: Study, statuses: list[RunStatus]) -> Group:
    """Returns the table of a study's runs, the counts, and the last lines of failed runs' logs."""
    from ablations.records import last_lines

    shown = [s for s in statuses if len(statuses) <= MANY or not s.status.settled]
    rows = [
        {
            "step": s.run.key,
            "seed": str(s.run.seed),
            "status": str(s.status),
            "detail": s.detail,
            "preempted": f"{s.preempted} x" if s.preempted else "",
            "job": s.job,
        }
        for s in shown
    ]
    counts = Counter(str(s.status) for s in statuses)
    parts: list[RenderableType] = [
        *tables.for_console(console, tables.without_empty(rows, "preempted", "job"), _COLUMNS),
        Text(
            f"{study.name}: " + ", ".join(f"{integer(n)} {status}" for status, n in counts.items())
        ),
    ]
    for s in statuses:
        if s.log is not None:
            head = f"\n{s.run.key}, seed {s.run.seed}: {s.status}: {s.detail}\n{s.log}:"
            lines = last_lines(s.log, TAIL).splitlines()
            parts.append(Text(visible("\n".join([head, *(f"    {line}" for line in lines)]))))
    return Group(*parts)


def show_log(study: Study, step: str, seed: int, *, follow: bool) -> None:
    """Prints a run's log; with ``follow``, until the run has ended.

    Raises:
        UsageError: if the study has no such run, or it has no log.
    """
    key = study.key_of(step)
    now = _find(study, key, seed)
    now.folder.check_present()
    path = now.log or now.folder.log
    if not path.is_file() and not follow:
        raise UsageError(f"{key}, seed {seed} has no log yet: it is {now.status}.")
    printer, shown = terminal.LogPrinter(), 0
    while True:
        last = not follow or not _find(study, key, seed).status.active
        if path.is_file():
            with path.open("rb") as file:
                file.seek(shown if shown <= path.stat().st_size else 0)  # a new log starts at 0
                while piece := file.read(PIECE):
                    printer.write(piece)
                shown = file.tell()
        if last:
            break
        time.sleep(FOLLOW_SECONDS)
    printer.write(b"", final=True)
    if not shown:
        terminal.echo(f"The log of {key}, seed {seed} is empty; it is {now.status}.", err=True)


def _find(study: Study, key: str, seed: int) -> RunStatus:
    from ablations.records import read_statuses

    statuses = read_statuses(study)
    for one in statuses:
        if (one.run.key, one.run.seed) == (key, seed):
            return one
    keys = ", ".join(dict.fromkeys(s.run.key for s in statuses))
    raise UsageError(
        f"the study {study.name!r} has no step {key!r} with seed {seed}; it has {keys}, seeds 0 to "
        f"{study.seeds - 1}."
    )


def cancel_runs(study: Study, steps: Sequence[str]) -> list[tuple[RunStatus, str]]:
    """Cancels the SLURM jobs of a study, or of some steps.

    Returns:
        The status of each run before, and the number of its job. A finished run has a job while
        its robustness is measured.
    """
    from ablations.launching import scheduler
    from ablations.records import ResultsError, read_statuses
    from ablations.records.squeue import find_jobs
    from ablations.records.submissions import read_submissions

    keys = {study.key_of(step) for step in steps}
    jobs = find_jobs(study.folder, read_submissions(study.folder, study.faults)) or {}
    found = [
        (one, jobs[one.run.name].job)
        for one in read_statuses(study)
        if one.run.name in jobs and (not keys or one.run.key in keys)
    ]
    if found:
        scheduler.cancel([job for _, job in found])
    for one, job in found:
        if one.record is None or not one.record.settled:
            try:
                one.folder.add_event("cancelled", job=job)
            except ResultsError as error:  # the job is cancelled anyway
                study.faults[one.folder.path] = str(error)
    return found


@click.command(
    cls=StrictCommand, epilog=STUDY_HELP, short_help="Show the status of a study's runs."
)
@study_argument
@click.option("--watch", is_flag=True, help="Refresh until no run is queued or running.")
@click.option(
    "--every",
    type=FloatType(0.1, limits.SECONDS),
    metavar="SECONDS",
    help="With --watch: time between refreshes.  [default: 5]",
)
def status(study: str | None, watch: bool, every: float | None, results: Path | None) -> None:
    """Show the status of every run of a study, and the last log lines of those that failed."""
    if every is not None and not watch:
        raise UsageError("--every goes with --watch.")
    found = find_study(study, results)
    show_status(terminal.console(), found, (every or EVERY_SECONDS) if watch else None)


@click.command(cls=StrictCommand, epilog=STUDY_HELP, short_help="Print the log of a run.")
@study_argument
@click.option("--step", required=True, metavar="STEP", help="The run's step: its key or index.")
@click.option(
    "--seed", type=SEED, metavar="N", default=0, show_default=True, help="The run's seed."
)
@click.option("--follow", is_flag=True, help="Print new lines until the run has ended.")
def logs(study: str | None, step: str, seed: int, follow: bool, results: Path | None) -> None:
    """Print the log of one run of a study."""
    show_log(find_study(study, results), step, seed, follow=follow)


@click.command(cls=StrictCommand, epilog=STUDY_HELP, short_help="Cancel a study's SLURM jobs.")
@study_argument
@list_option("--only", metavar="STEP,...", help="Only the jobs of these steps; may be repeated.")
def cancel(study: str | None, only: list[str], results: Path | None) -> None:
    """Cancel a study's SLURM jobs. To continue from the last checkpoints, launch it again."""
    found = find_study(study, results)
    cancelled = cancel_runs(found, only)
    for one, job in cancelled:
        terminal.echo(f"{one.run.key}, seed {one.run.seed} ({one.status}): job {job} cancelled")
    terminal.echo(f"{plural(len(cancelled), 'job')} of {found.name} cancelled.")
