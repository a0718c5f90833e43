"""The command that estimates the cost of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ablations import limits, tables, terminal
from ablations.commands.options import results_folder, results_option
from ablations.commands.parameters import IntegerType, StrictCommand
from ablations.commands.study_request import (
    HOURS_HINT,
    SpeedRequest,
    build_request,
    cost_notes,
    find_speed,
    speed_options,
    study_options,
    total_time,
)
from modernize.text import plural


@click.command(cls=StrictCommand, short_help="List a study's variants and their costs.")
@study_options
@speed_options
@click.option(
    "--format", "style", type=click.Choice(tables.FORMATS), default="table", show_default=True
)
@click.option(
    "--jobs",
    type=IntegerType(1, limits.PROCESSES),
    default=1,
    metavar="N",
    help="Runs at a time, each on one device: the plan also states how long they take together.",
)
@results_option
def plan(
    benchmark: Path | None,
    images_per_second: float | None,
    measure: bool,
    jobs: int,
    style: str,
    results: Path | None,
    **options: Any,
) -> None:
    """List a study's variants and their costs; nothing is trained or written."""
    from ablations.fit import Machine, RunSetup, check
    from ablations.studies import estimates
    from ablations.studies.selection import fit_to_images
    from ablations.tasks.registry import make_task
    from ablations.units import work
    from ablations.weights.starts import find_starts

    request = build_request(**options)
    images = estimates.find_images(
        request.preset.data, request.preset.task_choice, named=request.data_given
    )
    rows, reference = estimates.plan_rows(
        request.resolved, request.variants, request.preset, request.seeds, images
    )
    folder = results_folder(results)
    fitting = fit_to_images(request.variants, images.channels, images.classes)
    find_starts(fitting, request.seeds, folder)
    task = make_task(request.preset.task_choice)
    rest = images.count, request.preset.data, request.preset.compute, task
    check(((row.key, RunSetup(row.recipe, row.spec, *rest)) for row in rows), Machine())
    asked = SpeedRequest(benchmark, images_per_second, measure, folder)
    speed = find_speed(rows, reference, request.preset, asked)
    if speed:
        rows = estimates.timed(rows, speed)
    runs, macs = sum(row.runs for row in rows), sum(row.work for row in rows)
    hours = [row.hours or 0 for row in rows for _ in range(row.runs)]
    tables.Report(
        [estimates.as_values(row) for row in rows],
        estimates.as_texts(rows),
        estimates.columns(request.variants),
        f"{request.resolved.title}: {request.preset.title}, regime {request.resolved.regime}",
        [
            *([f"Note: {images.note}"] if images.note else []),
            *cost_notes(rows, reference, request.resolved),
            f"{plural(len(rows), 'variant')}, {plural(runs, 'run')}, {work(macs)} in total",
            total_time(hours, speed, jobs) if speed else HOURS_HINT,
        ],
    ).show(terminal.console(), style)
