"""Draws a benchmark with accuracies. No torch here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import paper
from ablations.analysis.summary import read_summary
from ablations.benchmark.results import Benchmark, Row
from ablations.charts import throughput_chart
from ablations.charts.rows import DRAWN
from ablations.charts.settings import ChartSettings
from ablations.costs.model_costs import OURS
from ablations.metrics import CLASSIFICATION, Metric
from ablations.records import Study, study_folder
from modernize.errors import UsageError
from modernize.text import plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPER = "paper"


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """One network's headline metric, and how the chart shows it.

    Attributes:
        label: its name on the chart.
        group: networks of a group have the same colour.
        value, std: mean and standard deviation; NaN: unknown.
        parent: the network from which a line leads here; empty: no line.
        adopted: False for a side branch.
    """

    label: str
    group: str
    value: float
    std: float = math.nan
    parent: str = ""
    adopted: bool = True


def accuracies(
    source: str | None,
    study: str,
    regime: str | None,
    image_size: int,
    results: Path,
    metric: Metric = CLASSIFICATION.headline,
) -> dict[str, Accuracy]:
    """Returns network -> its accuracy; an empty dict if they are unknown.

    Args:
        source: ``"paper"`` or the name of a study; None: the paper, if it has any.
        study: whose variants the networks are; empty: steps or models, which the paper has.
        regime: of the networks' steps; None: models of the paper.
        image_size: height and width of the models' images in pixels.
        results: the folder of studies.
        metric: by which the networks are compared.

    Raises:
        UsageError: for a study that does not exist or has another regime or metric, or for
            ``"paper"`` if it has no accuracies of this regime.
    """
    if source is not None and source != PAPER:
        return _measured(source, regime, results, metric)
    if study:
        if source is None:
            return {}
        raise UsageError(f"the paper has no accuracies of the study {study}; name a study.")
    if regime is None:
        return _published_models(image_size, metric)
    if regime not in paper.TABLES or metric != CLASSIFICATION.headline:
        if source is None:
            return {}
        raise UsageError(
            f"the paper has no {metric.title} of the steps of the regime {regime}; name a study "
            "with --accuracy."
        )
    found, reference = _of_table(paper.published(regime), metric), paper.reference(regime)
    if reference is not None:
        found[reference.label] = Accuracy(reference.label, "Transformer", reference.top1)
    return found


def throughput_figure(
    benchmark: Benchmark,
    accuracy: Mapping[str, Accuracy],
    source: str,
    look: ChartSettings | None = None,
) -> Figure | None:
    """Returns the chart of a benchmark; None if it has no network of known accuracy.

    Args:
        benchmark: the figures; the first of its modes is drawn.
        accuracy: network -> its accuracy.
        source: of the accuracies, for the note.
        look: of the chart.
    """
    import pandas as pd

    metric, mode = benchmark.metric, benchmark.settings["modes"][0]
    drawn = _drawn(benchmark, mode)
    unknown = [name for name in drawn if name not in accuracy]
    points = [
        {
            "name": name,
            **_columns(accuracy[name], metric),
            "flops": row.flops,
            "images_per_second": row.speed,
            "images_per_second_min": min(row.images_per_second),
            "images_per_second_max": max(row.images_per_second),
        }
        for name, row in drawn.items()
        if name in accuracy
    ]
    if not points:
        return None
    settings = benchmark.settings
    known = any(not math.isnan(accuracy[point["name"]].std) for point in points)
    spread = ", mean and standard deviation" * known
    return throughput_chart.draw(
        pd.DataFrame(points),
        title=f"{metric.subject}, throughput and FLOPs: {benchmark.title}",
        groups=[network.group for network in accuracy.values()],
        speed_label=f"{mode} images per second",
        note=f"{benchmark.device}, {plural(settings['threads'], 'CPU thread')}; "
        f"{settings['precision']}, {settings['memory_format']}, "
        f"{'compiled, ' * settings['compile']}batches of {settings['batch_size']} at "
        f"{benchmark.image}; median, least and most of "
        f"{plural(settings['rounds'], 'round')}. {metric.subject}: {source}{spread}."
        + (f" Not drawn, {metric.label} unknown: {', '.join(unknown)}." if unknown else ""),
        settings=look,
    )


def _drawn(benchmark: Benchmark, mode: str) -> dict[str, Row]:
    """Returns name -> the row that is drawn: ours, or else the fastest."""
    chosen: dict[str, Row] = {}
    for row in benchmark.rows:
        if row.mode == mode and row.measured:
            for name in row.names:
                other = chosen.get(name)
                if other is None or (other.library != OURS and row.speed > other.speed):
                    chosen[name] = row
    return chosen


def _columns(accuracy: Accuracy, metric: Metric) -> dict[str, Any]:
    """Returns the columns of the chart's table, with the metric by its key."""
    values = dataclasses.asdict(accuracy)
    return values | {metric.key: values.pop("value"), f"{metric.key}_std": values.pop("std")}


def _of_table(table: pd.DataFrame, metric: Metric) -> dict[str, Accuracy]:
    """Returns the accuracies in a roadmap's summary."""
    return {
        str(row["step"]): Accuracy(
            label=str(row["label"]),
            group=str(row["section"]),
            value=float(row[metric.key]),
            std=math.nan if (std := row[f"{metric.key}_std"]) is None else float(std),
            parent=str(row["parent"]),
            adopted=bool(row["adopted"]),
        )
        for row in table.to_dict("records")
        if row["status"] in DRAWN and row[metric.key] == row[metric.key]
    }


def _measured(name: str, regime: str | None, results: Path, metric: Metric) -> dict[str, Accuracy]:
    study = Study.open(study_folder(results, name))
    own: Any = study.manifest["regime"]
    if own != regime:
        raise UsageError(
            f"the study {name!r} has the regime {own}, not "
            f"{regime or 'models of the paper: use --accuracy paper'}."
        )
    if study.metrics.headline != metric:
        raise UsageError(
            f"the study {name!r} measured {study.metrics.headline.label}, not {metric.label}."
        )
    return _of_table(read_summary(study), metric)


def _published_models(image_size: int, metric: Metric) -> dict[str, Accuracy]:
    """Returns the accuracies in Table 12 at one image size, with a line through each family."""
    found: dict[str, Accuracy] = {}
    last: dict[str, str] = {}
    size = str(image_size)
    for value in paper.select(table="12", image_size=size, metric=metric.key, pretraining="1K"):
        family = value.model.partition("-")[0]
        found[value.model] = Accuracy(
            value.model, family, value.number, parent=last.get(family, "")
        )
        last[family] = value.model
    return found
