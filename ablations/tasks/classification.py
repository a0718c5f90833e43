"""Classification: one class for each image, cross-entropy, top-1 and top-5 accuracy."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations.data.datasets import load_dataset
from ablations.metrics import CLASSIFICATION, TaskMetrics
from ablations.tasks.chance import ChanceLevel
from ablations.tasks.task import Evaluation, Noise, Test
from modernize.closed_form import ClosedFormCost, quick_cost
from modernize.layer_decay import parameter_scales

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from ablations.choices import DataChoice
    from ablations.data.images import Dataset
    from ablations.data.loaders import Loaders, ValidationLoader
    from ablations.recipe import Recipe
    from ablations.tasks.task import Context
    from modernize.spec import NetSpec
    from modernize.weights import Weights


@dataclasses.dataclass(frozen=True)
class Classification:
    """See :class:`~ablations.tasks.task.Task`."""

    metrics: TaskMetrics = CLASSIFICATION
    pictures: None = None
    compiles: bool = True

    def load(self, choice: DataChoice, *, skip_bad_images: bool = False) -> Dataset:
        """Returns images with one class each."""
        return load_dataset(choice, skip_bad_images=skip_bad_images)

    noise = Noise(classes=1000)

    def cost(self, spec: NetSpec, image_size: int | tuple[int, int]) -> ClosedFormCost:
        """Returns the cost of the network; images are square."""
        return quick_cost(spec, image_size if isinstance(image_size, int) else image_size[0])

    def faults(self, recipe: Recipe, processes: int) -> tuple[str, ...]:  # noqa: ARG002
        """Returns nothing: every recipe can train a classifier."""
        return ()

    def read(self, path: Path, spec: NetSpec, *, ema: bool) -> nn.Module:
        """Returns the network with these weights."""
        from modernize.weights import load

        return load(path, spec, ema=ema)

    def build(self, spec: NetSpec) -> nn.Module:
        """Returns the network of a spec; it has the head for classes itself."""
        from modernize.network import Network

        return Network(spec)

    def start(self, model: Any, weights: Weights, recipe: Recipe) -> str:
        """Replaces all weights; with other classes, all except those of the head."""
        from modernize.weights import start_from

        scale = recipe.head_init_scale
        start_from(model, weights, 1.0 if scale is None else scale)
        return ""

    def scales(self, model: Any, decay: float) -> Mapping[str, float]:
        """Returns the factor of each parameter's learning rate: 1 for the head."""
        return parameter_scales(model, decay)

    def loaders(self, *args: Any, **options: Any) -> Loaders:
        """Returns the loaders of images and labels, mixed as the recipe says."""
        from ablations.data.loaders import make_loaders

        return make_loaders(*args, **options)

    def tests(self, choice: DataChoice) -> Mapping[str, Test]:  # noqa: ARG002
        """Returns nothing: there is one way to test a classifier."""
        return {}

    def losses(self, model: Any, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Returns the cross-entropy; ``targets`` are indices (B,) or probabilities (B, classes)."""
        import torch.nn.functional as F

        return {"loss": F.cross_entropy(model(images).float(), targets)}

    def example(self, classes: int, images: Tensor) -> Tensor:
        """Returns labels (B,)."""
        import torch

        return torch.arange(len(images), device=images.device) % classes

    def keep_busy(self, model: Any) -> None:
        """Changes nothing: a classifier takes the same time for every image."""

    def evaluate(
        self, network: nn.Module, loader: ValidationLoader, context: Context
    ) -> Evaluation:
        """Returns top-1, top-5 and the mean cross-entropy, without label smoothing."""
        import torch
        import torch.nn.functional as F

        from ablations.data.loaders import check_any

        network.eval()
        start, waited = time.perf_counter(), loader.data_wait
        # top-1, top-5, not finite, all
        counts = torch.zeros(4, dtype=torch.long, device=context.device)
        loss = torch.zeros((), device=context.device)
        with torch.no_grad():
            for x, labels in loader:
                with context.autocast():
                    logits = network(x)
                loss += F.cross_entropy(logits.float(), labels, reduction="sum")
                finite = logits.isfinite().all(1)  # NaN would rank first
                ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
                ranked &= finite[:, None]
                right = [ranked[:, 0].sum(), ranked.any(1).sum()]
                counts += torch.stack([*right, (~finite).sum(), torch.ones_like(labels).sum()])
        top1, top5, not_finite, total = context.sum(counts).tolist()
        check_any(loader, total)
        seconds = time.perf_counter() - start
        return Evaluation(
            values={
                "top1": 100 * top1 / total,
                "top5": 100 * top5 / total,
                "val_loss": context.sum(loss).item() / total,
            },
            images=total,
            not_finite=not_finite,
            seconds=seconds,
            data_wait=(loader.data_wait - waited) / seconds,
        )

    def chance(self, values: Mapping[str, float], images: int, majority: float) -> str:
        """Returns why a top-1 is at chance, by an exact test; see :class:`ChanceLevel`."""
        return ChanceLevel(images, majority).explain(values["top1"])
