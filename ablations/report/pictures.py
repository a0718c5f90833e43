"""The pictures of a report, each with its alternative text. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ablations.analysis.accuracies import BEST
from ablations.analysis.robustness import StudyRobustness
from ablations.charts import blocks as block_pictures
from ablations.charts import figures as chart_figures
from ablations.charts import severity_chart
from ablations.charts.canvas import render
from ablations.charts.colors import section_hues
from ablations.charts.rows import DRAWN
from ablations.charts.settings import ChartSettings
from ablations.diagrams.blocks import block_diagrams
from ablations.metrics import Metric, metrics_in
from ablations.records import Study
from ablations.report.data import Curve, ReportData
from ablations.report.figures import (
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
from ablations.units import integer, signed
from modernize.text import file_name, plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_BLOCKS = 24  # steps whose block is drawn
PHONE_WIDTH = 3.4  # inches: of the chart on a narrow screen
MOST_PANELS = 60  # steps whose learning curves are drawn

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (0, ""))


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        path: of its file in the study's folder.
        alt: the alternative text, for readers who do not see it.
        content: of the file.
        narrow: the same for a narrow screen, if it must be another picture.
    """

    path: str
    alt: str
    content: bytes
    narrow: bytes = b""

    @property
    def media_type(self) -> str:
        """The type of the content."""
        return "image/svg+xml" if self.path.endswith(".svg") else "image/webp"


def colors(study: Study, summary: pd.DataFrame, settings: ChartSettings) -> dict[str, str]:
    """Returns step -> its section's colour, as in the chart."""
    hues = section_hues(summary["section"], study.sections, settings.palette.hues)
    return dict(zip(summary["step"], summary["section"].map(hues), strict=True))


def chart(
    study: Study, summary: pd.DataFrame, epoch: str, settings: ChartSettings, *, default: bool
) -> Picture:
    """Returns the chart of all steps; of the default baseline and epoch it is ``collect``'s."""
    note = "best epoch (optimistic)" if epoch == BEST else ""

    def draw(look: ChartSettings) -> Figure:
        return chart_figures.study_figure(study, summary=summary, accuracy=note, settings=look)

    alt = (
        f"A bar of {study.metrics.headline.title} for each step, with its change and its cost; "
        "the table of results has the same numbers."
    )
    path = (
        "roadmap.svg"
        if default and epoch != BEST and settings == ChartSettings()
        else "report/chart.svg"
    )
    return _for_all_screens(path, alt, draw, settings)


def tornado(table: pd.DataFrame, metric: Metric, settings: ChartSettings) -> Picture:
    """Returns the changes of a comparison's rows, which all have the same baseline."""
    largest = max(table.to_dict("records"), key=lambda row: abs(row["change"]))
    alt = (
        f"A bar for the change of each of {plural(len(table), 'network')} from "
        f"{largest['baseline']}; the largest is {largest['step']} with "
        f"{signed(largest['change'])} percentage points."
    )
    svg = render(tornado_figure(table, settings, metric), "svg", settings)
    return Picture("report/tornado.svg", alt, svg)


def blocks(study: Study, settings: ChartSettings) -> Picture | None:
    """Returns the blocks of the steps that change them, each once; None if all are the same."""
    by_key = {v.key: v for v in study.variants}
    diagrams = block_diagrams(
        [(v, by_key.get(v.parent or "")) for v in study.variants],
        study.preset.data.image_size,
        count=lambda variant, _: study.cost_of(variant),
    )
    distinct = {diagram.layers: diagram for diagram in reversed(diagrams) if diagram.changed}
    if len(distinct) < 2:
        return None
    shown = [*reversed(distinct.values())][:MOST_BLOCKS]
    steps = ", ".join(diagram.key for diagram in shown)
    title = f"The {shown[0].place}"
    alt = f"{title} in {steps}, with the layers that differ from the parent's marked."

    def draw(look: ChartSettings) -> Figure:
        return block_pictures.draw(shown, title, look)

    return _for_all_screens("report/blocks.svg", alt, draw, settings)


def _for_all_screens(
    path: str, alt: str, draw: Callable[[ChartSettings], Figure], settings: ChartSettings
) -> Picture:
    """Returns a picture that is drawn twice, for wide and for narrow screens.

    It is drawn once if the settings have a width.
    """
    svg, narrow = render(draw(settings), "svg", settings), b""
    if not settings.width:
        narrow = render(draw(dataclasses.replace(settings, width=PHONE_WIDTH)), "svg", settings)
    return Picture(path, alt, svg, narrow)


def curves(
    study: Study,
    data: ReportData,
    colors: Mapping[str, str],
    baselines: Mapping[str, str],
    settings: ChartSettings,
) -> list[Picture]:
    """Returns the learning curves, a picture for each step that has any.

    The picture also shows the curve of the step's baseline.
    """
    shown = [v for v in study.variants if data.curves[v.key]][:MOST_PANELS]
    if not shown:
        return []
    metric = study.metrics.headline
    limits = curves_limits([curve for v in shown for curve in data.curves[v.key]])
    lines = title_lines([v.title for v in shown], settings)
    pictures = []
    for v in shown:
        curves, baseline = data.curves[v.key], data.curves.get(baselines[v.key], ())
        figure = curves_figure(
            v.title, curves, baseline, limits, colors[v.key], settings, lines, metric
        )
        alt = f"Learning curve, {v.title}: {_curve_alt(curves, metric)}."
        path = f"report/curve-{file_name(v.key)}.svg"
        pictures.append(Picture(path, alt, render(figure, "svg", settings)))
    return pictures


def _curve_alt(curves: Sequence[Curve], metric: Metric) -> str:
    epochs, mean, _ = mean_curve(curves)
    if not len(epochs):
        return f"no finished run, {len(curves)} unfinished"
    n = sum(curve.finished for curve in curves)
    return (
        f"{metric.name(mean[0])} after epoch {integer(epochs[0])}, {metric.show(mean[-1])} after "
        f"epoch {integer(epochs[-1])}, " + (f"mean of {n} runs" if n > 1 else "one run")
    )


def curves_note(data: ReportData, baselines: Mapping[str, str], metric: Metric) -> str:
    """Returns how the learning curves are drawn."""
    finished = [sum(c.finished for c in curves) for curves in data.curves.values()]
    notes = [
        f"Top: {metric.in_unit} after each epoch. Bottom: training loss. All steps have "
        "the same axes."
    ]
    if max(finished) > 1:
        notes.append("Thick line: mean of the finished runs.")
    if any(1 < n <= THIN_LINES for n in finished):
        notes.append("Thin lines: each finished run.")
    if max(finished) > THIN_LINES:
        notes.append("Band: one standard deviation to either side.")
    if any(baseline in data.curves for baseline in baselines.values()):
        notes.append("Grey: the mean of the baseline.")
    if any(not c.finished for curves in data.curves.values() for c in curves):
        notes.append(f"Dashed: up to {MOST_UNFINISHED} runs that did not finish.")
    if (drawn := sum(bool(curves) for curves in data.curves.values())) > MOST_PANELS:
        notes.append(f"Only the first {MOST_PANELS} of {drawn} steps are shown.")
    return " ".join(notes)


def severities(found: StudyRobustness, settings: ChartSettings) -> Picture:
    """Returns the chart of accuracy by severity."""
    alt = "Mean accuracy of each step without corruption and at each severity, a row for each step."

    def draw(look: ChartSettings) -> Figure:
        return severity_chart.study_figure(found, look)

    return _for_all_screens("report/severities.svg", alt, draw, settings)


def costs(
    summary: pd.DataFrame, colors: Mapping[str, str], settings: ChartSettings
) -> tuple[list[Picture], str]:
    """Returns accuracy against FLOPs and parameters, and the steps on their Pareto fronts."""
    metric = metrics_in(summary.columns).headline
    known = summary[summary["status"].isin(DRAWN) & summary[metric.key].notna()]
    known = known.assign(color=known["step"].map(colors))
    if len(known) < 2:
        return [], ""
    pictures, fronts = [], []
    for column, name in (("flops", "FLOPs"), ("params", "parameters")):
        unit, prefix = next((u, p) for u, p in _PREFIXES if known[column].max() >= u)
        table = known.assign(cost=known[column] / unit)
        front = pareto_front(list(table["cost"]), list(table[metric.key]))
        keys = ", ".join(table[front].sort_values("cost", kind="stable")["step"])
        axis = f"{prefix}FLOPs (one image)" if column == "flops" else f"parameters ({prefix})"
        alt = f"{metric.header} against {name}, a point per step; on the Pareto front: {keys}."
        svg = render(cost_figure(table, axis, settings), "svg", settings)
        pictures.append(Picture(f"report/{column}.svg", alt, svg))
        fronts.append(f"by {name}: {keys}")
    return pictures, "; ".join(fronts)
