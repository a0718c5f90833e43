"""The chart of accuracy by severity, of networks on the sets in a user's folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ablations.analysis.statistics import summarise_values
from ablations.charts.severity_chart import CLEAN, Row, draw
from ablations.robustness.scores import Network, severity_accuracies
from ablations.robustness.sets import KINDS
from modernize.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ablations.charts.settings import ChartSettings


def chart_row(label: str, accuracies: Mapping[int, Sequence[float]]) -> Row:
    """Returns a row of the chart: severity -> accuracy of each run, in percent."""
    found = {severity: summarise_values(values) for severity, values in accuracies.items()}
    stds = {severity: each.std for severity, each in found.items() if each.std}
    return Row(label, {severity: each.mean for severity, each in found.items()}, stds)


def folders_figure(networks: Sequence[Network], settings: ChartSettings) -> Figure:
    """Returns the chart of networks, a row for each corrupted set.

    Raises:
        UsageError: if none was evaluated on a corrupted set.
    """
    rows = []
    for kind in [kind for kind in KINDS.values() if kind.corruptions]:
        for network in networks:
            if runs := [severity_accuracies(parts) for parts in network.parts(kind.key)]:
                accuracies = {severity: [run[severity] for run in runs] for severity in runs[0]}
                if clean := network.scores("clean"):
                    accuracies[CLEAN] = clean
                rows.append(chart_row(f"{network.name}, {kind.title}", accuracies))
    if not rows:
        raise UsageError("a chart of severities needs --imagenet-c or --imagenet-c-bar.")
    return draw(rows, title="Accuracy by severity", note=NOTE, settings=settings)


NOTE = "Mean over the corruptions. Lines: one standard deviation over runs to either side."
