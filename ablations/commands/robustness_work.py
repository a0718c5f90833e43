"""What `robustness` does: it evaluates weights or a study, and returns the table and the chart."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import terminal
from ablations.commands import shell
from ablations.commands.launch import RunsFailedError
from ablations.units import duration
from modernize.errors import UsageError
from modernize.text import few, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ablations.charts.settings import ChartSettings
    from ablations.launching.executors import Executor
    from ablations.records import Study
    from ablations.robustness.scores import Network
    from ablations.robustness.study import Plan
    from ablations.tables import Report

STORE = "robustness"
"""The folder, in that of the study or the results, with the counts on the sets in folders."""


def tell(line: str) -> None:
    """Writes a line of progress, which is not part of the table."""
    terminal.echo(line, err=True)


@dataclasses.dataclass(frozen=True)
class Launch:
    """The options that say where the runs of a study are evaluated."""

    jobs: int | None
    executor: str
    slurm_config: Path | None

    def choose(self, study: Study) -> tuple[Executor, str]:
        """Returns the executor, and its name with the reason for it."""
        from ablations.launching.executors import choose_executor
        from ablations.launching.slurm_config import load_slurm_config
        from ablations.launching.torchrun import find_torchrun

        if find_torchrun() is not None:
            raise UsageError(
                "start robustness without torchrun: each run is evaluated by one process."
            )
        config = load_slurm_config(self.slurm_config)
        return choose_executor(self.executor, study.preset, self.jobs, config)


def weights_on_folders(
    weights: str, folders: Mapping[str, Path], options: Mapping[str, Any], store: Path
) -> tuple[list[Network], list[str]]:
    """Returns weights with their counts on the sets in folders, and notes."""
    from ablations.robustness import folders as on_folders

    faults: dict[Path, str] = {}
    asked = on_folders.Options(**options)
    network, notes = on_folders.measure(weights, folders, asked, store, tell, faults)
    return [network], [*notes, *faults.values()]


def study_on_folders(
    study: Study,
    steps: Sequence[str],
    folders: Mapping[str, Path],
    options: Mapping[str, Any],
    launch: Launch,
) -> tuple[list[Network], list[str]]:
    """Evaluates the finished runs of a study that were not yet; returns those that are, and notes.

    Raises:
        RunsFailedError: if a run could not be evaluated.
    """
    from ablations.robustness.folder_study import StudyOnFolders
    from ablations.robustness.folders import Options

    chosen = launch.choose(study)
    if not chosen[0].waits and options["precision"] == "auto":
        raise UsageError(
            "--precision auto depends on the device, which is not known before a SLURM job runs; "
            "name the precision: fp32, bf16 or fp16."
        )
    store, here = study.folder / STORE, chosen[0].waits
    work = StudyOnFolders.of(study, steps, folders, Options(**options), store, here=here)
    planned = work.plan()
    if planned.jobs:
        planned = _evaluate(study, planned, work.plan, chosen)
    _tell_submitted(planned)
    return work.networks(), work.notes()


def show_networks(
    networks: Sequence[Network], notes: Sequence[str], view: str, settings: ChartSettings | None
) -> tuple[Report, Figure | None]:
    """Returns the table of networks on the sets in folders, and the chart if there are settings."""
    from ablations.robustness import folder_reports

    if view == "summary":
        report = folder_reports.summary(networks, notes)
    else:
        report = folder_reports.TABLES[view](networks)
    if settings is None:
        return report, None
    from ablations.robustness.chart import folders_figure

    return report, folders_figure(networks, settings)


def _tell_submitted(planned: Plan) -> None:
    if planned.submitted:
        tell(f"{plural(len(planned.submitted), 'run')} with SLURM: {few(planned.submitted)}.")


def made_here(
    study: Study,
    steps: Sequence[str],
    relative_to: str | None,
    view: str,
    settings: ChartSettings | None,
    launch: Launch,
) -> tuple[Report, Figure | None] | None:
    """Evaluates the finished runs of a study that were not yet, and returns its table and chart.

    Returns:
        None if no run was evaluated yet, because all are with SLURM.

    Raises:
        UsageError: if the study has no results, and no run that can be evaluated.
        RunsFailedError: if a run could not be evaluated.
    """
    from ablations.analysis import robustness as analysis
    from ablations.robustness.study import plan, remove_images

    planned = plan(study, steps)
    if relative_to is not None:
        study.key_of(relative_to)
    if planned.jobs:
        replan = functools.partial(plan, study, steps)
        planned = _evaluate(study, planned, replan, launch.choose(study))
    if not planned.jobs:
        remove_images(study)
    _tell_submitted(planned)
    if planned.gone:
        tell(f"Without weights here, and not evaluated before: {few(planned.gone)}.")
    found = analysis.read(study, steps, relative_to, planned.finished)
    if found is None and planned.gone:
        raise UsageError(
            f"the weights of the study {study.name} are not here, and none of its runs was "
            "evaluated before. To have them, train the study under another --name."
        )
    if found is None:
        return None
    figure = None
    if settings is not None:
        from ablations.charts import severity_chart

        figure = severity_chart.study_figure(found, settings)
    return analysis.VIEWS[view](found), figure


def _evaluate(
    study: Study, planned: Plan, replan: Callable[[], Plan], chosen: tuple[Executor, str]
) -> Plan:
    """Evaluates runs, or submits them, and returns the plan of the rest."""
    from ablations.launching.progress import follow
    from ablations.robustness import study as work

    executor, reason = chosen
    console, count, start = terminal.console(err=True), len(planned.jobs), time.monotonic()
    console.print(f"Executor: {reason}", soft_wrap=True)
    try:
        work.evaluate(
            study,
            planned,
            executor,
            lambda events: follow(events, count, console, bars=executor.background),
        )
    except KeyboardInterrupt as stop:
        console.print(
            f"{shell.describe(stop)}. The counts are kept; the same command continues.",
            style="bold",
            soft_wrap=True,
        )
        raise SystemExit(shell.exit_status(stop)) from None
    left = replan()
    if not executor.waits:
        return left
    if left.jobs:
        raise RunsFailedError(
            f"{len(left.jobs)} of {plural(count, 'run')} were not evaluated to the end; see the "
            f"logs, such as {left.jobs[0].folder / 'log.txt'}. The same command continues."
        )
    seconds = duration(time.monotonic() - start)
    tell(f"Evaluated {plural(count, 'run')}: {seconds}")
    return left
