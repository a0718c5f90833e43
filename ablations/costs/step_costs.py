"""What each step costs, beside what the paper printed. No torch where all is counted already."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ablations import tables
from ablations.paper import misprints, printed_gflops
from modernize.cost import breakdown, cost
from modernize.steps import Regime, Variant, until
from modernize.text import markdown


@dataclasses.dataclass(frozen=True)
class CostRow:
    """One step's cost.

    Attributes:
        step, label: its key and title.
        params: learned numbers.
        flops: multiply-accumulates of convolutions and linear layers for one image.
        flops_total: fvcore's default total.
        paper_gflops: the paper's cell as printed, where it has one for this image size.
        agrees: whether the count, rounded as printed, is the paper's; None without a cell.
        change: flops less those of the step it builds on; None for the first.
        note: why a cell that does not agree is taken for a misprint.
        regime: its name.
    """

    step: str
    label: str
    params: int
    flops: int
    flops_total: int
    paper_gflops: str
    agrees: bool | None
    change: int | None
    note: str
    regime: str


def cost_rows(variants: Sequence[Variant], regime: Regime, image_size: int) -> list[CostRow]:
    """Returns the cost of each variant at this image size in pixels."""
    comparable = image_size == regime.image_size
    printed = printed_gflops(regime.name) if comparable else {}
    notes = misprints(regime.name) if comparable else {}
    counted = {v.key: cost(v.spec, image_size) for v in variants}
    rows = []
    for v in variants:
        own, parent = counted[v.key], counted.get(v.parent or "")
        cell = printed.get(v.key, "")
        digits = len(cell.partition(".")[2])
        rows.append(
            CostRow(
                step=v.key,
                label=v.title,
                params=own.params,
                flops=own.flops,
                flops_total=own.flops_total,
                paper_gflops=cell,
                agrees=f"{own.flops / 1e9:.{digits}f}" == cell if cell else None,
                change=own.flops - parent.flops if parent else None,
                note=notes.get(v.key, ""),
                regime=regime.name,
            )
        )
    return rows


def step_breakdown(step: str, regime: Regime, image_size: int) -> str:
    """Returns fvcore's own tables of one step, by operator and by module."""
    variant = until(step, regime.name)[-1]
    return f"{variant.title} ({variant.key}), regime {regime.name}\n\n" + breakdown(
        variant.spec, image_size
    )


def as_values(row: CostRow) -> dict[str, str | int | bool | None]:
    """Returns a row for CSV and JSON; numbers whole."""
    return {
        "step": row.step,
        "label": row.label,
        "params": row.params,
        "flops": row.flops,
        "flops_total": row.flops_total,
        "paper_gflops": row.paper_gflops or None,
        "agrees": row.agrees,
        "change": row.change,
        "note": row.note or None,
        "regime": row.regime,
    }


COLUMNS = tables.Columns(
    numbers=("parameters", "FLOPs (G)", "with norms (G)", "change (G)", "paper (G)"),
    least=("with norms (G)", "label", "parameters", "change (G)", "agrees"),
    wrapped={"label": 16},
)
"""How :func:`as_texts` is shown."""


def as_texts(row: CostRow) -> dict[str, str]:
    """Returns a row for people; a star marks a cell of the paper taken for a misprint."""
    agrees = {True: "yes", False: "no", None: ""}[row.agrees]
    digits = 2 if row.flops >= 1e9 else 4
    return {
        "step": row.step,
        "label": row.label,
        "parameters": f"{row.params:,}",
        "FLOPs (G)": f"{row.flops / 1e9:.{digits}f}",
        "with norms (G)": f"{row.flops_total / 1e9:.{digits}f}",
        "change (G)": "" if row.change is None else f"{row.change / 1e9:+.{digits}f}",
        "paper (G)": row.paper_gflops,
        "agrees": agrees + (" *" if row.note else ""),
    }


def footnotes(rows: Sequence[CostRow]) -> list[str]:
    """Returns what the stars of :func:`as_texts` mean."""
    return [f"* {row.step}: {row.note}" for row in rows if row.note]


def as_markdown(rows: Sequence[CostRow]) -> str:
    """Returns the rows as a Markdown table, with what its stars mean beneath."""
    notes = [f"- {markdown(note)}" for note in footnotes(rows)]
    table = tables.as_markdown([as_texts(row) for row in rows], COLUMNS)
    return "\n".join([table, "", *notes] if notes else [table])
