"""The chart of accuracy by severity, of networks on the sets in a user's folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablations.analysis.corruption_errors import severity_accuracies
from ablations.charts.severity_chart import CLEAN, NOTE, Row, draw
from ablations.robustness.scores import Network
from ablations.robustness.sets import KINDS
from modernize.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ablations.charts.settings import ChartSettings


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
                rows.append(Row.of(f"{network.name}, {kind.title}", accuracies))
    if not rows:
        raise UsageError("a chart of severities needs --imagenet-c or --imagenet-c-bar.")
    return draw(rows, title="Accuracy by severity", note=NOTE, settings=settings)
