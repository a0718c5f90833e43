"""The roadmap chart of a study, or of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations import paper
from ablations.analysis.summary import read_summary
from ablations.charts import chart
from ablations.records import Study
from modernize.steps import REGIMES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def paper_figure() -> Figure:
    """Returns the paper's Figure 2, drawn from Tables 10 and 11."""
    first, second = (name for name in REGIMES if paper.published(name) is not None)
    table = paper.published(first)
    if table is None:
        raise paper.PaperError("the published tables are gone.")
    return chart.draw(
        table,
        title="The roadmap as published: ImageNet-1K top-1",
        label=f"{REGIMES[first].start} regime",
        reference=paper.reference(first),
        second=paper.published(second),
        second_label=f"{REGIMES[second].start} regime",
        second_reference=paper.reference(second),
        notes=paper.misprints(first),
    )


def study_figure(
    study: Study,
    second: Study | None = None,
    summary: pd.DataFrame | None = None,
    accuracy: str = "",
) -> Figure:
    """Returns the chart of a measured study.

    Args:
        study: which one.
        second: another study, as grey bars.
        summary: of the study, if it has just been made.
        accuracy: names the epoch of the accuracies if it is not the last one.
    """
    return chart.draw(
        _table(study, summary),
        title=f"{study.title} as measured: {study.preset.title}",
        label=_label(study) + (f", {accuracy}" if accuracy else ""),
        second=_table(second) if second else None,
        second_label=_label(second) if second else "",
        sections=study.sections,
    )


def _label(study: Study) -> str:
    return f"{REGIMES[study.manifest['regime']].start} regime ({study.name})"


def _table(study: Study, summary: pd.DataFrame | None = None) -> pd.DataFrame:
    table = read_summary(study) if summary is None else summary
    return table.assign(gflops=table["flops"] / 1e9)
