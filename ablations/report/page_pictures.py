"""The pictures of a report, each with the words that stand in for it. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ablations.analysis.samples import BEST, Samples
from ablations.charts import figures
from ablations.charts.canvas import render
from ablations.charts.colors import section_hues
from ablations.charts.rows import DRAWN
from ablations.records import Study
from ablations.report.data import Curve, ReportData
from ablations.report.page_figures import (
    MOST_UNFINISHED,
    THIN_LINES,
    cost_figure,
    curves_figure,
    curves_limits,
    mean_curve,
    pareto_front,
    title_lines,
    tornado_figure,
)
from modernize.text import file_name, plural

if TYPE_CHECKING:
    import pandas as pd

MOST_PANELS = 60  # steps whose learning curves are drawn


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        name: of its file, without suffix.
        alt: what is to be seen, for those who do not see it.
        svg: the file.
    """

    name: str
    alt: str
    svg: bytes


def colors(study: Study, summary: pd.DataFrame) -> dict[str, str]:
    """Returns step -> its section's colour, as the chart has it."""
    hues = section_hues(summary["section"], study.sections)
    return dict(zip(summary["step"], summary["section"].map(hues), strict=True))


def chart(study: Study, summary: pd.DataFrame, found: Samples) -> Picture:
    """Returns the chart of all steps."""
    note = "best epoch (optimistic)" if found.accuracy == BEST else ""
    figure = figures.study_figure(study, summary=summary, accuracy=note)
    alt = (
        "A bar of top-1 accuracy for each step, with its change and its cost; the table of "
        "results has the same numbers."
    )
    return Picture("chart", alt, render(figure, "svg"))


def tornado(table: pd.DataFrame) -> Picture:
    """Returns the differences of a comparison's rows, which all have one baseline."""
    largest = max(table.to_dict("records"), key=lambda row: abs(row["change"]))
    alt = (
        f"Bars of the differences of {plural(len(table), 'network')} from {largest['against']}; "
        f"the largest is {largest['step']} with {largest['change']:+.2f} percentage points."
    )
    return Picture("tornado", alt, render(tornado_figure(table), "svg"))


def curves(
    study: Study, evidence: ReportData, colors: Mapping[str, str], bases: Mapping[str, str]
) -> list[Picture]:
    """Returns the learning curves, a picture for each step that has any.

    ``bases`` says what each step is compared with, whose curve is drawn with its own.
    """
    shown = [v for v in study.variants if evidence.curves[v.key]][:MOST_PANELS]
    if not shown:
        return []
    limits = curves_limits([curve for v in shown for curve in evidence.curves[v.key]])
    lines = title_lines([v.title for v in shown])
    pictures = []
    for v in shown:
        curves, before = evidence.curves[v.key], evidence.curves.get(bases[v.key], ())
        figure = curves_figure(v.title, curves, before, limits, colors[v.key], lines)
        alt = f"Learning curve of {v.title}: {_curve_words(curves)}."
        pictures.append(Picture(f"curve-{file_name(v.key)}", alt, render(figure, "svg")))
    return pictures


def _curve_words(curves: Sequence[Curve]) -> str:
    epochs, mean, _ = mean_curve(curves)
    if not len(epochs):
        return f"no finished run, {len(curves)} unfinished"
    n = sum(curve.finished for curve in curves)
    return (
        f"top-1 {mean[0]:.2f} % after epoch {epochs[0]:.0f}, {mean[-1]:.2f} % after epoch "
        f"{epochs[-1]:.0f}, " + (f"mean of {n} runs" if n > 1 else "one run")
    )


def curves_note(evidence: ReportData, bases: Mapping[str, str]) -> str:
    """Returns how the learning curves are drawn."""
    finished = [sum(c.finished for c in curves) for curves in evidence.curves.values()]
    notes = [
        "Above, top-1 accuracy in percent after each epoch; below, the training loss. The axes are "
        "the same for all steps."
    ]
    if max(finished) > 1:
        notes.append("Thick: mean of the runs that finished.")
    if any(1 < n <= THIN_LINES for n in finished):
        notes.append("Thin: each of them.")
    if max(finished) > THIN_LINES:
        notes.append("Band: one deviation to either side.")
    if any(base in evidence.curves for base in bases.values()):
        notes.append("Grey: the mean of the step that it is compared with.")
    if any(not c.finished for curves in evidence.curves.values() for c in curves):
        notes.append(f"Dashed: runs that did not finish, {MOST_UNFINISHED} at most.")
    if (drawn := sum(bool(curves) for curves in evidence.curves.values())) > MOST_PANELS:
        notes.append(f"The first {MOST_PANELS} of {drawn} steps are shown.")
    return " ".join(notes)


def costs(summary: pd.DataFrame, colors: Mapping[str, str]) -> tuple[list[Picture], str]:
    """Returns accuracy against FLOPs and parameters, and the steps on their Pareto fronts."""
    known = summary[summary["status"].isin(DRAWN) & summary["top1"].notna()]
    known = known.assign(color=known["step"].map(colors))
    if len(known) < 2:
        return [], ""
    pictures, fronts = [], []
    for column, name in (("flops", "FLOPs"), ("params", "parameters")):
        unit, letter = next((u, s) for u, s in _UNITS if known[column].max() >= u)
        table = known.assign(cost=known[column] / unit)
        front = pareto_front(list(table["cost"]), list(table["top1"]))
        keys = ", ".join(table[front].sort_values("cost", kind="stable")["step"])
        axis = f"{letter}FLOPs (one image)" if column == "flops" else f"parameters ({letter})"
        alt = f"Top-1 accuracy against {name}, a point a step; on the Pareto front: {keys}."
        pictures.append(Picture(column, alt, render(cost_figure(table, axis), "svg")))
        fronts.append(f"by {name}: {keys}")
    return pictures, "; ".join(fronts)


_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (0, ""))
