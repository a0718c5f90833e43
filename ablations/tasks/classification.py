"""Classification: one class for each image, cross-entropy, top-1 and top-5 accuracy."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations.metrics import CLASSIFICATION, TaskMetrics
from ablations.tasks.chance import ChanceLevel
from ablations.tasks.task import Evaluation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ablations.data.loaders import Loaders, ValidationLoader
    from ablations.tasks.task import Context
    from modernize.spec import NetSpec


@dataclasses.dataclass(frozen=True)
class Classification:
    """See :class:`~ablations.tasks.task.Task`."""

    metrics: TaskMetrics = CLASSIFICATION

    def build(self, spec: NetSpec) -> nn.Module:
        """Returns the network of a spec; it has the head for classes itself."""
        from modernize.network import Network

        return Network(spec)

    def loaders(self, *args: Any, **options: Any) -> Loaders:
        """Returns the loaders of images and labels, mixed as the recipe says."""
        from ablations.data.loaders import make_loaders

        return make_loaders(*args, **options)

    def losses(self, model: Any, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Returns the cross-entropy; ``targets`` are indices (B,) or probabilities (B, classes)."""
        import torch.nn.functional as F

        return {"loss": F.cross_entropy(model(images).float(), targets)}

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
