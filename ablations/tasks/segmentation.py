"""Semantic segmentation: a class for each pixel; mean IoU over the set."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ablations.heads import SEGMENTERS
from ablations.metrics import SEGMENTATION, TaskMetrics
from ablations.tasks import dense
from ablations.tasks.task import Evaluation
from ablations.units import fixed
from modernize.layer_decay import parameter_scales, stage_groups

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from ablations.choices import Compute, DataChoice
    from ablations.data.loaders import Loaders
    from ablations.data.sampling import Sampling
    from ablations.recipe import Recipe
    from ablations.tasks.task import Context
    from modernize.closed_form import ClosedFormCost
    from modernize.heads import SegmenterSpec
    from modernize.spec import NetSpec
    from modernize.weights import Weights

SMALLEST_BATCH = 2  # images, because the pyramid has a map of one position


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """See :class:`~ablations.tasks.task.Task`.

    Attributes:
        head: one of :data:`ablations.heads.SEGMENTERS`.
    """

    head: str
    metrics: TaskMetrics = SEGMENTATION

    def _segmenter(self, spec: NetSpec) -> SegmenterSpec:
        return SEGMENTERS[self.head].replace(num_classes=spec.num_classes)

    def load(self, choice: DataChoice, *, skip_bad_images: bool = False) -> Any:  # noqa: ARG002
        """Returns images with label maps."""
        from ablations.data.dense.datasets import load_label_maps

        return load_label_maps(choice)

    def cost(self, spec: NetSpec, image_size: int) -> ClosedFormCost:  # noqa: ARG002
        """Returns the cost of backbone and head, for an image of the size that the head names."""
        from modernize.heads.cost import segmenter_cost

        head = self._segmenter(spec)
        return dense.cost(spec, head.image_size, lambda maps: segmenter_cost(maps, head))

    def faults(self, recipe: Recipe) -> tuple[str, ...]:
        """Returns the keys of a recipe that only classification uses, and too small batches."""
        found = dense.unused_keys(recipe, self.metrics.task)
        if recipe.micro_batch_size < SMALLEST_BATCH:
            found += (
                f"micro_batch_size {recipe.micro_batch_size} is too small: the head's BatchNorm "
                f"needs {SMALLEST_BATCH} images or more.",
            )
        return found

    def read(self, path: Path, spec: NetSpec, *, ema: bool) -> nn.Module:
        """Returns backbone and head with the weights of a run."""
        return dense.read(self.build(spec), path, ema=ema)

    def build(self, spec: NetSpec) -> nn.Module:
        """Returns a segmenter on the network of a spec, for as many classes as the spec has."""
        from modernize.heads import build_segmenter

        return build_segmenter(spec, self._segmenter(spec))

    def start(self, model: Any, weights: Weights, recipe: Recipe) -> str:
        """Replaces the weights of the backbone."""
        return dense.start_backbone(model, weights, recipe)

    def scales(self, model: Any, decay: float) -> Mapping[str, float]:
        """Returns the factor of each parameter's learning rate."""
        return parameter_scales(model, decay, stage_groups)

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
        """Returns loaders of images with label maps."""
        from ablations.data.dense import loaders, transforms
        from ablations.data.loaders import Loaders

        batches = dense.dense_format(dataset, choice, device, channels_last=compute.channels_last)
        workers = threads if compute.workers == "auto" else compute.workers
        side, resize = choice.image_size, choice.resize
        if isinstance(resize, int):
            size = transforms.Size(resize, 4 * resize)  # as 512 and 2048 pixels
            augmentation = transforms.SegmentationAugmentation(size, crop=side, flip=recipe.flip)
        else:  # images have the size that the network sees
            augmentation = transforms.SegmentationAugmentation(
                transforms.Size(side), (1.0, 1.0), side, most=1.0, flip=recipe.flip, distort=False
            )
        train = loaders.DenseTrainLoader(
            dataset.train,
            augmentation,
            loaders.collate_labels,
            sampling,
            batches,
            workers=workers,
            skip_bad_images=skip_bad_images,
        )
        validation = loaders.DenseValidationLoader(
            dataset.val,
            transforms.Resize(None),
            loaders.collate_labels,
            batches,
            source=dataset.source,
            batch_size=1 if isinstance(resize, int) else sampling.micro_batch_size,
            process=sampling.process,
            workers=workers,
            skip_bad_images=skip_bad_images,
        )
        validation.test = _test_of(choice)
        return Loaders(train, validation, 1 / dataset.num_classes, dense.unmixed)

    def losses(self, model: Any, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Returns the cross-entropy of the head, and that of the auxiliary head times its weight.

        ``targets`` are labels (B, H, W).
        """
        found: Mapping[str, Tensor] = model(images, targets)
        return found

    def example(self, spec: NetSpec, images: Tensor) -> Any:
        """Returns targets for images: one class for each of them."""
        import torch

        labels = torch.arange(len(images), device=images.device) % spec.num_classes
        return labels[:, None, None].expand(-1, *images.shape[-2:])

    def evaluate(self, network: nn.Module, loader: Any, context: Context) -> Evaluation:
        """Returns mean IoU and accuracies over all pixels, and the mean loss of an image."""
        import torch
        import torch.nn.functional as F

        from ablations.data.dense.splits import IGNORED
        from ablations.data.loaders import check_any
        from ablations.evaluation.segmentation import SegmentationMetric

        model: Any = network
        model.eval()
        start, waited = time.perf_counter(), loader.data_wait
        metric = SegmentationMetric(model.segmenter.num_classes, context.device)
        loss = torch.zeros((), device=context.device)
        with torch.no_grad():
            for x, labels in loader:
                with context.autocast():
                    logits = loader.test(model, x)
                each = F.cross_entropy(
                    logits.float(), labels, ignore_index=IGNORED, reduction="none"
                )
                loss += each.flatten(1).mean(1).sum()
                metric.add(logits, labels)
        metric.counts = context.sum(metric.counts)
        check_any(loader, int(metric.counts[-2]))
        result = metric.compute()
        seconds = time.perf_counter() - start
        return Evaluation(
            values={
                **{m.key: getattr(result, m.key) for m in self.metrics.metrics},
                "val_loss": context.sum(loss).item() / result.images,
            },
            images=result.images,
            not_finite=result.not_finite,
            seconds=seconds,
            data_wait=(loader.data_wait - waited) / seconds,
        )

    def chance(self, values: Mapping[str, float], images: int, majority: float) -> str:
        """Returns why a segmenter is at chance: it might predict one class for every pixel.

        ``majority`` is the mean accuracy, as a fraction, of a segmenter that does.
        """
        accuracy = self.metrics.metrics[1]
        if images < dense.FEWEST or values[accuracy.key] > 105 * majority:
            return ""
        return (
            f"{accuracy.name(values[accuracy.key])} is at chance: a segmenter that predicts one "
            f"class for every pixel reaches {fixed(100 * majority)} %"
        )


def _test_of(choice: DataChoice) -> Callable[[Any, Tensor], Tensor]:
    """Returns the single-scale test: whole images, or crops of resized ones as on ADE20K."""
    from ablations.data.dense.transforms import Size
    from ablations.evaluation.segmenter import slide

    if not isinstance(choice.resize, int):
        return lambda model, images: model(images)
    crop, size = choice.image_size, Size(choice.resize, 4 * choice.resize)
    return lambda model, images: slide(model, images, crop, crop * 2 // 3, size)
