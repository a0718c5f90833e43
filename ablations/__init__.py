"""How the steps are compared: recipes, data, runs, records, tables and charts.

In Python, ``ablations.runs(STUDY)`` returns all runs of a study as a table,
``ablations.agreement(STUDY)`` how far its changes agree with the paper's,
``ablations.published(REGIME)`` the paper's figures and ``ablations.flops_table(REGIME)`` ours.
``ablations.roadmap_figure(SUMMARY)`` draws any of these summaries, as ``ChartSettings`` say, and
``ablations.save_figure(FIGURE, PATH)`` writes the file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.analysis.agreement import agreement
    from ablations.analysis.frame import runs
    from ablations.charts.chart import roadmap_figure, save_figure
    from ablations.charts.settings import ChartSettings
    from ablations.costs.step_costs import flops_table
    from ablations.paper import published

__all__ = [
    "ChartSettings",
    "agreement",
    "flops_table",
    "published",
    "roadmap_figure",
    "runs",
    "save_figure",
]

_MODULES = {
    "ChartSettings": "ablations.charts.settings",
    "agreement": "ablations.analysis.agreement",
    "flops_table": "ablations.costs.step_costs",
    "published": "ablations.paper",
    "roadmap_figure": "ablations.charts.chart",
    "runs": "ablations.analysis.frame",
    "save_figure": "ablations.charts.chart",
}


def __getattr__(name: str) -> Any:
    """Imports a public function when it is used, because its libraries are slow to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
