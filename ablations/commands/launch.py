"""The main job: its options, its progress and its results."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from ablations import limits, tables, terminal
from ablations.commands import shell, study_request
from ablations.commands.collect import collect_study
from ablations.commands.options import add_options, report_faults, results_folder, results_option
from ablations.commands.parameters import FilePath, IntegerType
from ablations.commands.study_request import SpeedRequest, speed_options, study_options
from ablations.fit import LOGGERS
from modernize.errors import RoadmapError, UsageError
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.launching.executors import Executor
    from ablations.launching.experiment import Experiment

EXECUTORS = ("auto", "local", "slurm", "debug")  # with those of ablations.launching.executors
SMOKE = "-smoke"  # the end of the name of a smoke test's study


class RunsFailedError(RoadmapError):
    """Some runs of a study failed or were stopped; the records of the others are written."""


launching_options = add_options(
    study_options,
    click.option(
        "--name",
        metavar="NAME",
        help="The name of the study's folder.  [default: the study's name; roadmap: the preset's]",
    ),
    click.option(
        "--jobs",
        type=IntegerType(1, limits.PROCESSES),
        metavar="N",
        help="Runs at a time.  [default: one per GPU, or per core up to 8]",
    ),
    click.option(
        "--skip-bad-images",
        is_flag=True,
        help="Skip images that cannot be read, and count them; otherwise they stop the run.",
    ),
    click.option(
        "--smoke",
        is_flag=True,
        help="Try each step from start to end in the shortest time: one epoch of two updates, "
        "in a separate study, whose name ends in -smoke. Its accuracies mean nothing.",
    ),
    click.option(
        "--check-images",
        is_flag=True,
        help="Read all images in the folder and compare their contents with the study's record; "
        "otherwise only names, sizes and modification times are compared.",
    ),
    click.option(
        "--log",
        "loggers",
        type=click.Choice(LOGGERS),
        multiple=True,
        help="Also write the metrics of each epoch there; may be repeated.",
    ),
    click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        default="auto",
        show_default=True,
        help="local: a queue on this machine; debug: this process. auto: slurm for a preset for "
        "clusters if SLURM answers, otherwise local.",
    ),
    click.option(
        "--slurm-config",
        type=FilePath(dir_okay=False),
        metavar="FILE",
        help="Your cluster's SLURM settings (see docs/cluster.md).",
    ),
    results_option,
    click.option("--dry-run", is_flag=True, help="Print the plan, and stop."),
    speed_options,
)
"""Adds the options of the main job; :func:`launch` takes them."""


def launch(
    *,
    dry_run: bool,
    benchmark: Path | None,
    images_per_second: float | None,
    measure: bool,
    jobs: int | None,
    executor: str,
    slurm_config: Path | None,
    results: Path | None,
    **options: Any,
) -> None:
    """Trains the runs that a study still needs, or submits them to SLURM, and reports the results.

    Raises:
        UsageError: for options that are not valid.
        RunsFailedError: if a run failed; the records of the others are written.
    """
    speed = SpeedRequest(benchmark, images_per_second, measure)
    if speed.given and not dry_run:
        raise UsageError(f"{speed.given[0]} goes with --dry-run, or with `plan`.")
    from ablations.launching.executors import choose_executor
    from ablations.launching.slurm_config import load_slurm_config
    from ablations.launching.torchrun import find_torchrun

    if not dry_run:
        shell.continue_without_output()
    torchrun = find_torchrun()
    # Of the processes that torchrun starts, only the first one prints.
    console = terminal.console(quiet=torchrun is not None and torchrun.rank > 0)
    config = load_slurm_config(slurm_config)
    results = results or (Path(config.results) if config.results else None)
    processes = torchrun.world_size if torchrun else config.processes
    experiment = design(results=results, processes=processes, **options)
    report_faults(experiment.study)
    chosen, reason = choose_executor(executor, experiment.preset, jobs, config)
    experiment.check(chosen.machine(experiment.preset))
    if dry_run:
        speed = dataclasses.replace(speed, results=experiment.study.folder.parent)
    estimated = _print_plan(console, experiment, speed, jobs or 1)
    if options["smoke"]:
        console.print(
            "Smoke test: one epoch of two updates for each step. It shows only that they run to "
            "the end; accuracies and reports of collapse mean nothing.",
            soft_wrap=True,
        )
    console.print(f"Executor: {reason}", soft_wrap=True)
    if not dry_run:
        _train(console, experiment, chosen)
        return
    if preview := chosen.preview(experiment.study.folder.absolute(), experiment.jobs()):
        terminal.echo(f"\n{preview}")
    if not estimated:
        console.print(study_request.HOURS_HINT, soft_wrap=True)
    console.print("Dry run: nothing was trained or written.")


def design(
    *,
    name: str | None,
    skip_bad_images: bool,
    loggers: tuple[str, ...],
    results: Path | None,
    smoke: bool = False,
    processes: int = 1,
    check_images: bool = False,
    **options: Any,
) -> Experiment:
    """Returns the experiment of a command line; writes nothing.

    Args:
        name: of the study's folder; None: a name from study and preset.
        skip_bad_images: whether to skip unreadable images.
        loggers: where the metrics are written, too; of :data:`~ablations.fit.LOGGERS`.
        results: the folder of the studies; None: ``results`` in the current folder.
        smoke: whether to make each run as short as possible, in a separate study.
        processes: that may train a run together, for a smoke test.
        check_images: whether to compare the contents of all images with those of the study.
        options: the options of :func:`~ablations.commands.study_request.study_options`.

    Raises:
        UsageError: for options that are not valid.
    """
    from ablations.launching import experiment

    found = study_request.build_request(**options)
    study = experiment.study_name(name, found.folder)
    if smoke:
        study = f"{study.removesuffix(SMOKE)}{SMOKE}"
        seeds = options["seeds"] or 1
        preset, variants = found.preset.smoke(processes, found.variants)
        found = dataclasses.replace(found, preset=preset, variants=variants, seeds=seeds)
    return experiment.design(
        results_folder(results) / study,
        found.preset,
        found.resolved,
        found.variants,
        found.seeds,
        skip_bad_images=skip_bad_images,
        check_images=check_images,
        loggers=loggers,
    )


_PLAN = tables.Columns(
    numbers=("seed", "parameters", "MFLOPs", "GFLOPs", "of base", "epochs", "time", "memory"),
    optional=("recipe", "parameters", "MFLOPs", "GFLOPs", "of base", "epochs", "time", "memory"),
    wrapped={"action": 24},
)


def _print_plan(console: Console, experiment: Experiment, asked: SpeedRequest, jobs: int) -> bool:
    """Prints the plan, and returns whether it has the hours."""
    from ablations.studies import estimates
    from ablations.units import choose_unit, duration, integer, memory, times, work

    study, planned = experiment.study, experiment.planned
    rows, reference = experiment.rows()
    speed = study_request.find_speed(rows, reference, study.preset, asked)
    costs = {row.key: row for row in (estimates.timed(rows, speed) if speed else rows)}
    images = study.manifest["images"]
    console.print(
        f"Study {study.name}: {study.preset.title}; regime {study.manifest['regime']}; "
        f"{plural(images['train_images'], 'training image')} and "
        f"{plural(images['val_images'], 'validation image')}",
        soft_wrap=True,
    )
    texts = []
    unit = choose_unit(p.cost.flops for p in planned)
    for p in planned:
        row = costs[p.run.key]
        text = {
            "step": p.run.key,
            "seed": str(p.run.seed),
            "parameters": integer(p.cost.params),
            unit.name: unit.show(p.cost.flops),
            "of base": times(row.times),
            "epochs": str(p.run.recipe.epochs),
            "recipe": p.variant.recipe_name,
            "time": "" if row.hours is None else duration(3600 * row.hours * p.fraction_left),
            "memory": "" if row.memory is None else memory(row.memory),
            "action": p.action,
        }
        texts.append(text)
    columns = estimates.columns((p.variant for p in planned), _PLAN)
    tables.print_table(console, tables.without_empty(texts), columns)
    for line in experiment.cautions():
        console.print(f"Note: {line}", soft_wrap=True)
    for line in study_request.cost_notes(list(costs.values()), reference, experiment.resolved):
        console.print(line, soft_wrap=True)
    macs = sum(costs[p.run.key].work * p.fraction_left for p in experiment.needed)
    console.print(
        f"{len(experiment.needed)} of {plural(len(planned), 'run')} to do, {work(macs)} in all",
        soft_wrap=True,
    )
    if speed:
        left = [(costs[p.run.key].hours or 0) * p.fraction_left for p in experiment.needed]
        console.print(study_request.total_time(left, speed, jobs), soft_wrap=True)
    return speed is not None


def _train(console: Console, experiment: Experiment, executor: Executor) -> None:
    """Trains the needed runs, or submits them, and reports the results."""
    from ablations.launching.progress import follow

    with executor.join() as process, experiment.locked(process) as experiment:
        try:
            with contextlib.closing(experiment.run(executor)) as events:
                follow(events, len(experiment.needed), console, bars=executor.background)
        except KeyboardInterrupt as stop:
            _collect(console, experiment)
            console.print(
                f"{shell.describe(stop)}. Finished runs are kept; the same command continues from "
                "the last checkpoints.",
                style="bold",
                soft_wrap=True,
            )
            raise SystemExit(shell.exit_status(stop)) from None
        if executor.waits and (process is None or process.rank == 0):
            _conclude(console, experiment)


def _collect(console: Console, experiment: Experiment) -> bool:
    """Makes the study's table and chart; prints the error and returns False if it cannot."""
    try:
        collect_study(console, experiment.study)
    except Exception as error:  # no error here may hide the results of the runs
        kind = "" if isinstance(error, RoadmapError) else f"{type(error).__name__}: "
        console.print(f"{kind}{error}", style="bold red", soft_wrap=True)
        return False
    return True


def _conclude(console: Console, experiment: Experiment) -> None:
    """Collects the records, and names the runs that did not finish.

    Raises:
        RoadmapError: if a run failed or was stopped, or there is no table and chart.
    """
    from ablations.launching.progress import outcome
    from ablations.records import COMMAND, Status

    collected = _collect(console, experiment)
    results = experiment.results()
    for p, record in results:
        if record and record.status is not Status.FINISHED:
            line = f"{p.run.key}, seed {p.run.seed}: {outcome(record)}"
            console.print(line, style="bold red", soft_wrap=True)
    failed = sum(record is not None and record.status is Status.FAILED for _, record in results)
    if failed:
        raise RunsFailedError(
            f"{failed} of {plural(len(results), 'run')} failed; see the logs named above. The same "
            "command tries them again."
        )
    if stopped := sum(record is None for _, record in results):
        raise RunsFailedError(
            f"{stopped} of {plural(len(results), 'run')} were stopped; the same command continues "
            "them."
        )
    if not collected:
        raise RoadmapError(
            "all runs ended, but there is no new table or chart because of the error above. "
            f"`{COMMAND} collect` makes them."
        )
