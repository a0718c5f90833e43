"""What a task is: it joins network, images, loss and metrics. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from ablations.choices import Compute, DataChoice
    from ablations.data.loaders import Loaders, ValidationLoader
    from ablations.data.sampling import Rank, Sampling
    from ablations.metrics import TaskMetrics
    from ablations.recipe import Recipe
    from modernize.closed_form import ClosedFormCost
    from modernize.spec import NetSpec
    from modernize.weights import Weights


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        values: of each metric of the task, and its ``val_loss`` if it has one.
        images: number of images, over all processes.
        not_finite: images with an infinite or NaN output; they count as wrong.
        seconds: from the request for the first image to the last output.
        data_wait: fraction of that time spent waiting for images.
    """

    values: Mapping[str, float]
    images: int
    not_finite: int
    seconds: float
    data_wait: float

    @property
    def images_per_second(self) -> float:
        """Images evaluated in a second."""
        return self.images / self.seconds


Test: TypeAlias = "Callable[[Any, Tensor], Tensor]"
"""Applies a model in evaluation mode to images (B, 3, H, W), and returns logits (B, C, H, W)."""


@dataclasses.dataclass(frozen=True)
class Noise:
    """Images of noise with which the speed of a task is measured, unless others are asked for.

    Attributes:
        classes: of their targets.
        size: (width, height) in pixels; None: those of the regime.
        batch_size: images at once; None: as many as fill a device.
    """

    classes: int
    size: tuple[int, int] | None = None
    batch_size: int | None = None


class Context(Protocol):
    """This process's part in a computation, as far as a task needs it."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""

    @property
    def process(self) -> Rank:
        """This process among all."""

    def autocast(self) -> Any:
        """Returns a context manager in which the network has the run's precision."""

    def sum(self, values: Tensor) -> Tensor:
        """Returns the sums over all processes."""


class Task(Protocol):
    """A task: classification, detection or segmentation."""

    @property
    def metrics(self) -> TaskMetrics:
        """What its runs measure."""

    def load(self, choice: DataChoice, *, skip_bad_images: bool = False) -> Any:
        """Returns the data set of a preset.

        Raises:
            DataError: if it is missing or damaged, or is for another task.
        """

    @property
    def noise(self) -> Noise:
        """The images with which its speed is measured."""

    def cost(self, spec: NetSpec, image_size: int | tuple[int, int]) -> ClosedFormCost:
        """Returns the cost of one image in the network with the task's head.

        Args:
            spec: the network.
            image_size: of a preset; or (width, height) of an image.
        """

    def faults(self, recipe: Recipe, processes: int) -> tuple[str, ...]:
        """Returns why that many processes cannot train with a recipe: a sentence for each fault."""

    def read(self, path: Path, spec: NetSpec, *, ema: bool) -> nn.Module:
        """Returns the network of a finished run, with the weights in its file.

        Raises:
            WeightsError: if they cannot be read, or do not fit.
        """

    def build(self, spec: NetSpec) -> nn.Module:
        """Returns the network of a spec with the task's head, with fresh weights."""

    def start(self, model: Any, weights: Weights, recipe: Recipe) -> str:
        """Replaces the weights of a fresh network by those that it starts from.

        Returns:
            A sentence about weights that do not fit; empty if there are none.
        """

    def scales(self, model: Any, decay: float) -> Mapping[str, float]:
        """Returns the factor of each parameter's learning rate, by its name.

        Args:
            model: as :meth:`build` returns it.
            decay: the factor from each group of layers to the one before it.
        """

    def loaders(
        self,
        dataset: Any,
        choice: DataChoice,
        recipe: Recipe,
        sampling: Sampling,
        device: torch.device,
        compute: Compute,
        *,
        threads: int = 1,
        skip_bad_images: bool = False,
    ) -> Loaders:
        """Returns the loaders of a run; see :func:`~ablations.data.loaders.make_loaders`."""

    def tests(self, choice: DataChoice) -> Mapping[str, Test]:
        """Returns the ways to apply a model to validation images, by name, the usual one first.

        It is empty if there is only one.
        """

    def losses(self, model: Any, images: Tensor, targets: Any) -> Mapping[str, Tensor]:
        """Returns the terms of the loss of a micro-batch by their names; the loss is their sum.

        Args:
            model: the network in training mode, or a wrapper of it.
            images: (B, C, H, W).
            targets: as the task's loaders give them.
        """

    def example(self, classes: int, images: Tensor) -> Any:
        """Returns targets for images of noise, to measure the speed of training."""

    def keep_busy(self, model: Any) -> None:
        """Changes a fresh network so that it takes as long as a trained one, to measure speed."""

    def evaluate(
        self, network: nn.Module, loader: ValidationLoader, context: Context
    ) -> Evaluation:
        """Returns the metrics of a network on all validation images of all processes.

        Raises:
            BadImageError: if none of them can be read.
        """

    def chance(self, values: Mapping[str, float], images: int, majority: float) -> str:
        """Returns why a result is no better than chance; an empty text if it is better.

        Args:
            values: of the metrics after the last epoch.
            images: validation images that were evaluated.
            majority: of the loaders: the fraction that is right by chance.
        """
