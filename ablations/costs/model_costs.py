"""The cost of the paper's models, beside its published figures, and how each of those was counted.

A published figure has few digits, and the paper does not say what it counts. So a figure agrees if
one of the :data:`CONVENTIONS` gives it to its last printed digit, and the row says which one. There
are few conventions on purpose: with enough of them, any figure would agree.
"""

from __future__ import annotations

import dataclasses
import decimal
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from ablations import tables
from ablations.costs.reference_costs import ProductCost, reference_cost
from ablations.costs.reference_models import REFERENCE_MODELS, find_reference
from ablations.paper import PrintedValue, printed_costs
from ablations.units import fixed, millions
from modernize.cost import cost
from modernize.models import MODELS

OURS = "modernize"
"""The library of the networks that this project builds."""

UNITS: Mapping[str, int] = {"params": 10**6, "flops": 10**9}
"""Metric -> the unit of its published figures."""


@dataclasses.dataclass(frozen=True)
class Convention:
    """A way to count that a published figure may follow.

    Attributes:
        name: as tables show it.
        meaning: what is counted.
        count: returns the count.
    """

    name: str
    meaning: str
    count: Callable[[ProductCost], int]


CONVENTIONS: Mapping[str, Sequence[Convention]] = {
    "params": (Convention("parameters", "all learned numbers", lambda c: c.params),),
    "flops": (
        Convention(
            "conv + linear",
            "MACs of convolutions and linear layers, which this project calls FLOPs everywhere",
            lambda c: c.flops,
        ),
        Convention(
            "+ attention",
            "the same, and the MACs of attention's two matrix products",
            lambda c: c.flops + c.attention,
        ),
    ),
}
"""Metric -> the conventions that a figure may follow, the simplest one first."""

ROUNDED, TRUNCATED = "rounded", "truncated"
ROUNDINGS: Mapping[str, str] = {ROUNDED: decimal.ROUND_HALF_EVEN, TRUNCATED: decimal.ROUND_DOWN}
"""How a figure may have been shortened to its digits, the usual way first."""


@dataclasses.dataclass(frozen=True)
class PublishedCost:
    """One published figure of a model; tables that print the same figure share one.

    Attributes:
        metric: ``"params"`` or ``"flops"``.
        printed: the figure exactly as printed.
        tables: the tables that print it; "1 (22K)" if Table 1 has another figure for other
            pre-training.
        convention, rounding: those by which it agrees with the count; empty if none does.
        misprint: whether it is probably a misprint.
        note: the explanation of a figure that is not the rounded count.
    """

    metric: str
    printed: str
    tables: tuple[str, ...]
    convention: str
    rounding: str
    misprint: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class ModelRow:
    """One model at one image size.

    Attributes:
        model: its name in the paper's tables.
        library: the library of the counted network.
        image_size: height and width in pixels.
        cost: the count.
        figures: the published ones.
    """

    model: str
    library: str
    image_size: int
    cost: ProductCost
    figures: tuple[PublishedCost, ...]


def model_rows() -> list[ModelRow]:
    """Returns every model and image size with published costs that can be built here."""
    values = printed_costs()
    rows = []
    for model in dict.fromkeys([*MODELS, *(reference.model for reference in REFERENCE_MODELS)]):
        for size in sorted({int(v.image_size) for v in values if v.model == model}):
            published = [v for v in values if (v.model, v.image_size) == (model, str(size))]
            library, counted = _count(model, size)
            rows.append(ModelRow(model, library, size, counted, _figures(published, counted)))
    return rows


def models_left_out() -> list[str]:
    """Returns the models of the paper's tables that cannot be built here."""
    built = {*MODELS, *(reference.model for reference in REFERENCE_MODELS)}
    return list(dict.fromkeys(v.model for v in printed_costs() if v.model not in built))


def agreement(metric: str, printed: str, counted: ProductCost) -> tuple[str, str] | None:
    """Returns the convention and the rounding that give a figure to its last digit.

    Args:
        metric: ``"params"`` or ``"flops"``.
        printed: the figure as printed.
        counted: the cost of the model.

    Returns:
        Their names, or None if no convention gives the figure.
    """
    for rounding in ROUNDINGS:
        for convention in CONVENTIONS[metric]:
            count = _in_unit(convention.count(counted), metric, _decimals(printed), rounding)
            if count == Decimal(printed):
                return convention.name, rounding
    return None


def _count(model: str, image_size: int) -> tuple[str, ProductCost]:
    """Returns the library of a network and its cost; this project's network if there is one."""
    if model in MODELS:
        counted = cost(MODELS[model], image_size)
        return OURS, ProductCost(counted.params, counted.flops, attention=0)
    reference = find_reference(model, image_size)
    return reference.library, reference_cost(reference, image_size)


def _figures(values: Sequence[PrintedValue], counted: ProductCost) -> tuple[PublishedCost, ...]:
    """Returns the different figures of one model at one size, one metric after the other."""
    figures: list[PublishedCost] = []
    for metric in CONVENTIONS:
        found: dict[str, list[PrintedValue]] = {}
        for value in values:
            if value.metric == metric:
                found.setdefault(value.printed, []).append(value)
        plain = [
            PublishedCost(
                metric,
                printed,
                _tables(same, values),
                *(agreement(metric, printed, counted) or ("", "")),
                misprint=any(value.misprint for value in same),
            )
            for printed, same in found.items()
        ]
        figures += [dataclasses.replace(f, note=_note(f, plain, counted)) for f in plain]
    return tuple(figures)


def _note(figure: PublishedCost, figures: Sequence[PublishedCost], counted: ProductCost) -> str:
    """Returns the explanation of a figure, given all figures of the same model and metric."""
    if figure.rounding == ROUNDED:
        return ""
    remarks = [_difference(figure, counted), figure.rounding or "no convention gives it"]
    if figure.misprint:
        remarks.append("probably a misprint")
    for other in figures:
        if other.convention and other != figure:
            verb = "print" if len(other.tables) > 1 else "prints"
            remarks.append(f"{_named(other.tables)} {verb} {other.printed}")
    return "; ".join(remarks)


def _tables(same: Sequence[PrintedValue], values: Sequence[PrintedValue]) -> tuple[str, ...]:
    """Returns the tables that print one figure, with the pre-training if a table has several."""
    names = []
    for value in same:
        printed = {v.printed for v in values if (v.table, v.metric) == (value.table, value.metric)}
        names.append(value.table if len(printed) == 1 else f"{value.table} ({value.pretraining})")
    return tuple(dict.fromkeys(names))


def _difference(figure: PublishedCost, counted: ProductCost) -> str:
    """Returns the difference from the nearest count, with one more digit, as text."""
    printed, digits = Decimal(figure.printed), _decimals(figure.printed) + 1
    nearest = min(
        (
            _in_unit(convention.count(counted), figure.metric, digits, ROUNDED)
            for convention in CONVENTIONS[figure.metric]
        ),
        key=lambda count: abs(printed - count),
    )
    side = "above" if printed > nearest else "below"
    return f"{abs(printed - nearest)} {side} the count, {nearest}"


def _in_unit(count: int, metric: str, digits: int, rounding: str) -> Decimal:
    """Returns a count in its metric's unit, with this number of digits after the point."""
    return (Decimal(count) / UNITS[metric]).quantize(
        Decimal(1).scaleb(-digits), ROUNDINGS[rounding]
    )


def _decimals(printed: str) -> int:
    return len(printed.partition(".")[2])


def _named(tables: Sequence[str]) -> str:
    return f"Table{'s' if len(tables) > 1 else ''} {', '.join(tables)}"


# -- for people and for programs -----------------------------------------------------------------


def as_values(rows: Iterable[ModelRow]) -> list[dict[str, str | int | bool | None]]:
    """Returns a row for each published figure, for CSV and JSON; counts are exact."""
    return [
        {
            "model": row.model,
            "image_size": row.image_size,
            "library": row.library,
            "params": row.cost.params,
            "flops": row.cost.flops,
            "flops_attention": row.cost.attention,
            "metric": figure.metric,
            "printed": figure.printed,
            "tables": ", ".join(figure.tables),
            "agrees": bool(figure.convention),
            "convention": figure.convention or None,
            "rounding": figure.rounding or None,
            "note": figure.note or None,
        }
        for row in rows
        for figure in row.figures
    ]


COLUMNS = tables.Columns(
    numbers=("pixels", "parameters (M)", "conv + linear (G)", "+ attention (G)"),
    optional=("library", "tables", "agrees by", "paper (M)", "parameters (M)", "+ attention (G)"),
    wrapped={"agrees by": 16},
)
"""How :func:`as_texts` is shown."""


def as_texts(row: ModelRow) -> dict[str, str]:
    """Returns a row for people; a star marks a figure with a note."""
    printing = dict.fromkeys(t.partition(" ")[0] for f in row.figures for t in f.tables)
    by = dict.fromkeys(f.convention for f in row.figures if f.metric == "flops" and f.convention)
    truncated = [f"{f.printed} {f.rounding}" for f in row.figures if f.rounding == TRUNCATED]
    total = row.cost.flops + row.cost.attention
    return {
        "model": row.model,
        "pixels": str(row.image_size),
        "library": row.library,
        "parameters (M)": millions(row.cost.params),
        "paper (M)": _printed(row, "params"),
        "conv + linear (G)": fixed(row.cost.flops / 1e9, 3),
        "+ attention (G)": fixed(total / 1e9, 3) if row.cost.attention else "",
        "paper (G)": _printed(row, "flops"),
        "tables": ", ".join(sorted(printing, key=int)),
        "agrees by": "; ".join([*by, *truncated]),
    }


def footnotes(rows: Sequence[ModelRow]) -> list[str]:
    """Returns the meaning of the stars and names of :func:`as_texts`, and the models not listed."""
    notes = [
        f"* {row.model} at {row.image_size}, {figure.printed} in {_named(figure.tables)}: "
        f"{figure.note}"
        for row in rows
        for figure in row.figures
        if figure.note
    ]
    notes += [f"{c.name}: {c.meaning}." for c in CONVENTIONS["flops"]]
    notes.append(
        "A figure agrees if it is the count, rounded to the printed digits (or truncated, if the "
        "table says so)."
    )
    notes.append(f"Not listed, because they cannot be built here: {', '.join(models_left_out())}.")
    return notes


def _printed(row: ModelRow, metric: str) -> str:
    return ", ".join(
        figure.printed + (" *" if figure.note else "")
        for figure in row.figures
        if figure.metric == metric
    )
