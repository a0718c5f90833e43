"""The metrics of each task as data: names, labels, units. No torch here.

Messages, tables, charts and files take the name of a metric from here and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from ablations.units import fixed

SHOWN_SCORE = 0.3
"""Detections with a lower score are not drawn."""

EMA = "ema_"
"""Before the key of a metric: it is of the moving average of the weights."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """One number that an evaluation measures.

    Attributes:
        key: in files, such as ``top1``.
        label: for people, such as ``top-1``.
        title: its full name, for the axis of a chart.
        unit: of its values, from 0 to 100.
        of_class: the label of its value for one class; empty if it has none.
        direction: which values are better, for titles.
    """

    key: str
    label: str
    title: str
    unit: str = "%"
    of_class: str = ""
    direction: str = "higher is better"

    @property
    def best(self) -> str:
        """The key of the highest value of all epochs."""
        return f"{self.key}_best"

    @property
    def ema(self) -> str:
        """The key of the value of the moving average of the weights."""
        return f"{EMA}{self.key}"

    @property
    def header(self) -> str:
        """The header of a column of its values: "top-1 (%)"."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def class_header(self) -> str:
        """The header of a column of its values for one class: "IoU (%)"."""
        return f"{self.of_class} ({self.unit})" if self.unit else self.of_class

    @property
    def axis(self) -> str:
        """The name of an axis of its values: "top-1 accuracy (%)"."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def directed(self) -> str:
        """The name of such an axis with its direction: "top-1 accuracy (%), higher is better"."""
        return f"{self.axis}, {self.direction}"

    @property
    def subject(self) -> str:
        """Its full name at the beginning of a title: "Top-1 accuracy"."""
        return f"{self.title[0].upper()}{self.title[1:]}"

    @property
    def in_unit(self) -> str:
        """The metric and its unit, for a title: "top-1 in percent"."""
        return f"{self.label} in percent"

    def show(self, value: float | None, decimals: int = 2) -> str:
        """Returns a value with its unit: "81.25 %"; an empty text if there is none."""
        shown = fixed(value, decimals)
        return f"{shown} {self.unit}".rstrip() if shown else ""

    def name(self, value: float | None) -> str:
        """Returns a value with the metric's name: "top-1 81.25 %"; empty if there is none."""
        return f"{self.label} {self.show(value)}" if self.show(value) else ""


@dataclasses.dataclass(frozen=True)
class Chance:
    """The result of a network that learnt nothing, by one metric.

    Attributes:
        metric: by which it is judged.
        network: such a network, in words.
        level: its value; None: the validation images decide it.
        margin: up to this many times the level, a result is at chance.
    """

    metric: Metric
    network: str
    level: float | None = None
    margin: float = 1.0

    def explain(self, values: Mapping[str, float], level: float) -> str:
        """Returns why a result is no better than chance; an empty text if it is better.

        Args:
            values: of the metrics.
            level: by the validation images; used if it has none.
        """
        value, reached = values[self.metric.key], level if self.level is None else self.level
        if value > self.margin * reached:
            return ""
        return (
            f"{self.metric.name(value)} is at chance: {self.network} reaches "
            f"{self.metric.show(reached)}"
        )


@dataclasses.dataclass(frozen=True)
class TaskMetrics:
    """What the runs of a task measure.

    Attributes:
        task: its name.
        metrics: after each epoch, the headline first; steps are compared by the headline.
        val_loss: whether an evaluation also gives the loss of the validation images.
        chance: a network that learnt nothing; None: the task itself decides.
    """

    task: str
    metrics: tuple[Metric, ...]
    val_loss: bool = False
    chance: Chance | None = None

    @property
    def headline(self) -> Metric:
        """The metric that steps are compared by."""
        return self.metrics[0]

    @property
    def class_keys(self) -> list[str]:
        """The keys of the metrics that have a value for each class."""
        return [metric.key for metric in self.metrics if metric.of_class]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all values of an evaluation, as in ``metrics.jsonl``."""
        return (*(metric.key for metric in self.metrics), *["val_loss"] * self.val_loss)


CLASSIFICATION = TaskMetrics(
    "classification",
    (Metric("top1", "top-1", "top-1 accuracy"), Metric("top5", "top-5", "top-5 accuracy")),
    val_loss=True,
)
_AP50 = Metric("box_ap50", "box AP50", "box AP50", "")
DETECTION = TaskMetrics(
    "detection",
    (
        Metric("box_ap", "box AP", "box AP", "", "box AP"),
        _AP50,
        Metric("mask_ap", "mask AP", "mask AP", "", "mask AP"),
        Metric("mask_ap50", "mask AP50", "mask AP50", ""),
    ),
    chance=Chance(_AP50, "a detector that finds no object", level=0.1),
)
_MEAN_ACCURACY = Metric("mean_accuracy", "mean acc.", "mean accuracy of the classes")
SEGMENTATION = TaskMetrics(
    "segmentation",
    (
        Metric("miou", "mIoU", "mean IoU", of_class="IoU"),
        _MEAN_ACCURACY,
        Metric("pixel_accuracy", "pixel acc.", "accuracy of the pixels"),
    ),
    val_loss=True,
    chance=Chance(
        _MEAN_ACCURACY, "a segmenter that predicts one class for every pixel", margin=1.05
    ),
)
TASKS: Mapping[str, TaskMetrics] = {
    known.task: known for known in (CLASSIFICATION, DETECTION, SEGMENTATION)
}
METRICS: Mapping[str, Metric] = {
    metric.key: metric for known in TASKS.values() for metric in known.metrics
}
"""Key -> metric, of all tasks."""


def metrics_in(columns: Collection[str]) -> TaskMetrics:
    """Returns the metrics of the task that a table's columns belong to.

    Raises:
        KeyError: if they have no task's headline.
    """
    found = next((task for task in TASKS.values() if task.headline.key in columns), None)
    if found is None:
        raise KeyError(f"no headline among {', '.join(columns)}")
    return found
