"""Semantic segmentation: a class for each pixel; mean IoU over the set."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations.metrics import SEGMENTATION, TaskMetrics
from ablations.tasks import dense
from ablations.tasks.map_pictures import ShownMap
from ablations.tasks.task import Evaluation, Test
from modernize.layer_decay import parameter_scales, stage_groups

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ablations.choices import DataChoice
    from ablations.recipe import Recipe
    from ablations.tasks.task import Context
    from modernize.spec import NetSpec

LEAST = 1e-37  # probability whose logarithm is finite
SMALLEST_BATCH = 2  # images, because the pyramid has a map of one position


@dataclasses.dataclass(frozen=True)
class Segmentation(dense.HeadOnBackbone):
    """See :class:`~ablations.tasks.task.Task`."""

    metrics: TaskMetrics = SEGMENTATION

    def load(self, choice: DataChoice, *, skip_bad_images: bool = False) -> Any:  # noqa: ARG002
        """Returns images with label maps."""
        from ablations.data.dense.datasets import load_label_maps

        return load_label_maps(choice)

    def faults(self, recipe: Recipe, processes: int) -> tuple[str, ...]:
        """Returns the keys of a recipe that only classification uses, and too small batches."""
        found = super().faults(recipe, processes)
        together = processes if recipe.sync_batch_norm else 1
        if recipe.micro_batch_size * together < SMALLEST_BATCH:
            found += (
                f"micro_batch_size {recipe.micro_batch_size} is too small: the head's BatchNorm "
                f"needs {SMALLEST_BATCH} images or more.",
            )
        return found

    def build(self, spec: NetSpec) -> nn.Module:
        """Returns a segmenter on the network of a spec, for as many classes as the spec has."""
        from modernize.heads import build_segmenter

        return build_segmenter(spec, self.numbers(spec))

    def scales(self, model: Any, decay: float) -> Mapping[str, float]:
        """Returns the factor of each parameter's learning rate."""
        return parameter_scales(model, decay, stage_groups)

    def training_batches(self, choice: DataChoice, recipe: Recipe) -> dense.Batching:
        """Returns how training images with label maps become batches."""
        from ablations.data.dense import loaders, transforms

        side, resize = choice.image_size, choice.resize
        if isinstance(resize, int):
            size = transforms.Size(resize, 4 * resize)  # as 512 and 2048 pixels
            augmentation = transforms.SegmentationAugmentation(size, crop=side, flip=recipe.flip)
        else:  # images have the size that the network sees
            augmentation = transforms.SegmentationAugmentation(
                transforms.Size(side), (1.0, 1.0), side, most=1.0, flip=recipe.flip, distort=False
            )
        return dense.Batching(augmentation, loaders.collate_labels)

    def validation_batches(self, choice: DataChoice) -> dense.Batching:
        """Returns how validation images with label maps become batches."""
        from ablations.data.dense import loaders, transforms

        usual = next(iter(self.tests(choice).values()))
        return dense.Batching(transforms.Resize(None), loaders.collate_labels, usual)

    def majority(self, classes: int) -> float:
        """Returns the mean accuracy of a segmenter that predicts one class for every pixel."""
        return 1 / classes

    @property
    def shown(self) -> type[ShownMap]:
        """A class for each pixel."""
        return ShownMap

    def true(self, target: NDArray[np.uint8]) -> ShownMap:
        """Returns the label map of an image."""
        return ShownMap(target)

    def predicted(self, model: Any, loader: Any, images: Tensor, targets: Any) -> ShownMap:  # noqa: ARG002
        """Returns the likeliest class of each pixel of the first image."""
        return ShownMap(loader.test(model, images)[0].argmax(0).byte().cpu().numpy())

    def tests(self, choice: DataChoice) -> Mapping[str, Test]:
        """Returns the paper's tests: whole images, crops of them, and several scales with flips.

        Large images are usually tested by crops, and those that the network sees whole are not.
        """
        from ablations.data.dense.transforms import Size
        from ablations.evaluation import segmenter

        crop, usual, size = choice.image_size, "whole", Size(choice.image_size)
        if isinstance(choice.resize, int):
            usual, size = "slide", Size(choice.resize, 4 * choice.resize)

        def multi_scale(model: Any, x: Tensor) -> Tensor:
            probabilities = segmenter.multi_scale(model, x, size)
            return probabilities.clamp_min(LEAST).log()  # the softmax of which is the same again

        tests: dict[str, Test] = {
            "whole": lambda model, x: segmenter.whole(model, x, size),
            "slide": lambda model, x: segmenter.slide(model, x, crop, crop * 2 // 3, size),
            "multi-scale": multi_scale,
        }
        return {usual: tests[usual], **tests}

    def example(self, classes: int, images: Tensor) -> Any:
        """Returns targets for images: one class for each of them."""
        import torch

        labels = torch.arange(len(images), device=images.device) % classes
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
            classes=[
                {"name": name, **dict.fromkeys(self.metrics.class_keys, value)}
                for name, value in zip(loader.classes, result.iou, strict=True)
            ],
        )
