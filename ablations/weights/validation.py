"""Evaluates weights on ImageNet, or a finished run on its data set, next to published figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import paper
from ablations.choices import Compute
from ablations.costs.reference_models import REFERENCE_MODELS
from ablations.data.image_folder import list_validation
from ablations.data.sampling import Sampling
from ablations.devices import find_slots
from ablations.metrics import metrics_in
from ablations.records import WEIGHTS, Record
from ablations.tasks.registry import make_task
from ablations.training import evaluation
from ablations.training.checkpoint import beside_weights
from ablations.training.device_context import DeviceContext, make_device_context
from ablations.units import fixed, integer, percent, rate
from ablations.weights import conversion
from ablations.weights.preparation import describe, preparation
from modernize.errors import RoadmapError, UnknownNameError, UsageError, WeightsError
from modernize.models import MODELS, model_of
from modernize.spec import NetSpec, Role
from modernize.steps import REGIMES, STEPS, apply_steps, spec_of, step_of
from modernize.text import plural
from modernize.weight_files import read_file
from modernize.weights import Weights, from_state_dict, network_of

if TYPE_CHECKING:
    from torch import nn

    from ablations.recipe import Preset, Recipe
    from ablations.records import Study
    from ablations.tasks.task import Evaluation, Task

FETCHED = "IMAGENET1K_V1"  # torchvision's name of the weights that the paper cites


@dataclasses.dataclass(frozen=True)
class Options:
    """The command's options; its help describes them."""

    step: str | None
    regime: str
    ema: bool
    image_size: int | None
    resize: int | None
    batch_size: int
    precision: str | None
    workers: int | None
    skip_bad_images: bool
    seed: int
    test: str | None = None


class FetchError(RoadmapError):
    """Weights that torchvision could not download."""


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation, with its description.

    Attributes:
        title: the network, and the source of its weights.
        accuracy: the result.
        classes: number of classes of the images.
        bad_images: number of images that could not be read.
        known: the source of a known figure, and the figure as text.
        context: device and precision.
        details: more names and values.
        notes: sentences about skipped images.
        prepared: how images are resized and normalised; empty: as in training.
    """

    title: str
    accuracy: Evaluation
    classes: int
    bad_images: int
    known: tuple[str, str]
    context: DeviceContext
    details: dict[str, Any]
    notes: tuple[str, ...] = ()
    prepared: str = ""

    def lines(self) -> list[str]:
        """Returns lines for a terminal."""
        a, (whose, figure) = self.accuracy, self.known
        metrics = metrics_in(a.values)
        found = {m.label: m.show(a.values[m.key], 3) for m in metrics.metrics}
        found[metrics.headline.label] += f"  ({whose}: {figure})"
        left_out = f", {integer(self.bad_images)} unreadable left out" if self.bad_images else ""
        if a.not_finite:
            left_out += f"; {integer(a.not_finite)} outputs are infinite or NaN and count as wrong"
        rows = {
            "images": f"{plural(a.images, 'image')} of {plural(self.classes, 'class')}{left_out}",
            **found,
            **({"prepared": self.prepared} if self.prepared else {}),
            "speed": f"{rate(a.images_per_second)} on {self.context.describe()} in "
            f"{_precision(self.context)}, {percent(100 * a.data_wait, 1)} of the time waiting for "
            "images",
        }
        width = max(map(len, rows)) + 2
        told = [f"  {name:<{width}}{text}" for name, text in rows.items()]
        return [self.title, *told, *(f"Note: {note}" for note in self.notes)]

    def values(self) -> dict[str, Any]:
        """Returns all values by name."""
        whose, figure = self.known
        return {
            "title": self.title,
            **self.details,
            **self.accuracy.values,
            **{k: v for k, v in dataclasses.asdict(self.accuracy).items() if k != "values"},
            "images_per_second": self.accuracy.images_per_second,
            "classes": self.classes,
            "bad_images": self.bad_images,
            whose: figure,
            "device": self.context.describe(),
            "precision": _precision(self.context),
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def _precision(context: DeviceContext) -> str:
    return str(context.dtype).removeprefix("torch.")


def check_step(spec: NetSpec, step: str, regime: str) -> None:
    """Checks that weights belong to the network of a step.

    Raises:
        WeightsError: if they do not, with the differences.
    """
    wanted = spec_of(step, regime)
    differs = spec.diff(wanted, (Role.INPUT, Role.HEAD, Role.INITIAL, Role.TRAINING))
    if differs:
        of = step_of(spec)
        listed = "; ".join(f"{name} is {a}, not {b}" for name, (a, b) in differs.items())
        raise WeightsError(
            f"these weights do not belong to the step {step!r} of the regime {regime}: {listed}. "
            + (f"They belong to {of!r}. Omit --step to find the step from the tensors." if of
               else "Omit --step to find the network from the tensors.")
        )  # fmt: skip


def find_weights(source: str, step: str | None, regime: str, *, ema: bool) -> Weights:
    """Returns the weights of a file, or those that torchvision downloads.

    Raises:
        UsageError: for weights that torchvision does not have.
        FetchError: if the download fails.
        WeightsError: for a file that cannot be read or belongs to another step.
    """
    if source == "torchvision":
        if step is None:
            raise UsageError("--weights torchvision needs --step: resnet or downsample.")
        return _fetch(spec_of(step, regime))
    found = conversion.read(Path(source), ema=ema)
    if step is not None:
        check_step(found.spec, step, regime)
    return found


def _fetch(spec: NetSpec) -> Weights:
    known = {r.model: r for r in REFERENCE_MODELS if r.library == "torchvision"}
    reference = known.get(model_of(spec) or "")
    if reference is None:
        valid = ", ".join(name for name in known if name in MODELS)
        raise UsageError(
            f"torchvision has no weights of this step; it has those of {valid}: --step resnet, or "
            "--step downsample in either regime."
        )
    try:
        tensors = reference.fetch(FETCHED)
    except (OSError, RuntimeError) as error:  # no connection, or a file that is cut off
        raise FetchError(
            f"torchvision could not download the weights of {reference.name} ({error}). Fetch them "
            "on a computer with a connection, and give the file as --weights."
        ) from error
    return from_state_dict(tensors, spec)


def of_weights(source: str, data: Path, options: Options) -> Evaluated:
    """Evaluates weights on a folder of class folders.

    Images are prepared, and classes named, as in the run that trained the weights; for all other
    weights, as the paper prepares ImageNet's.

    Args:
        source: a file, a run's folder, or ``torchvision``.
        data: has a folder of images for each class.
        options: of the command.

    Raises:
        WeightsError: for weights that cannot be read, or belong to another step.
        FetchError: if torchvision cannot download its weights.
        DataError: for images that are missing, or have other classes.
        UsageError: for images that are too small for the network, or a network that takes no RGB.
    """
    found = find_weights(source, options.step, options.regime, ema=options.ema)
    spec = found.spec
    choice = preparation(source, spec, options.image_size, options.resize)
    if spec.in_channels != 3:
        raise UsageError(
            f"the network of {source} has {plural(spec.in_channels, 'image channel')}, and --data "
            "is read as RGB. Evaluate the run on its own images: evaluate STUDY --step STEP."
        )
    names = [str(name) for name in choice.classes or ()]
    images = list_validation(
        data, names or spec.num_classes, skip_bad_images=options.skip_bad_images
    )
    slot = find_slots(1)[0]
    workers = options.workers
    context = make_device_context(slot.device, _compute(options.precision or "fp32"))
    accuracy = evaluation.evaluate_weights(
        network_of(found),
        images,
        choice,
        context,
        batch_size=options.batch_size,
        workers=max(slot.threads // 2, 1) if workers is None else workers,
        skip_bad_images=options.skip_bad_images,
    )
    model, step = model_of(spec), step_of(spec)
    title = f"{model or 'A network'}{f' (step {step})' if step else ''}, weights: {source}"
    return Evaluated(
        title=title,
        accuracy=accuracy,
        classes=len(set(images.val_labels.tolist())),
        bad_images=len(images.val) - accuracy.images,
        known=("paper", printed(spec, choice.image_size)),
        context=context,
        details={
            "model": model,
            "step": step,
            "layout": found.layout.title,
            "image_size": choice.image_size,
            "resize": choice.resize,
            "mean": choice.mean,
            "std": choice.std,
        },
        notes=images.notes,
        prepared=describe(choice),
    )


def printed(spec: NetSpec, image_size: int) -> str:
    """Returns the paper's accuracies of a network at an image size, as text."""
    model = model_of(spec)
    found = []
    if model:
        found += paper.select(
            model=model, image_size=str(image_size), dataset="ImageNet-1K", metric="top1"
        )
    ignoring = (Role.INITIAL, Role.TRAINING)
    for regime in REGIMES.values():
        if image_size == regime.image_size:
            steps = [v.key for v in apply_steps(STEPS, regime) if not spec.diff(v.spec, ignoring)]
            table = paper.select(table=paper.TABLES.get(regime.name, ""), metric="top1")
            found += [value for value in table if value.step in steps]
    texts = [f"{v.printed} in Table {v.table}, trained on {v.pretraining}" for v in found]
    return "; ".join(dict.fromkeys(texts)) or f"none of this network at {image_size}"


def _compute(precision: str) -> Compute:
    return Compute(
        precision=precision,  # type: ignore[arg-type]  # the command allows no other
        channels_last=True,
        compile=False,
        tf32=False,
        workers="auto",
    )


def of_run(study: Study, data: str | None, options: Options) -> Evaluated:
    """Evaluates a finished run on its study's validation images, as during training.

    Args:
        study: that has the run.
        data: the folder of the images; None: the one of the preset.
        options: of the command.

    Raises:
        UsageError: if the study has no such run, or it is not finished or has no moving average.
        CustomLayersError: for a network whose custom layers are not loaded; the copy in the study
            is run only if the user asks for it.
    """
    step, seed = options.step, options.seed
    matching = [
        (run, folder) for _, run, folder in study.runs() if (run.key, run.seed) == (step, seed)
    ]
    if not matching:
        keys = dict.fromkeys(run.key for _, run, _ in study.runs())
        raise UsageError(
            f"the study {study.name} has no run of {step!r} with seed {seed}; it has the steps "
            f"{', '.join(keys)} and the seeds 0 to {study.seeds - 1}."
        )
    [(run, folder)] = matching
    folder.check_present()
    record = folder.record_or_fault()
    if options.ema and run.recipe.ema_decay is None:
        raise UsageError(
            f"{run.key}, seed {run.seed}, was trained without a moving average of the weights "
            "(its ema_decay is null); omit --ema."
        )
    task = make_task(run.task)
    spec = conversion.run_spec(folder.path)
    with conversion.hint_at_layers(folder.path / WEIGHTS):
        network = task.read(folder.path / WEIGHTS, spec, ema=options.ema)
    if (named := beside_weights(folder.path, "run")) not in (None, run.name):
        raise WeightsError(
            f"{folder.path / WEIGHTS} has the weights of another run, {named}. Restore those of "
            "this run, or delete its folder and launch the study again."
        )
    preset = study.preset
    if preset.data.runs_code and data is None:
        raise UsageError(
            f"the study {study.name} has a custom data set. Name its Python file with --data, "
            "which runs the file."
        )
    headline = task.metrics.headline
    known = record.metrics.get(headline.key) if isinstance(record, Record) else None
    if options.ema:
        known = next((row.get(headline.ema) for row in reversed(folder.read_metrics())), None)
    title = f"{run.key}, seed {run.seed}, of the study {study.name}"
    return _on_preset(
        task,
        network,
        preset,
        run.recipe,
        data,
        options,
        title=title + (", moving average of the weights" if options.ema else ""),
        known=("its record", fixed(known, 3) or "none"),
        details={"step": run.key, "seed": run.seed},
    )


def of_preset(source: str, preset: Preset, data: str | None, options: Options) -> Evaluated:
    """Evaluates a run's file of weights on the validation images of a preset.

    Args:
        source: the file, or the run's folder.
        preset: its task, head and images.
        data: the folder of the images; None: the one of the preset.
        options: of the command.

    Raises:
        WeightsError: for weights that cannot be read, or do not fit the preset's head.
        UsageError: for another number of classes than the images have.
    """
    file = conversion.file_of(Path(source))
    task, found = make_task(preset.task_choice), read_file(file, ema=options.ema)
    if not isinstance(found.spec, dict):
        raise WeightsError(
            f"{file} does not describe its network; --preset is for weights of this program's runs."
        )
    with conversion.hint_at_layers(file):
        spec = NetSpec.from_dict(found.spec)
        network = task.read(file, spec, ema=options.ema)
    return _on_preset(
        task,
        network,
        preset,
        preset.recipes.enhanced,
        data,
        options,
        title=f"{step_of(spec) or 'A network'}, weights: {source}"
        + (", moving average" if options.ema else ""),
        known=("known", "none"),
        details={"step": step_of(spec)},
        classes=spec.num_classes,
    )


def _on_preset(
    task: Task,
    network: nn.Module,
    preset: Preset,
    recipe: Recipe,
    data: str | None,
    options: Options,
    *,
    title: str,
    known: tuple[str, str],
    details: dict[str, Any],
    classes: int | None = None,
) -> Evaluated:
    """Evaluates a network on the validation images of a preset."""
    choice = preset.data.model_copy(update={"source": data} if data is not None else {})
    tests = task.tests(choice)
    if options.test is not None and options.test not in tests:
        raise UnknownNameError(f"test of {task.metrics.task}", options.test, tests or ["none"])
    images = task.load(choice, skip_bad_images=options.skip_bad_images)
    if classes not in (None, images.num_classes):
        raise UsageError(
            f"the weights have {plural(classes or 0, 'class')}, the images {images.num_classes}; "
            "name the preset that they were trained with."
        )
    slot = find_slots(1)[0]
    given = {"precision": options.precision} if options.precision else {}
    context = make_device_context(slot.device, preset.compute.model_copy(update=given))
    sampling = Sampling.of(recipe, len(images.train), options.seed)
    loaders = task.loaders(
        images,
        choice,
        recipe,
        sampling,
        context.device,
        preset.compute,
        threads=slot.threads,
        skip_bad_images=options.skip_bad_images,
    )
    validation: Any = loaders.validation
    if options.test is not None:
        validation.test = tests[options.test]
        title, details = f"{title}, test {options.test}", details | {"test": options.test}
    accuracy = task.evaluate(context.put(network), validation, context)
    return Evaluated(
        title=title,
        accuracy=accuracy,
        classes=images.num_classes,
        bad_images=len(images.val) - accuracy.images,
        known=known,
        context=context,
        details=details | {"image_size": choice.image_size},
        notes=images.notes,
    )
