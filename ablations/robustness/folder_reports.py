"""The scores of networks on the sets in a user's folders, as tables. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablations.analysis.corruption_errors import corruption_errors, severity_accuracies
from ablations.analysis.statistics import Summary, summarise_values
from ablations.robustness.scores import Network
from ablations.robustness.sets import KINDS, SEVERITIES, Kind, alexnet_errors, groups
from ablations.tables import Columns, Report
from ablations.units import fixed, mean_and_std

PAPER = "paper"
MEANINGS = (
    "mCE: the mean over ImageNet-C's 15 corruptions of the error divided by AlexNet's. C-bar: the "
    "mean error, not divided. Both in percent, lower is better; all others are top-1 in percent. "
    "On A and R, only their 200 classes can be predicted."
)


def summary(networks: Sequence[Network], notes: Sequence[str]) -> Report:
    """Returns a row for each network, with the paper's row below it if there is one."""
    kinds = [kind for kind in KINDS.values() if any(n.parts(kind.key) for n in networks)]
    values: list[dict[str, Any]] = []
    texts: list[dict[str, str]] = []
    for network in networks:
        scores = {kind: _summary(network.scores(kind.key)) for kind in kinds}
        values.append(_values(network, scores))
        texts.append({"network": network.name, **{k.header: _text(s) for k, s in scores.items()}})
        if network.published:
            printed = {kind: network.published.get(kind.key, "") for kind in kinds}
            row: dict[str, Any] = {"network": network.model, "source": PAPER, "runs": None}
            for kind, figure in printed.items():
                row |= {
                    _column(kind): float(figure) if figure else None,
                    f"{_column(kind)}_std": None,
                }
            values.append(row)
            texts.append(
                {
                    "network": f"  paper: {network.model}",
                    **{k.header: t for k, t in printed.items()},
                }
            )
    columns = Columns([kind.header for kind in kinds])
    several = max((len(network.runs) for network in networks), default=1) > 1
    spread = ["± : the sample standard deviation over the runs of a step."] if several else []
    return Report(values, texts, columns, notes=[MEANINGS, *spread, *notes])


def _column(kind: Kind) -> str:
    return f"{kind.key.replace('-', '_')}_{kind.metric}"


def _summary(values: Sequence[float]) -> Summary | None:
    return summarise_values(values) if values else None


def _values(network: Network, scores: Mapping[Kind, Summary | None]) -> dict[str, Any]:
    row: dict[str, Any] = {"network": network.name, "source": "measured", "runs": len(network.runs)}
    for kind, found in scores.items():
        row[_column(kind)] = found.mean if found else None
        row[f"{_column(kind)}_std"] = found.std if found else None
    return row


def _text(found: Summary | None) -> str:
    return mean_and_std(found.mean, found.std) if found else ""


def corruptions(networks: Sequence[Network]) -> Report:
    """Returns a row for each network and corruption: mean error, AlexNet's, and their quotient."""
    rows: list[dict[str, Any]] = []
    for network in networks:
        for kind in [kind for kind in KINDS.values() if kind.corruptions]:
            errors = [corruption_errors(parts) for parts in network.parts(kind.key)]
            for name in kind.corruptions if errors else ():
                error = summarise_values([each[name] for each in errors]).mean
                alexnet = alexnet_errors()[name] if kind.metric == "mce" else None
                rows.append(
                    {
                        "network": network.name,
                        "set": kind.title,
                        "group": groups().get(name, ""),
                        "corruption": name,
                        "error": error,
                        "alexnet_error": alexnet,
                        "ce": 100 * error / alexnet if alexnet else None,
                    }
                )
    note = "Mean errors in percent over the severities. CE: the error divided by AlexNet's."
    return _report(rows, {"error": "error", "alexnet_error": "AlexNet's", "ce": "CE"}, note)


def severities(networks: Sequence[Network]) -> Report:
    """Returns a row for each network and corrupted set: the mean accuracy at each severity."""
    rows: list[dict[str, Any]] = []
    for network in networks:
        clean = _summary(network.scores("clean"))
        for kind in [kind for kind in KINDS.values() if kind.corruptions]:
            if found := [severity_accuracies(parts) for parts in network.parts(kind.key)]:
                row: dict[str, Any] = {"network": network.name, "set": kind.title}
                row["clean"] = clean.mean if clean else None
                for severity in range(1, SEVERITIES + 1):
                    mean = summarise_values([each[severity] for each in found]).mean
                    row[f"severity_{severity}"] = mean
                rows.append(row)
    names = {f"severity_{n}": str(n) for n in range(1, SEVERITIES + 1)}
    note = f"Top-1 in percent, without corruption and at the severities 1 to {SEVERITIES}."
    return _report(rows, {"clean": "clean", **names}, note)


def _report(rows: Sequence[Mapping[str, Any]], numbers: Mapping[str, str], note: str) -> Report:
    """Returns rows as a report; ``numbers``: the columns of numbers, with their headers."""
    texts = [
        {numbers.get(k, k): fixed(v) if k in numbers else str(v) for k, v in row.items()}
        for row in rows
    ]
    columns = Columns([*numbers.values()], optional=("group", "AlexNet's"))
    return Report(rows, texts, columns, notes=[note])


TABLES: Mapping[str, Callable[[Sequence[Network]], Report]] = {
    "corruptions": corruptions,
    "severities": severities,
}
"""The tables besides the summary."""
