"""The roadmap chart of a study, or of the paper."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ablations import paper
from ablations.analysis.summary import read_summary
from ablations.charts import chart
from ablations.charts.settings import ChartSettings
from ablations.records import Study
from modernize.steps import REGIMES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def paper_figure(
    regime: str | None = None,
    steps: Collection[str] | None = None,
    settings: ChartSettings | None = None,
) -> Figure:
    """Returns the paper's Figure 2, drawn from Tables 10 and 11.

    Args:
        regime: which one; None: both.
        steps: the steps to draw; None: all.
        settings: how the chart looks.

    Raises:
        UnknownNameError: for a regime that is not in the paper, or an unknown step.
    """
    first, *others = [regime] if regime else paper.TABLES
    more: dict[str, Any] = {}
    for second in others:
        more["second"] = paper.published(second)
        more["second_label"] = f"{REGIMES[second].start} regime"
        more["second_reference"] = paper.reference(second)
    return chart.roadmap_figure(
        paper.published(first),
        title="The roadmap as published: ImageNet-1K top-1",
        label=f"{REGIMES[first].start} regime",
        reference=paper.reference(first),
        notes=paper.misprints(first),
        steps=steps,
        settings=settings,
        **more,
    )


def study_figure(
    study: Study,
    second: Study | None = None,
    summary: pd.DataFrame | None = None,
    accuracy: str = "",
    steps: Collection[str] | None = None,
    settings: ChartSettings | None = None,
) -> Figure:
    """Returns the chart of a measured study.

    Args:
        study: which one.
        second: another study, as grey bars.
        summary: of the study, if it has just been made.
        accuracy: names the epoch of the accuracies if it is not the last one.
        steps: the steps to draw; None: all.
        settings: how the chart looks.

    Raises:
        UnknownNameError: for an unknown step.
    """
    return chart.roadmap_figure(
        read_summary(study) if summary is None else summary,
        title=f"{study.title} as measured: {study.preset.title}",
        label=_label(study) + (f", {accuracy}" if accuracy else ""),
        second=read_summary(second) if second else None,
        second_label=_label(second) if second else "",
        sections=study.sections,
        steps=steps,
        settings=settings,
    )


def _label(study: Study) -> str:
    return f"{REGIMES[study.manifest['regime']].start} regime ({study.name})"
