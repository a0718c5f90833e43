"""Evaluates weights on the sets in a user's folders, part by part."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ablations import paper
from ablations.analysis.corruption_errors import Parts, accuracy
from ablations.choices import Compute, DataChoice
from ablations.data.images import DataError
from ablations.devices import Slot, find_slots
from ablations.records.files import Faults
from ablations.records.tallies import Tallies, read_tallies
from ablations.robustness.scores import Network
from ablations.robustness.sets import KINDS, ImageSet, Kind, Part, class_names, find_set
from ablations.training.checkpoint import beside_weights
from ablations.training.device_context import DTYPES, make_device_context, resolve_precision
from ablations.training.evaluation import evaluate_weights
from ablations.units import duration, percent
from ablations.weights.preparation import describe, preparation
from ablations.weights.validation import find_weights
from modernize.errors import UsageError
from modernize.models import model_of
from modernize.spec import NetSpec
from modernize.steps import step_of
from modernize.text import plural
from modernize.user_code import digest_of
from modernize.weights import Weights, network_of

AS_IS, RESIZE, MODEL = "as-is", "resize", "model"


@dataclasses.dataclass(frozen=True)
class Options:
    """The command's options for an evaluation on folders; its help describes them."""

    step: str | None = None
    regime: str = "resnet50"
    ema: bool = False
    preparation: str = "auto"
    image_size: int | None = None
    batch_size: int = 64
    precision: str = "fp32"
    workers: int | None = None
    skip_bad_images: bool = False


class ChosenClasses(nn.Module):
    """A network that can predict only some of its classes.

    Args:
        network: returns logits (B, K).
        classes: the indices of the classes, in order.
    """

    def __init__(self, network: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("classes", torch.tensor(classes), persistent=False)
        self.classes: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits of these classes (B, k)."""
        logits: Tensor = self.network(x)
        return logits[:, self.classes]


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """A file of weights that is to be evaluated.

    Attributes:
        source: where the weights are.
        weights: of the network.
        choice: how ImageNet's own images are prepared for it.
        digest: of the tensors.
    """

    source: str
    weights: Weights
    choice: DataChoice
    digest: str


def read(source: str, options: Options) -> Evaluated:
    """Returns weights that have ImageNet's classes.

    Args:
        source: a file of any known layout, a run's folder, or ``torchvision``.
        options: of the command.

    Raises:
        WeightsError: if they cannot be read, or belong to another step.
        UsageError: if the network does not have ImageNet's 1000 classes, or takes no RGB; or is a
            detector or segmenter.
    """
    task = None if source == "torchvision" else beside_weights(Path(source), "task")
    if task:
        raise UsageError(
            f"{source} has the weights of a {task.get('name', 'task')} run: robustness is measured "
            "for classifiers only."
        )
    found = find_weights(source, options.step, options.regime, ema=options.ema)
    choice = preparation(source, found.spec, options.image_size, None)
    names = [*map(str, choice.classes or ())]
    if names != class_names() or found.spec.in_channels != 3:
        raise UsageError(
            f"the network of {source} has {plural(found.spec.in_channels, 'image channel')} and "
            f"{plural(found.spec.num_classes, 'class')}{_but_other(names)}; these sets need a "
            "classifier of RGB images with ImageNet's 1,000 classes. A study on other images is "
            "tested under corruptions made here: robustness STUDY, without folders."
        )
    return Evaluated(source, found, choice, found.digest())


def _but_other(names: Sequence[str]) -> str:
    return ", but not ImageNet's" if len(names) == len(class_names()) else ""


def corrupted_choice(choice: DataChoice, wanted: str, found: ImageSet) -> DataChoice:
    """Returns how the images of a corrupted set are prepared.

    Args:
        choice: how the network's own test images are prepared.
        wanted: ``as-is``: not resized, for images of the size that the network sees; ``resize``:
            the whole image is resized to that size; ``model``: as the network's own test images;
            ``auto``: as-is if the sizes agree, otherwise resize.
        found: the set.

    Raises:
        DataError: for ``as-is`` if the images have another size.
    """
    size = choice.image_size
    fits = found.size in (None, (size, size))
    if wanted == AS_IS and not fits:
        width, height = found.size or (0, 0)
        raise DataError(
            f"the images of {found.kind.title} are {width} x {height} pixels, and the network sees "
            f"{size} x {size}: --preparation {AS_IS} needs images of that size. Use --preparation "
            f"{RESIZE}."
        )
    if wanted == MODEL:
        return choice
    resize = None if fits and wanted != RESIZE else "warp"
    return choice.model_copy(update={"resize": resize})


@dataclasses.dataclass(frozen=True)
class Counting:
    """The counting of a network's right predictions on a set, in a file that is kept.

    Attributes:
        images: the set.
        choice: how its images are prepared.
        path: of the counts; each part is written when it is done.
        key: a digest of everything that the counts depend on.
        about: the network and the set, for people.
    """

    images: ImageSet
    choice: DataChoice
    path: Path
    key: str
    about: Mapping[str, str]

    @property
    def kind(self) -> Kind:
        """The kind of the set."""
        return self.images.kind

    def stored(self, faults: Faults) -> Tallies:
        """Returns the counts so far; ``faults`` gets a sentence if their file is damaged."""
        stored = read_tallies(self.path, faults)
        return stored if stored and stored.key == self.key else Tallies(self.key, self.about, {})

    def missing(self, tallies: Tallies) -> list[Part]:
        """Returns the parts that are not in some counts."""
        return [part for part in self.images.parts if part.name not in tallies.parts]

    def result(self, faults: Faults) -> Parts | None:
        """Returns the counts of all parts; None if some are missing."""
        tallies = self.stored(faults)
        if self.missing(tallies):
            return None
        return {part.name: tallies.parts[part.name] for part in self.images.parts}


def find_sets(folders: Mapping[str, Path], options: Options) -> list[ImageSet]:
    """Returns the sets in folders, all of them checked, by kind of set.

    Raises:
        DataError: as :func:`~ablations.robustness.sets.find_set`.
    """
    skip = options.skip_bad_images
    return [find_set(key, folder, skip_bad_images=skip) for key, folder in folders.items()]


def plan_counting(
    evaluated: Evaluated,
    sets: Sequence[ImageSet],
    options: Options,
    store: Path,
    *,
    here: bool = True,
) -> list[Counting]:
    """Returns the counting of weights on each set.

    Args:
        evaluated: the weights.
        sets: what they are evaluated on.
        options: of the command.
        store: the folder of the counts.
        here: whether they are evaluated on this machine.

    Raises:
        DataError: if corrupted images cannot be prepared as the options say.
        UsageError: for a precision that this machine does not have.
    """
    device = torch.device(find_slots(1)[0].device)
    dtype = resolve_precision(options.precision, device) if here else DTYPES[options.precision]
    precision = str(dtype).removeprefix("torch.")
    planned = []
    for one in sets:
        choice = evaluated.choice
        if one.kind.corruptions:
            choice = corrupted_choice(choice, options.preparation, one)
        prepared = describe(choice)
        depends = [evaluated.digest, one.digest, prepared, choice.interpolation, precision]
        key = digest_of("\n".join([*depends, str(options.skip_bad_images)]).encode())
        about = {
            "weights": evaluated.source,
            "set": one.kind.title,
            "folder": str(one.folder),
            "preparation": prepared,
            "precision": precision,
        }
        planned.append(Counting(one, choice, store / f"{one.kind.key}-{key}.json", key, about))
    return planned


def count(
    weights: Weights,
    planned: Sequence[Counting],
    options: Options,
    slot: Slot,
    tell: Callable[[str], None],
    faults: Faults,
    keep_going: Callable[[], bool] = lambda: True,
) -> None:
    """Counts the parts that are missing, and writes the counts after each.

    Args:
        weights: of the network.
        planned: of the same network.
        options: of the command.
        slot: device and threads.
        tell: is called with a line for each part.
        faults: gets a sentence for each damaged file of counts.
        keep_going: returns False when the work has to stop after a part.

    Raises:
        BadImageError: for an image that cannot be read, unless such images are skipped.
    """
    context = make_device_context(slot.device, _compute(options.precision))
    workers = max(slot.threads // 2, 1) if options.workers is None else options.workers
    network: nn.Module = network_of(weights)
    for one in planned:
        kind, of = one.kind, network
        if kind.subset:
            every = {name: index for index, name in enumerate(class_names())}
            of = ChosenClasses(network, [every[name] for name in class_names(kind.subset)])
        tallies = one.stored(faults)
        missing = one.missing(tallies)
        for number, part in enumerate(missing, start=1):
            if not keep_going():
                return
            start = time.monotonic()
            result = evaluate_weights(
                of,  # type: ignore[arg-type]  # or one with fewer classes
                one.images.list_part(part, skip_bad_images=options.skip_bad_images),
                one.choice,
                context,
                batch_size=options.batch_size,
                workers=workers,
                skip_bad_images=options.skip_bad_images,
            )
            right = round(result.values["top1"] * result.images / 100)
            tallies = tallies.with_part(part.name, right, result.images)
            tallies.write(one.path)
            seconds = duration(time.monotonic() - start)
            name = "" if part.name == "all" else f", {part.name.replace('/', ', severity ')}"
            top1 = percent(accuracy((right, result.images)))
            tell(f"[{number}/{len(missing)}] {kind.title}{name}: top-1 {top1}, {seconds}")


def _compute(precision: str) -> Compute:
    values: dict[str, Any] = {"precision": precision, "workers": "auto"}
    return Compute(channels_last=True, compile=False, tf32=False, **values)


def published(spec: NetSpec, image_size: int) -> tuple[str, Mapping[str, str]]:
    """Returns the paper's name of a network, and kind of set -> its figure in Table 8, as printed.

    Both are empty if it is not in the table at this image size.
    """
    rows = paper.select(table="8", model=model_of(spec) or "", image_size=str(image_size))
    figures = {
        kind.key: value.printed
        for kind in KINDS.values()
        for value in rows
        if (value.dataset, value.metric) == (kind.dataset, kind.metric)
    }
    return (f"{rows[0].model}, {rows[0].pretraining}" if rows else ""), figures


def measure(
    source: str,
    folders: Mapping[str, Path],
    options: Options,
    store: Path,
    tell: Callable[[str], None],
    faults: Faults,
) -> tuple[Network, list[str]]:
    """Returns weights with their counts and published figures, and notes on the images.

    Args:
        source: of the weights, as of :func:`read`.
        folders: kind of set -> the user's folder.
        options: of the command.
        store: as of :func:`plan_counting`.
        tell: as of :func:`count`.
        faults: the same.

    Raises:
        WeightsError, UsageError, DataError: as the functions above, before anything is evaluated.
        BadImageError: as :func:`count`.
    """
    evaluated = read(source, options)  # before the sets are listed, which may take minutes
    sets = find_sets(folders, options)
    planned = plan_counting(evaluated, sets, options, store)
    count(evaluated.weights, planned, options, find_slots(1)[0], tell, faults)
    spec = evaluated.weights.spec
    name = model_of(spec) or step_of(spec) or Path(source).name
    model, figures = published(spec, evaluated.choice.image_size)
    counts = {one.kind.key: one.result(faults) or {} for one in planned}
    return Network(name, [counts], figures, model), describe_sets(planned)


def describe_sets(planned: Sequence[Counting]) -> list[str]:
    """Returns sentences on how the images of sets are prepared, and the notes on them."""
    notes = []
    for one in planned:
        prepared, size = describe(one.choice), one.choice.image_size
        if one.kind.corruptions and not isinstance(one.choice.resize, int):
            width, height = one.images.size or (size, size)
            how = f"resized to {size}" if one.choice.resize else "not resized"
            prepared = f"{width} x {height} pixels, {how}"
        notes.append(f"{one.kind.title}: {prepared}.")
    return [*notes, *(note for one in planned for note in one.images.notes)]
