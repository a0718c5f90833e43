"""Detection: boxes, classes and masks of objects; average precision by pycocotools."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations.metrics import DETECTION, TaskMetrics
from ablations.tasks import dense
from ablations.tasks.object_pictures import ShownObjects
from ablations.tasks.task import Evaluation
from modernize.layer_decay import parameter_scales

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ablations.choices import DataChoice
    from ablations.data.dense.splits import Objects
    from ablations.recipe import Recipe
    from ablations.tasks.task import Context
    from modernize.spec import NetSpec

SHORTER, LONGER = 600, 1000  # ratio of an image's sides at most: 800 and 1333 pixels
SURE = 5.0  # logit: more likely than all other classes of a fresh head together


@dataclasses.dataclass(frozen=True)
class Detection(dense.HeadOnBackbone):
    """See :class:`~ablations.tasks.task.Task`."""

    metrics: TaskMetrics = DETECTION

    def load(self, choice: DataChoice, *, skip_bad_images: bool = False) -> Any:  # noqa: ARG002
        """Returns images with objects."""
        from ablations.data.dense.datasets import load_objects

        return load_objects(choice)

    def build(self, spec: NetSpec) -> nn.Module:
        """Returns a detector on the network of a spec, for as many classes as the spec has."""
        from modernize.heads import build_detector

        return build_detector(spec, self.numbers(spec))

    def scales(self, model: Any, decay: float) -> Mapping[str, float]:
        """Returns the factor of each parameter's learning rate."""
        return parameter_scales(model, decay)

    def training_batches(self, choice: DataChoice, recipe: Recipe) -> dense.Batching:
        """Returns how training images with objects become batches."""
        from ablations.data.dense import loaders, transforms

        augmentation = transforms.DetectionAugmentation(sizes=None, flip=recipe.flip)
        if isinstance(choice.resize, int):  # else images have the size that the network sees
            longest = LONGER * choice.resize // SHORTER
            augmentation = transforms.DetectionAugmentation(longest=longest, flip=recipe.flip)
        return dense.Batching(augmentation, loaders.collate_objects)

    def validation_batches(self, choice: DataChoice) -> dense.Batching:
        """Returns how validation images become batches; their objects are not read."""
        from ablations.data.dense import loaders, transforms

        size = None
        if isinstance(choice.resize, int):
            size = transforms.Size(choice.resize, LONGER * choice.resize // SHORTER)
        return dense.Batching(transforms.Resize(size), loaders.collate_tests)

    def majority(self, classes: int) -> float:  # noqa: ARG002
        """Returns 0: no detection is right by chance."""
        return 0.0

    @property
    def shown(self) -> type[ShownObjects]:
        """Boxes with masks, classes and scores."""
        return ShownObjects

    def true(self, target: Objects) -> ShownObjects:
        """Returns the objects of an image, without crowds."""
        return ShownObjects(target.boxes, target.labels, target.masks)

    def predicted(self, model: Any, loader: Any, images: Tensor, targets: Any) -> ShownObjects:  # noqa: ARG002
        """Returns the detections in the first image."""
        import torch

        [found] = model(images, targets)
        names = ("boxes", "labels", "masks", "scores")
        kinds = (torch.float, torch.long, torch.uint8, torch.float)
        return ShownObjects(
            *(found[n].to("cpu", k).numpy() for n, k in zip(names, kinds, strict=True))
        )

    def example(self, classes: int, images: Tensor) -> Any:
        """Returns targets for images: an object in the middle of each."""
        import torch

        height, width = images.shape[-2:]
        box = torch.tensor([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]])
        mask = torch.zeros(1, height, width, dtype=torch.uint8)
        mask[:, height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = 1
        return [
            {
                "boxes": box.to(images.device),
                "labels": torch.tensor([number % classes], device=images.device),
                "masks": mask.to(images.device),
                "ignored": box[:0].to(images.device),
                "size": (height, width),
            }
            for number in range(len(images))
        ]

    def keep_busy(self, model: Any) -> None:
        """Makes every box an object of the first class, so that all masks are predicted."""
        for head in model.box_heads:
            head.logits.bias.data[0] = SURE

    def evaluate(self, network: nn.Module, loader: Any, context: Context) -> Evaluation:
        """Returns average precision of boxes and masks, in percent."""
        import torch

        from ablations.data.loaders import check_any
        from ablations.evaluation.detection import DetectionMetric

        network.eval()
        start, waited = time.perf_counter(), loader.data_wait
        metric = DetectionMetric(loader.split.truth())
        with torch.no_grad():
            for x, targets in loader:
                with context.autocast():
                    found = network(x, targets)
                for target, detections in zip(targets, found, strict=True):
                    metric.add(target["index"], detections)
        images = torch.tensor(len(metric.results), device=context.device)
        total = int(context.sum(images))
        check_any(loader, total)
        metric.gather(context.process)
        numbers = torch.zeros(5, device=context.device)  # of the first process; 0 in the others
        classes: list[dict[str, Any]] = []
        if context.process.rank == 0:
            result = metric.compute()
            parts = [result.box, result.mask or result.box]
            values = [value or 0.0 for part in parts for value in (part.ap, part.ap50)]
            numbers = torch.tensor([*values, result.not_finite], device=context.device)
            classes = [
                {"name": name, **dict(zip(self.metrics.class_keys, each, strict=True))}
                for name, *each in zip(
                    loader.classes, *(part.classes for part in parts), strict=True
                )
            ]
        *values, not_finite = context.sum(numbers).tolist()
        seconds = time.perf_counter() - start
        return Evaluation(
            values=dict(zip(self.metrics.keys, values, strict=True)),
            images=total,
            not_finite=int(not_finite),
            seconds=seconds,
            data_wait=(loader.data_wait - waited) / seconds,
            classes=classes,
        )
