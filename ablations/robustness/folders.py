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
from ablations.devices import find_slots
from ablations.records.files import Faults
from ablations.records.tallies import Tallies, read_tallies
from ablations.robustness.scores import Network
from ablations.robustness.sets import KINDS, ImageSet, class_names, find_set
from ablations.training.checkpoint import beside_weights
from ablations.training.device_context import DeviceContext, make_device_context
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
PREPARATIONS = ("auto", AS_IS, RESIZE, MODEL)
"""How corrupted images are prepared; see :func:`corrupted_choice`."""


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


def evaluate(
    evaluated: Evaluated,
    sets: Sequence[ImageSet],
    options: Options,
    store: Path,
    tell: Callable[[str], None],
    faults: Faults,
) -> dict[str, Parts]:
    """Returns the counts of weights on sets, by kind; those that are stored are not counted again.

    Args:
        evaluated: the weights.
        sets: what they are evaluated on.
        options: of the command.
        store: the folder of the counts, where each part is written when it is done.
        tell: is called with a line for each part.
        faults: gets a sentence for each damaged file of the store.

    Raises:
        BadImageError: for an image that cannot be read, unless such images are skipped.
        DataError: if corrupted images cannot be prepared as the options say.
    """
    choices = {
        one.kind.key: corrupted_choice(evaluated.choice, options.preparation, one)
        if one.kind.corruptions
        else evaluated.choice
        for one in sets
    }  # before anything is evaluated
    slot = find_slots(1)[0]
    context = make_device_context(slot.device, _compute(options.precision))
    workers = max(slot.threads // 2, 1) if options.workers is None else options.workers
    network: nn.Module = network_of(evaluated.weights)
    found: dict[str, Parts] = {}
    for one in sets:
        kind, choice = one.kind, choices[one.kind.key]
        of = network
        if kind.subset:
            every = {name: index for index, name in enumerate(class_names())}
            of = ChosenClasses(network, [every[name] for name in class_names(kind.subset)])
        tallies, path = _stored(evaluated, one, choice, context, options, store, faults)
        missing = [part for part in one.parts if part.name not in tallies.parts]
        for number, part in enumerate(missing, start=1):
            start = time.monotonic()
            images = one.list_part(part, skip_bad_images=options.skip_bad_images)
            result = evaluate_weights(
                of,  # type: ignore[arg-type]  # or one with fewer classes
                images,
                choice,
                context,
                batch_size=options.batch_size,
                workers=workers,
                skip_bad_images=options.skip_bad_images,
            )
            right = round(result.values["top1"] * result.images / 100)
            tallies = tallies.with_part(part.name, right, result.images)
            tallies.write(path)
            seconds = duration(time.monotonic() - start)
            name = "" if part.name == "all" else f", {part.name.replace('/', ', severity ')}"
            top1 = percent(accuracy((right, result.images)))
            tell(f"[{number}/{len(missing)}] {kind.title}{name}: top-1 {top1}, {seconds}")
        found[kind.key] = {part.name: tallies.parts[part.name] for part in one.parts}
    return found


def _stored(
    evaluated: Evaluated,
    one: ImageSet,
    choice: DataChoice,
    context: DeviceContext,
    options: Options,
    store: Path,
    faults: Faults,
) -> tuple[Tallies, Path]:
    """Returns the counts of an evaluation as far as it went before, and their file."""
    prepared = describe(choice)
    about = {
        "weights": evaluated.source,
        "set": one.kind.title,
        "folder": str(one.folder),
        "preparation": prepared,
        "precision": str(context.dtype).removeprefix("torch."),
    }
    depends = [evaluated.digest, one.digest, prepared, choice.interpolation, about["precision"]]
    key = digest_of("\n".join([*depends, str(options.skip_bad_images)]).encode())
    path = store / f"{one.kind.key}-{key}.json"
    stored = read_tallies(path, faults)
    return (stored if stored and stored.key == key else Tallies(key, about, {})), path


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
    networks: Mapping[str, Sequence[str]],
    folders: Mapping[str, Path],
    options: Options,
    store: Path,
    tell: Callable[[str], None],
    faults: Faults,
) -> tuple[list[Network], list[str]]:
    """Returns networks with their counts and published figures, and notes on the images.

    Args:
        networks: name -> sources of weights, the runs of one network; an empty name: the model's.
        folders: kind of set -> the user's folder.
        options: of the command.
        store: as of :func:`evaluate`.
        tell: the same.
        faults: the same.

    Raises:
        WeightsError, UsageError: as :func:`read`.
        DataError: as :func:`~ablations.robustness.sets.find_set`, before anything is evaluated.
    """
    # Weights are read before the sets are listed, which may take minutes.
    choice = read(next(iter(networks.values()))[0], options).choice
    skip = options.skip_bad_images
    sets = [find_set(key, folder, skip_bad_images=skip) for key, folder in folders.items()]
    notes = [note for one in sets for note in one.notes]
    found = []
    for name, sources in networks.items():
        runs = []
        for source in sources:
            evaluated = read(source, options)
            if len(networks) > 1 or len(sources) > 1:
                tell(f"{source}:")
            runs.append(evaluate(evaluated, sets, options, store, tell, faults))
        spec = evaluated.weights.spec
        model, figures = published(spec, evaluated.choice.image_size)
        called = name or model_of(spec) or step_of(spec) or Path(source).name
        found.append(Network(called, runs, figures, model))
    return found, [*_describe(choice, sets, options), *notes]


def _describe(choice: DataChoice, sets: Sequence[ImageSet], options: Options) -> list[str]:
    """Returns sentences on how the images of sets are prepared."""
    notes = []
    for one in sets:
        prepared = describe(choice)
        if one.kind.corruptions and options.preparation != MODEL:
            resized = corrupted_choice(choice, options.preparation, one).resize
            width, height = one.size or (choice.image_size, choice.image_size)
            prepared = f"{width} x {height} pixels, not resized"
            if resized:
                prepared = f"{width} x {height} pixels, resized to {choice.image_size}"
        notes.append(f"{one.kind.title}: {prepared}.")
    return notes
