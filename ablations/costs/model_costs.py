"""What the paper's models cost, beside what its tables print, and how a cell was counted.

A published figure has few digits, and the paper does not say what it counts. So a cell agrees when
one of the :data:`CONVENTIONS` gives it to its last printed digit, and the row says which. They are
few on purpose: with enough of them any cell could be met.
"""

from __future__ import annotations

import dataclasses
import decimal
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from ablations import tables
from ablations.costs.reference_costs import ProductCost, reference_cost
from ablations.costs.reference_models import REFERENCE_MODELS, find_reference
from ablations.paper import UNITS, Cell, model_cells
from modernize.cost import cost
from modernize.models import MODELS

OURS = "modernize"
"""What stands for the library of a network that this project builds."""


@dataclasses.dataclass(frozen=True)
class Convention:
    """A way to count, which a published figure may follow.

    Attributes:
        name: as tables show it.
        meaning: what it counts.
        count: counts it.
    """

    name: str
    meaning: str
    count: Callable[[ProductCost], int]


CONVENTIONS: Mapping[str, Sequence[Convention]] = {
    "params_m": (Convention("parameters", "all learned numbers", lambda c: c.params),),
    "gflops": (
        Convention(
            "conv + linear",
            "multiply-accumulates of convolutions and linear layers, which are FLOPs everywhere "
            "in this project",
            lambda c: c.flops,
        ),
        Convention(
            "+ attention",
            "the same, and those of attention's two matrix products",
            lambda c: c.flops + c.attention,
        ),
    ),
}
"""Column of a table -> the ways to count that it may follow, the plainest first."""

ROUNDED, TRUNCATED = "rounded", "truncated"
CUTS: Mapping[str, str] = {
    ROUNDED: decimal.ROUND_HALF_EVEN,
    TRUNCATED: decimal.ROUND_DOWN,
}
"""How a figure may have been cut to its digits, the usual way first."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published figure of a model; tables that print the same one are taken together.

    Attributes:
        column: ``"params_m"`` or ``"gflops"``.
        printed: the figure exactly as printed.
        tables: which print it; "1 (22K)" where Table 1 has another one for other pre-training.
        convention, cut: by which it agrees with the count; empty if by none.
        misprint: whether it is taken for a misprint.
        note: what is known of a figure that is not the count, rounded.
    """

    column: str
    printed: str
    tables: tuple[str, ...]
    convention: str
    cut: str
    misprint: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class ModelRow:
    """One model at one image size.

    Attributes:
        model: its name in the paper's tables.
        library: whose network was counted.
        image_size: height and width in pixels.
        cost: what it costs.
        figures: what the paper prints of it.
    """

    model: str
    library: str
    image_size: int
    cost: ProductCost
    figures: tuple[Figure, ...]


def model_rows() -> list[ModelRow]:
    """Returns every model and image size that the paper prints the cost of and we can build."""
    cells = model_cells()
    rows = []
    for model in dict.fromkeys([*MODELS, *(reference.model for reference in REFERENCE_MODELS)]):
        for size in sorted({c.image_size for c in cells if c.model == model}):
            own = [c for c in cells if (c.model, c.image_size) == (model, size)]
            library, counted = _count(model, size)
            rows.append(ModelRow(model, library, size, counted, _figures(own, counted)))
    return rows


def models_left_out() -> list[str]:
    """Returns the models of the paper's tables that are not built here."""
    built = {*MODELS, *(reference.model for reference in REFERENCE_MODELS)}
    return list(dict.fromkeys(c.model for c in model_cells() if c.model not in built))


def agreement(column: str, printed: str, counted: ProductCost) -> tuple[str, str] | None:
    """Returns the convention and the cut that give a figure to its last digit.

    Args:
        column: ``"params_m"`` or ``"gflops"``.
        printed: the figure as printed.
        counted: what the model costs.

    Returns:
        Their names, or None where no convention gives the figure.
    """
    for cut in CUTS:
        for convention in CONVENTIONS[column]:
            if _cut(convention.count(counted), column, _decimals(printed), cut) == Decimal(printed):
                return convention.name, cut
    return None


def _count(model: str, image_size: int) -> tuple[str, ProductCost]:
    """Returns whose network was counted, and what it costs; ours where there is one."""
    if model in MODELS:
        own = cost(MODELS[model], image_size)
        return OURS, ProductCost(own.params, own.flops, attention=0)
    reference = find_reference(model, image_size)
    return reference.library, reference_cost(reference, image_size)


def _figures(cells: Sequence[Cell], counted: ProductCost) -> tuple[Figure, ...]:
    """Returns the different figures of one model at one size, those of each column together."""
    figures: list[Figure] = []
    for column in UNITS:
        found: dict[str, list[Cell]] = {}
        for cell in cells:
            if cell.column == column:
                found.setdefault(cell.printed, []).append(cell)
        bare = [
            Figure(
                column,
                printed,
                _tables(same, cells),
                *(agreement(column, printed, counted) or ("", "")),
                misprint=any(cell.misprint for cell in same),
            )
            for printed, same in found.items()
        ]
        figures += [dataclasses.replace(f, note=_note(f, bare, counted)) for f in bare]
    return tuple(figures)


def _note(figure: Figure, figures: Sequence[Figure], counted: ProductCost) -> str:
    """Returns what there is to say of a figure, given all of the same model and column."""
    if figure.cut == ROUNDED:
        return ""
    remarks = [_distance(figure, counted), figure.cut or "no convention gives it"]
    if figure.misprint:
        remarks.append("taken for a misprint")
    for other in figures:
        if other.convention and other != figure:
            verb = "print" if len(other.tables) > 1 else "prints"
            remarks.append(f"{_named(other.tables)} {verb} {other.printed}")
    return "; ".join(remarks)


def _tables(same: Sequence[Cell], cells: Sequence[Cell]) -> tuple[str, ...]:
    """Returns the tables of cells that print one figure, and which rows of a table do not all."""
    names = []
    for cell in same:
        printed = {c.printed for c in cells if (c.table, c.column) == (cell.table, cell.column)}
        names.append(cell.table if len(printed) == 1 else f"{cell.table} ({cell.pretraining})")
    return tuple(dict.fromkeys(names))


def _distance(figure: Figure, counted: ProductCost) -> str:
    """Says how far a figure is from the count that comes nearest, with one more digit."""
    printed, digits = Decimal(figure.printed), _decimals(figure.printed) + 1
    nearest = min(
        (
            _cut(convention.count(counted), figure.column, digits, ROUNDED)
            for convention in CONVENTIONS[figure.column]
        ),
        key=lambda count: abs(printed - count),
    )
    side = "above" if printed > nearest else "below"
    return f"{abs(printed - nearest)} {side} the count, {nearest}"


def _cut(count: int, column: str, digits: int, cut: str) -> Decimal:
    """Returns a count in the unit of a column, with so many digits after the point."""
    return (Decimal(count) / UNITS[column]).quantize(Decimal(1).scaleb(-digits), CUTS[cut])


def _decimals(printed: str) -> int:
    return len(printed.partition(".")[2])


def _named(tables: Sequence[str]) -> str:
    return f"Table{'s' if len(tables) > 1 else ''} {', '.join(tables)}"


# -- for people and for programs -----------------------------------------------------------------


def as_values(rows: Iterable[ModelRow]) -> list[dict[str, str | int | bool | None]]:
    """Returns a row per published figure for CSV and JSON; counts whole."""
    return [
        {
            "model": row.model,
            "image_size": row.image_size,
            "library": row.library,
            "params": row.cost.params,
            "flops": row.cost.flops,
            "flops_attention": row.cost.attention,
            "column": figure.column,
            "printed": figure.printed,
            "tables": ", ".join(figure.tables),
            "agrees": bool(figure.convention),
            "convention": figure.convention or None,
            "cut": figure.cut or None,
            "note": figure.note or None,
        }
        for row in rows
        for figure in row.figures
    ]


COLUMNS = tables.Columns(
    numbers=("pixels", "parameters (M)", "conv + linear (G)", "+ attention (G)"),
    least=("library", "tables", "agrees by", "paper (M)", "parameters (M)", "+ attention (G)"),
    wrapped={"agrees by": 16},
)
"""How :func:`as_texts` is shown."""


def as_texts(row: ModelRow) -> dict[str, str]:
    """Returns a row for people; a star marks a figure with a note."""
    printing = dict.fromkeys(t.partition(" ")[0] for f in row.figures for t in f.tables)
    by = dict.fromkeys(f.convention for f in row.figures if f.column == "gflops" and f.convention)
    cut = [f"{f.printed} {f.cut}" for f in row.figures if f.cut == TRUNCATED]
    total = row.cost.flops + row.cost.attention
    return {
        "model": row.model,
        "pixels": str(row.image_size),
        "library": row.library,
        "parameters (M)": f"{row.cost.params / 1e6:.2f}",
        "paper (M)": _printed(row, "params_m"),
        "conv + linear (G)": f"{row.cost.flops / 1e9:.3f}",
        "+ attention (G)": f"{total / 1e9:.3f}" if row.cost.attention else "",
        "paper (G)": _printed(row, "gflops"),
        "tables": ", ".join(sorted(printing, key=int)),
        "agrees by": "; ".join([*by, *cut]),
    }


def footnotes(rows: Sequence[ModelRow]) -> list[str]:
    """Returns what the stars and the names of :func:`as_texts` mean, and what is not listed."""
    notes = [
        f"* {row.model} at {row.image_size}, {figure.printed} in {_named(figure.tables)}: "
        f"{figure.note}"
        for row in rows
        for figure in row.figures
        if figure.note
    ]
    notes += [f"{c.name}: {c.meaning}." for c in CONVENTIONS["gflops"]]
    notes.append(
        "A figure agrees if it is the count, rounded to its digits unless it says truncated."
    )
    notes.append(f"Not built here, so not listed: {', '.join(models_left_out())}.")
    return notes


def _printed(row: ModelRow, column: str) -> str:
    return ", ".join(
        figure.printed + (" *" if figure.note else "")
        for figure in row.figures
        if figure.column == column
    )
