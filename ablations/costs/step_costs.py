"""The cost of each step, beside the published one. Imports no torch if all counts are cached."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ablations import tables
from ablations.paper import printed_flops
from ablations.units import Unit, choose_unit, fixed, integer
from modernize.cost import breakdown, cost, parts
from modernize.steps import STEPS, Regime, Variant, apply_steps, find_regime
from modernize.text import plural

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class CostRow:
    """One step's cost.

    Attributes:
        step, label: its key and title.
        params: learned numbers.
        flops: MACs of convolutions and linear layers for one image.
        flops_total: fvcore's default total.
        paper_gflops: the published figure as printed; None if there is none for this image size.
        agrees: whether the count, rounded to the printed digits, is the published figure; None
            without one.
        parent: the step that it builds on; None if that is not counted.
        change: the difference of FLOPs from the parent's; None without one.
        note: why the published figure is probably a misprint; None if it is not.
        regime: its name.
        image_size, channels, classes: of the images that it is counted for.
    """

    step: str
    label: str
    params: int
    flops: int
    flops_total: int
    paper_gflops: str | None
    agrees: bool | None
    parent: str | None
    change: int | None
    note: str | None
    regime: str
    image_size: int
    channels: int
    classes: int


def cost_rows(variants: Sequence[Variant], regime: Regime, image_size: int) -> list[CostRow]:
    """Returns the cost of each variant at this image size in pixels."""
    comparable = image_size == regime.image_size
    published = printed_flops(regime.name) if comparable else {}
    road = {step.key: step.spec.without_training() for step in apply_steps(STEPS, regime)}
    counted = {v.key: cost(v.spec, image_size) for v in variants}
    rows = []
    for v in variants:
        own, parent = counted[v.key], counted.get(v.parent or "")
        in_paper = road.get(v.key) == v.spec.without_training()  # or a variant has this key
        figure = published.get(v.key) if in_paper else None
        printed = figure.printed if figure else None
        digits = len(printed.partition(".")[2]) if printed else 0
        rows.append(
            CostRow(
                step=v.key,
                label=v.title,
                params=own.params,
                flops=own.flops,
                flops_total=own.flops_total,
                paper_gflops=printed,
                agrees=fixed(own.flops / 1e9, digits) == printed if printed else None,
                parent=v.parent if parent else None,
                change=own.flops - parent.flops if parent else None,
                note=(figure.misprint or None) if figure else None,
                regime=regime.name,
                image_size=image_size,
                channels=v.spec.in_channels,
                classes=v.spec.num_classes,
            )
        )
    return rows


def flops_table(regime: str = "resnet50", image_size: int | None = None) -> pd.DataFrame:
    """Returns the cost of every step of the roadmap, a row for each, with the published FLOPs.

    Columns: as the attributes of :class:`CostRow`; ``flops`` are MACs of one image.

    Args:
        regime: its name.
        image_size: height and width in pixels; None: the regime's.

    Raises:
        UnknownNameError: for an unknown regime.
    """
    import pandas as pd

    found = find_regime(regime)
    rows = cost_rows(apply_steps(STEPS, found), found, image_size or found.image_size)
    return pd.DataFrame([dataclasses.asdict(row) for row in rows])


def step_breakdown(variant: Variant, regime: Regime, image_size: int) -> str:
    """Returns fvcore's own tables of one step, by operator and by module."""
    spec = variant.spec
    return (
        f"{variant.title} ({variant.key}), regime {regime.name}, at {image_size} x {image_size}, "
        f"{plural(spec.in_channels, 'channel')}, {plural(spec.num_classes, 'class')}\n\n"
        f"{breakdown(spec, image_size)}"
    )


def step_parts(variant: Variant, regime: Regime, image_size: int) -> list[dict[str, Any]]:
    """Returns the numbers of :func:`step_breakdown`, one row for each operator and module."""
    return [
        {
            "step": variant.key,
            **dataclasses.asdict(part),
            "regime": regime.name,
            "image_size": image_size,
            "channels": variant.spec.in_channels,
            "classes": variant.spec.num_classes,
        }
        for part in parts(variant.spec, image_size)
    ]


COLUMNS = tables.Columns(
    numbers=("parameters", "GFLOPs", "MFLOPs", "with norms", "change", "paper"),
    optional=("with norms", "label", "parameters", "change", "agrees"),
    wrapped={"label": 16},
)
"""How :func:`as_texts` is shown."""


def title(rows: Sequence[CostRow], networks: str) -> str:
    """Returns a title with the images that the rows, one or more, were counted for."""
    size, images = rows[0].image_size, plural(rows[0].channels, "channel")
    return f"{networks} at {size} x {size}, {images}, {plural(rows[0].classes, 'class')}"


def as_texts(rows: Sequence[CostRow]) -> list[dict[str, str]]:
    """Returns rows for people; a star marks a published figure that is probably a misprint."""
    unit = choose_unit(row.flops for row in rows)
    return tables.without_empty([_as_text(row, unit) for row in rows], "paper", "agrees")


def _as_text(row: CostRow, unit: Unit) -> dict[str, str]:
    agrees = {True: "yes", False: "no", None: ""}[row.agrees]
    return {
        "step": row.step,
        "label": row.label,
        "parameters": integer(row.params),
        unit.name: unit.show(row.flops),
        "with norms": unit.show(row.flops_total),
        "change": "" if row.change is None else unit.show(row.change, "+"),
        "paper": row.paper_gflops or "",
        "agrees": agrees + (" *" if row.note else ""),
    }


def footnotes(rows: Sequence[CostRow]) -> list[str]:
    """Returns which step each change is from, and the meaning of the stars of :func:`as_texts`."""
    note = tables.change_note({row.step: row.parent or "" for row in rows})
    return [*filter(None, [note]), *(f"* {row.step}: {row.note}" for row in rows if row.note)]


def as_markdown(rows: Sequence[CostRow]) -> str:
    """Returns the rows as a Markdown table, with the meaning of its stars below."""
    return report(rows).as_text("markdown")


def report(rows: Sequence[CostRow], title: str = "") -> tables.Report:
    """Returns the rows for programs and for people."""
    values = [dataclasses.asdict(row) for row in rows]
    return tables.Report(values, as_texts(rows), COLUMNS, title, footnotes(rows))
