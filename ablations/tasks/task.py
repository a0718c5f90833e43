"""What a task is: it joins network, images, loss and metrics. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image
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
        classes: a row for each class: its ``name``, and its part in some of the metrics, None if
            it does not occur. In the first process; empty in the others and for classification.
    """

    values: Mapping[str, float]
    images: int
    not_finite: int
    seconds: float
    data_wait: float
    classes: Sequence[Mapping[str, Any]] = ()

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


class Shown(Protocol):
    """The true or the predicted objects or classes of an image, to be shown. No torch.

    Attributes:
        note: a sentence about the pictures.
    """

    note: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], width: int, height: int) -> Self:
        """Returns the same from these values; raises ValueError for any others."""

    def resized(self, width: int, height: int) -> Self:
        """Returns the same of the resized image."""

    def above(self, score: float) -> Self:
        """Returns the predictions with at least this score; all of them if they have none."""

    def draw(self, pixels: NDArray[np.uint8], classes: Sequence[str], longer: int) -> Image.Image:
        """Returns a picture.

        Args:
            pixels: the image (H, W, 3).
            classes: their names.
            longer: pixels of the longer side of the picture.
        """

    def with_legend(self, picture: Image.Image, classes: Sequence[str]) -> Image.Image:
        """Returns a picture of :meth:`draw` with a legend, if it needs one."""

    def describe(self, classes: Sequence[str]) -> str:
        """Returns the same as text."""

    def rows(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """Returns the rows of a table."""


class Pictures(Protocol):
    """The part of a task that shows the true and the predicted targets of single images."""

    @property
    def shown(self) -> type[Shown]:
        """The type of both."""

    def examples(self, network: nn.Module, loader: Any, context: Context) -> dict[str, Any]:
        """Returns a dozen validation images, with true and predicted targets, as plain values.

        One process can call this alone.
        """

    def preparation(self, choice: DataChoice, device: torch.device) -> Any:
        """Returns a loader that has no images but prepares any, for :meth:`predict`.

        Args:
            choice: with mean and standard deviation.
            device: of the network.
        """

    def predict(
        self, network: nn.Module, loader: Any, pixels: NDArray[np.uint8], context: Context
    ) -> Shown:
        """Returns the predictions for an image (H, W, 3) of any size."""


class Task(Protocol):
    """A task: classification, detection or segmentation."""

    @property
    def metrics(self) -> TaskMetrics:
        """What its runs measure."""

    @property
    def compiles(self) -> bool:
        """Whether its models can be trained with ``compute.compile``."""

    @property
    def pictures(self) -> Pictures | None:
        """What shows its images; None if it shows none."""

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
