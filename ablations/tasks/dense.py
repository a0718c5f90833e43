"""What detection and segmentation have in common: a head on the four maps of a backbone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from ablations.heads import HEADS
from ablations.metrics import SHOWN_SCORE, TaskMetrics
from ablations.tasks import drawing
from ablations.tasks.task import Noise, Test
from modernize.closed_form import ClosedFormCost
from modernize.errors import WeightsError
from modernize.text import few, plural

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ablations.choices import Compute, DataChoice
    from ablations.data.dense.loaders import Collate
    from ablations.data.dense.transforms import DenseTransform
    from ablations.data.loaders import Loaders
    from ablations.data.sampling import Sampling
    from ablations.recipe import Recipe
    from ablations.tasks.task import Context, Shown
    from modernize.spec import NetSpec
    from modernize.weights import Weights

SMALL = 256**2  # pixels of an image; up to it, a batch has more of them
FEWEST = 50  # validation images; with fewer, no run is judged to be at chance
EXAMPLES = 12  # validation images that a report shows
EXAMPLE_SIDE = 256  # pixels of the longer side of their pictures, at most

# Keys of a recipe that only classification uses.
OF_CLASSIFICATION = (
    "mixup", "cutmix", "label_smoothing", "rand_augment", "random_erasing", "crop_padding",
    "resized_crop", "head_init_scale",
)  # fmt: skip


def call(model: Any, images: Tensor) -> Any:
    """Returns the outputs of a model for whole images."""
    return model(images)


@dataclasses.dataclass(frozen=True)
class Batching:
    """How images and their targets become batches.

    Attributes:
        transform: of each image and its target.
        collate: makes a batch of them.
        test: applies a model in evaluation mode to validation images.
    """

    transform: DenseTransform[Any]
    collate: Collate[Any]
    test: Test = call


@dataclasses.dataclass(frozen=True)
class HeadOnBackbone:
    """The part of a :class:`~ablations.tasks.task.Task` that all heads share.

    Attributes:
        head: a name in :data:`ablations.heads.HEADS`.
    """

    head: str
    metrics: TaskMetrics
    compiles = False  # sizes of images and numbers of objects differ: it would compile all the time

    def build(self, spec: NetSpec) -> nn.Module:
        """Returns a head on the network of a spec, for as many classes as the spec has."""
        raise NotImplementedError

    @property
    def shown(self) -> type[Shown]:
        """The type of true and predicted targets, to be shown."""
        raise NotImplementedError

    @property
    def pictures(self) -> Self:
        """Itself: it can show images."""
        return self

    def training_batches(self, choice: DataChoice, recipe: Recipe) -> Batching:
        """Returns how training images become batches."""
        raise NotImplementedError

    def validation_batches(self, choice: DataChoice) -> Batching:
        """Returns how validation images become batches."""
        raise NotImplementedError

    def majority(self, classes: int) -> float:
        """Returns the fraction of a validation image's target that is right by chance."""
        raise NotImplementedError

    def true(self, target: Any) -> Shown:
        """Returns the target of an image, as a data set has it, to be shown."""
        raise NotImplementedError

    def predicted(self, model: Any, loader: Any, images: Tensor, targets: Any) -> Shown:
        """Returns the predictions of a model for the first image of a batch, to be shown."""
        raise NotImplementedError

    def numbers(self, spec: NetSpec) -> Any:
        """Returns the DetectorSpec or SegmenterSpec on the network of a spec."""
        return HEADS[self.metrics.task][self.head].replace(num_classes=spec.num_classes)

    @property
    def noise(self) -> Noise:
        """Images of the size that the head is made for, as many as a device has in the recipes."""
        head = HEADS[self.metrics.task][self.head]
        small = math.prod(head.image_size) <= SMALL
        return Noise(head.num_classes, head.image_size, 8 if small else 2)

    def keep_busy(self, model: Any) -> None:
        """Changes nothing, unless the head takes longer for some images."""

    def cost(self, spec: NetSpec, image_size: int | tuple[int, int]) -> ClosedFormCost:
        """Returns the cost of backbone and head.

        Args:
            spec: the backbone.
            image_size: (width, height) of an image; an int: that of the images which the head is
                made for counts.
        """
        from modernize.heads.cost import backbone, head_cost

        head = self.numbers(spec)
        width, height = head.image_size if isinstance(image_size, int) else image_size
        found = head_cost(backbone(spec, (height, width)), head)
        return ClosedFormCost(found.params, found.macs)

    def faults(self, recipe: Recipe, processes: int) -> tuple[str, ...]:  # noqa: ARG002
        """Returns a sentence for each key of a recipe that has a value but is for classifiers."""
        values = {key: getattr(recipe, key) for key in OF_CLASSIFICATION}
        return tuple(
            f"{key} {value} is for classification; {self.metrics.task} has its own augmentation "
            f"and loss: --set {key}={0 if isinstance(value, int | float) else 'null'}."
            for key, value in values.items()
            if value
        )

    def read(self, path: Path, spec: NetSpec, *, ema: bool) -> nn.Module:
        """Returns backbone and head with the weights in a run's file.

        Raises:
            WeightsError: if they cannot be read, or do not fit.
        """
        from modernize.weight_files import read_file

        model, there = self.build(spec), read_file(path, ema=ema).tensors
        own = model.state_dict()
        faults = {
            "missing": [name for name in own if name not in there],
            "not known": [name for name in there if name not in own],
            "of another shape": [
                name for name in own if name in there and own[name].shape != there[name].shape
            ],
        }
        if any(faults.values()):
            listed = (f"{what}: {few(names)}" for what, names in faults.items() if names)
            raise WeightsError(
                f"{path} does not fit {self.metrics.task} with the head {self.head}; "
                f"{'; '.join(listed)}."
            )
        model.load_state_dict(there)
        return model

    def start(self, model: Any, weights: Weights, recipe: Recipe) -> str:  # noqa: ARG002
        """Replaces the weights of the backbone, and returns a sentence about the others."""
        unused = model.backbone.load(weights)
        return (
            f"The backbone starts from the weights of a classifier; "
            f"{plural(len(unused), 'tensor')} of it are not used ({', '.join(unused)}). Output "
            f"norms and head are fresh."
        )

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
        """Returns loaders of images with targets; normalised as the data set or the preset says."""
        from ablations.data.dense.loaders import DenseTrainLoader, DenseValidationLoader
        from ablations.data.loaders import Loaders
        from ablations.data.transforms import BatchFormat

        mean, std = [*(choice.mean or dataset.mean)], [*(choice.std or dataset.std)]
        batches = BatchFormat(mean, std, device, compute.channels_last)
        workers = threads if compute.workers == "auto" else compute.workers
        training, tests = self.training_batches(choice, recipe), self.validation_batches(choice)
        train = DenseTrainLoader(
            dataset.train,
            training.transform,
            training.collate,
            sampling,
            batches,
            workers=workers,
            skip_bad_images=skip_bad_images,
        )
        validation = DenseValidationLoader(
            dataset.val,
            tests.transform,
            tests.collate,
            batches,
            source=dataset.source,
            batch_size=1 if isinstance(choice.resize, int) else sampling.micro_batch_size,
            process=sampling.process,
            test=tests.test,
            classes=dataset.classes,
            workers=workers,
            skip_bad_images=skip_bad_images,
        )
        single = choice.model_copy(
            update={
                "source": "",
                "resize": choice.resize if isinstance(choice.resize, int) else choice.image_size,
                "mean": mean,
                "std": std,
                "classes": [*dataset.classes],
            }
        )
        return Loaders(train, validation, self.majority(dataset.num_classes), unmixed, single)

    def preparation(self, choice: DataChoice, device: torch.device) -> Any:
        """Returns a loader that has no images but prepares any, for :meth:`predict`."""
        from ablations.data.dense.loaders import DenseValidationLoader
        from ablations.data.transforms import BatchFormat

        batches = BatchFormat(choice.mean or (), choice.std or (), device, channels_last=True)
        tests = self.validation_batches(choice)
        nothing: Any = ()
        return DenseValidationLoader(
            nothing, tests.transform, tests.collate, batches, source="", test=tests.test, workers=0
        )

    def predict(
        self, network: nn.Module, loader: Any, pixels: NDArray[np.uint8], context: Context
    ) -> Shown:
        """Returns the predictions for an image (H, W, 3) of any size."""
        import torch

        network.eval()
        with torch.no_grad(), context.autocast():
            return self.predicted(network, loader, *loader.prepare(pixels))

    def examples(self, network: nn.Module, loader: Any, context: Context) -> dict[str, Any]:
        """Returns a dozen validation images, with true and predicted targets, as plain values.

        The images are evenly spaced and at most :data:`EXAMPLE_SIDE` pixels wide and high; those
        that cannot be read are left out.
        """
        from ablations.data.images import evenly_spaced

        found = []
        for number in evenly_spaced(len(loader.split), EXAMPLES).tolist():
            try:
                pixels, target = loader.split.pixels(number), loader.split.target(number)
            except Exception:  # noqa: S112  # the evaluation has reported it
                continue
            image = drawing.scaled(pixels, min(EXAMPLE_SIDE, max(pixels.shape[:2])))
            shown = {
                "true": self.true(target),
                "predicted": self.predict(network, loader, pixels, context).above(SHOWN_SCORE),
            }
            small = {name: each.resized(*image.size).to_dict() for name, each in shown.items()}
            picture = drawing.to_text(drawing.webp(image))
            found.append({"number": number, "image": picture, **small})
        return {"classes": [*loader.classes], "images": found}

    def tests(self, choice: DataChoice) -> Mapping[str, Test]:  # noqa: ARG002
        """Returns nothing, unless there are several ways to test the head."""
        return {}

    def chance(self, values: Mapping[str, float], images: int, majority: float) -> str:
        """Returns why a result is at chance, by the task's :class:`~ablations.metrics.Chance`.

        ``majority`` is the fraction that the predictor of one class reaches.
        """
        if images < FEWEST or self.metrics.chance is None:
            return ""
        return self.metrics.chance.explain(values, 100 * majority)

    def losses(self, model: Any, images: Tensor, targets: Any) -> Mapping[str, Tensor]:
        """Returns the losses of the head, by name: five of a detector, one or two of UperNet."""
        found: Mapping[str, Tensor] = model(images, targets)
        return found


def unmixed(images: Any, targets: Any, seed: int) -> tuple[Any, Any]:  # noqa: ARG001
    """Returns a micro-batch as it is: images with objects are not mixed."""
    return images, targets
