"""How images are prepared for weights: as in the run that trained them, or as ImageNet's."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ablations.choices import DataChoice
from ablations.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from ablations.records.files import reason_of
from ablations.training.checkpoint import beside_weights
from ablations.training.evaluation import imagenet_transform, synsets
from modernize.errors import UsageError, WeightsError
from modernize.spec import NetSpec
from modernize.text import plural


def preparation(
    source: str, spec: NetSpec, image_size: int | None, resize: int | None
) -> DataChoice:
    """Returns how images are prepared, with mean and standard deviation; and the classes, if known.

    Args:
        source: a file of weights, a run's folder, or ``torchvision``.
        spec: the network of the weights.
        image_size: height and width in pixels that the network sees; None: the run's, or 224.
        resize: pixels of the shorter side before the centre crop; None: the run's, in proportion to
            ``image_size``, or as of :func:`~ablations.training.evaluation.imagenet_transform`.

    Raises:
        WeightsError: if the values in the file are not valid or do not fit the network.
        UsageError: for an image size that is too small, or a network without a head or with
            other channels than the images have.
    """
    of_run = _of_run(source, spec)
    channels = spec.in_channels if of_run else len(IMAGENET_MEAN)
    if spec.in_channels != channels or not spec.num_classes:
        raise UsageError(
            f"the network of {source} has {plural(spec.in_channels, 'image channel')} and "
            f"{plural(spec.num_classes, 'class')}; there must be at least one class and 3 channels "
            "(RGB), or the weights of a run of this program."
        )
    size = image_size or (of_run.image_size if of_run else 224)
    spec.check_image_size(size)
    if of_run:
        return _resized(of_run, size, resize)
    names = synsets()
    known = {
        "mean": [*IMAGENET_MEAN],
        "std": [*IMAGENET_STD],
        "classes": names if spec.num_classes == len(names) else None,
    }
    return imagenet_transform(size, resize).model_copy(update=known)


def _of_run(source: str, spec: NetSpec) -> DataChoice | None:
    """Returns how a run's images are prepared; None for weights that are not of a run."""
    written = None if source == "torchvision" else beside_weights(Path(source), "images")
    if written is None:
        return None
    names = written.get("classes") if isinstance(written, dict) else None
    one = names if isinstance(names, list) and len(names) == 1 else None  # of a detector
    try:
        choice = DataChoice.model_validate({**written, "classes": None} if one else written)
        choice = choice.model_copy(update={"classes": one}) if one else choice
        wanted = {"mean": spec.in_channels, "std": spec.in_channels}
        if choice.classes is not None:
            wanted["classes"] = spec.num_classes
        reason = "".join(
            f"{name} does not have {plural(count, 'value')}; "
            for name, count in wanted.items()
            if len(getattr(choice, name) or ()) != count
        )
    except ValidationError as error:
        reason = reason_of(error)
    if reason:
        raise WeightsError(
            f"{source} describes the preparation of its images incorrectly "
            f"({reason.removesuffix('; ')}); train the run again."
        )
    return choice


def _resized(choice: DataChoice, size: int, resize: int | None) -> DataChoice:
    """Returns the preparation for another image size, in proportion if ``resize`` is None."""
    shorter: int | str | None = resize or choice.resize
    if resize is None and isinstance(shorter, int):
        shorter = max(round(shorter * size / choice.image_size), 1)
    return choice.model_copy(update={"image_size": size, "resize": shorter})


def describe(choice: DataChoice) -> str:
    """Returns a preparation as text."""
    size = choice.image_size
    before = f"resized to {choice.resize}, " if isinstance(choice.resize, int) else ""
    cut = "resized" if choice.resize == "warp" else "centre"
    mean, std = (
        ", ".join(f"{v:.3g}" for v in values or ()) for values in (choice.mean, choice.std)
    )
    return f"{before}{cut} {size} x {size}; mean {mean}; standard deviation {std}"
