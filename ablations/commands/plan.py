"""The command that says what a study would cost."""

from __future__ import annotations

from typing import Any

import click

from ablations import tables, terminal
from ablations.commands.study_request import (
    HOURS_HINT,
    find_speed,
    in_all,
    notes,
    resolve,
    speed_options,
    study_options,
)
from ablations.commands.typed import Once
from modernize.text import markdown, plural


@click.command(cls=Once, short_help="List a study's variants and what each costs.")
@study_options
@speed_options
@click.option(
    "--format", "style", type=click.Choice(tables.FORMATS), default="table", show_default=True
)
def plan(images_per_second: float | None, measure: bool, style: str, **asking: Any) -> None:
    """List a study's variants and what each costs; nothing is trained or written."""
    from ablations.fit import Machine, Wanted, check
    from ablations.studies import estimates
    from ablations.units import work

    asked = resolve(**asking)
    images = estimates.find_images(asked.preset.data, named=asked.names_images)
    rows, reference = estimates.plan_rows(
        asked.comparison, asked.variants, asked.preset, asked.seeds, images
    )
    rest = images.count, asked.preset.data, asked.preset.compute
    check(((row.key, Wanted(row.recipe, row.spec, *rest)) for row in rows), Machine())
    speed = find_speed(rows, reference, asked.preset, images_per_second, measure)
    if speed:
        rows = estimates.timed(rows, speed)
    if style in ("csv", "json"):
        terminal.echo(tables.for_programs([estimates.as_values(row) for row in rows], style))
        return
    title = f"{asked.comparison.title}: {asked.preset.title}, regime {asked.comparison.regime}"
    texts = estimates.as_texts(rows)
    if style == "markdown":
        terminal.echo(f"{markdown(title)}\n\n{tables.as_markdown(texts, estimates.COLUMNS)}\n")
    else:
        tables.print_table(terminal.console(), texts, estimates.COLUMNS, title)
    if images.note:
        terminal.echo(f"Note: {images.note}")
    for line in notes(rows, reference, asked.comparison):
        terminal.echo(line)
    runs, macs = sum(row.runs for row in rows), sum(row.work for row in rows)
    terminal.echo(f"{plural(len(rows), 'variant')}, {plural(runs, 'run')}, {work(macs)} in all")
    if speed:
        terminal.echo(in_all(sum((row.hours or 0) * row.runs for row in rows), speed))
    else:
        terminal.echo(HOURS_HINT)
