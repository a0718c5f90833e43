"""The command that says what a study would cost."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from ablations import tables
from ablations.commands.asking import (
    HOURS_HINT,
    asking_options,
    find_speed,
    in_all,
    notes,
    resolve,
    speed_options,
)


@click.command(short_help="List a study's variants and what each costs.")
@asking_options
@speed_options
@click.option(
    "--format", "style", type=click.Choice(tables.FORMATS), default="table", show_default=True
)
def plan(images_per_second: float | None, measure: bool, style: str, **asking: Any) -> None:
    """List a study's variants and what each costs; nothing is trained or written."""
    from ablations.studies import counting

    asked = resolve(**asking)
    images = counting.find_images(asked.preset.data)
    rows, reference = counting.plan_rows(
        asked.comparison, asked.variants, asked.preset, asked.seeds, images
    )
    speed = find_speed(rows, reference, asked.preset, asked.comparison, images_per_second, measure)
    if speed:
        rows = counting.timed(rows, speed)
    if style in ("csv", "json"):
        render = tables.as_csv if style == "csv" else tables.as_json
        click.echo(render([counting.as_values(row) for row in rows]))
        return
    title = f"{asked.comparison.title}: {asked.preset.title}, regime {asked.comparison.regime}"
    texts = counting.as_texts(rows)
    if style == "markdown":
        click.echo(f"{title}\n\n{tables.as_markdown(texts, counting.NUMBERS)}\n")
    else:
        tables.print_table(Console(highlight=False), texts, counting.NUMBERS, title)
    if images.note:
        click.echo(f"Note: {images.note}")
    for line in notes(rows, reference, asked.comparison):
        click.echo(line)
    runs, work = sum(row.runs for row in rows), sum(row.work for row in rows)
    click.echo(
        f"{len(rows)} variants, {runs} runs, {work / 1e12:,.1f} tera-multiply-accumulates in all"
    )
    if speed:
        click.echo(in_all(sum((row.hours or 0) * row.runs for row in rows), speed))
    else:
        click.echo(HOURS_HINT)
