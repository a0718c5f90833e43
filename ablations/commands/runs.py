"""The commands that come back to a study's runs later: status, logs, cancel."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ablations import limits, tables, terminal
from ablations.commands.options import find_study, name_once, study_option
from ablations.commands.typed import SEED, Once, Real
from modernize.errors import UsageError
from modernize.text import plural, visible

if TYPE_CHECKING:
    from ablations.launching.survey import RunState
    from ablations.records import Study

MANY = 200  # runs, from which on only those that have not come to their end are listed
TAIL = 5  # lines shown of a failed run's log
FOLLOW_SECONDS = 0.5
EVERY_SECONDS = 5.0
PIECE = 1 << 20  # bytes of a log, read at once


def show_status(console: Console, study: Study, seconds: float | None) -> None:
    """Prints how every run stands; again and again where ``seconds`` says how often."""
    if seconds is None:
        console.print(_status(console, study, _survey(study)), soft_wrap=True)
        return
    from ablations.launching.survey import goes_on

    with terminal.cursor_kept(console), Live(console=console, auto_refresh=False) as live:
        while True:
            states = _survey(study)
            live.update(_status(console, study, states), refresh=True)
            if not goes_on(study, states):
                return
            time.sleep(seconds)


def _survey(study: Study) -> list[RunState]:
    from ablations.launching.survey import survey

    return survey(study)


_COLUMNS = tables.Columns(
    numbers=("seed",), least=("preempted", "job"), wrapped={"detail": 20, "job": 10}
)


def _status(console: Console, study: Study, states: list[RunState]) -> Group:
    """Returns the table of a study's runs, counts, and the ends of the logs of what failed."""
    from ablations.launching.survey import last_lines

    shown = [s for s in states if len(states) <= MANY or not s.state.settled]
    rows = [
        {
            "step": s.run.key,
            "seed": str(s.run.seed),
            "state": str(s.state),
            "detail": s.detail,
            "preempted": f"{s.preempted} x" if s.preempted else "",
            "job": s.job,
        }
        for s in shown
    ]
    for column in ("preempted", "job"):
        if not any(row[column] for row in rows):
            for row in rows:
                del row[column]
    counts = Counter(str(s.state) for s in states)
    parts: list[RenderableType] = [
        *tables.for_console(console, rows, _COLUMNS),
        Text(f"{study.name}: " + ", ".join(f"{n:,} {state}" for state, n in counts.items())),
    ]
    for s in states:
        if s.log is not None:
            head = f"\n{s.run.key}, seed {s.run.seed}: {s.state}: {s.detail}\n{s.log}:"
            lines = last_lines(s.log, TAIL).splitlines()
            parts.append(Text(visible("\n".join([head, *(f"    {line}" for line in lines)]))))
    return Group(*parts)


def show_log(study: Study, step: str, seed: int, *, follow: bool) -> None:
    """Prints a run's log; with ``follow``, goes on until the run has ended.

    Raises:
        UsageError: where the study has no such run, or it has no log.
    """
    key = study.key_of(step)
    state = _find(study, key, seed)
    state.folder.check_whole()
    path = state.log or state.folder.log
    if not path.is_file() and not follow:
        raise UsageError(f"{key}, seed {seed} has no log yet: it is {state.state}.")
    printer, shown = terminal.LogPrinter(), 0
    while True:
        ends = not follow or not _goes_on(_find(study, key, seed))
        if path.is_file():
            with path.open("rb") as file:
                file.seek(shown if shown <= path.stat().st_size else 0)  # it may have begun again
                while piece := file.read(PIECE):
                    printer.write(piece)
                shown = file.tell()
        if ends:
            break
        time.sleep(FOLLOW_SECONDS)
    printer.write(b"", final=True)
    if not shown:
        terminal.echo(f"The log of {key}, seed {seed} is empty; it is {state.state}.", err=True)


def _goes_on(state: RunState) -> bool:
    from ablations.launching.survey import State

    return state.state in (State.QUEUED, State.RUNNING)


def _find(study: Study, key: str, seed: int) -> RunState:
    states = _survey(study)
    for state in states:
        if (state.run.key, state.run.seed) == (key, seed):
            return state
    keys = ", ".join(dict.fromkeys(s.run.key for s in states))
    raise UsageError(
        f"the study {study.name!r} has no step {key!r} with seed {seed}; it has {keys}, seeds 0 to "
        f"{study.seeds - 1}."
    )


def cancel_runs(study: Study, steps: tuple[str, ...]) -> list[RunState]:
    """Has the scheduler end a study's jobs, or those of some steps, and returns what they were."""
    from ablations.launching import scheduler
    from ablations.records import ResultsError

    keys = {study.key_of(step) for step in steps}
    states = [s for s in _survey(study) if s.job and (not keys or s.run.key in keys)]
    if states:
        scheduler.cancel([s.job for s in states])
        for s in states:
            try:
                s.folder.note("cancelled", job=s.job)
            except ResultsError as error:  # the job is cancelled all the same
                study.faults[s.folder.path] = str(error)
    return states


@click.command(cls=Once)
@click.argument("source", required=False, metavar="[STUDY]")
@click.option("--watch", is_flag=True, help="Refresh until nothing waits or runs.")
@click.option(
    "--every", type=Real(0.1, limits.SECONDS), metavar="SECONDS", help="Of --watch.  [default: 5]"
)
@study_option
def status(
    source: str | None, name: str | None, watch: bool, every: float | None, results: Path | None
) -> None:
    """Show how every run of a study stands."""
    if every is not None and not watch:
        raise UsageError("--every goes with --watch.")
    study = find_study(name_once(source, name), results)
    show_status(terminal.console(), study, (every or EVERY_SECONDS) if watch else None)


@click.command(cls=Once)
@click.argument("step")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@study_option
def logs(step: str, seed: int, follow: bool, name: str | None, results: Path | None) -> None:
    """Print the log of one STEP's run."""
    show_log(find_study(name, results), step, seed, follow=follow)


@click.command(cls=Once, short_help="Have SLURM end a study's jobs.")
@click.argument("steps", nargs=-1, metavar="[STEP]...")
@study_option
def cancel(steps: tuple[str, ...], name: str | None, results: Path | None) -> None:
    """Have SLURM end a study's jobs, or only those of some STEPs; launching it again goes on."""
    study = find_study(name, results)
    cancelled = cancel_runs(study, steps)
    for state in cancelled:
        terminal.echo(
            f"{state.run.key}, seed {state.run.seed}: {state.state} job {state.job} cancelled"
        )
    terminal.echo(f"{plural(len(cancelled), 'job')} of {study.name} cancelled.")
