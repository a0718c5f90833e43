"""The likeliest classes of images, by weights from a file, a run or torchvision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageChops
from pydantic import ValidationError

from ablations.choices import DataChoice
from ablations.data.decoding import decode_image, explain
from ablations.data.images import DataError
from ablations.data.transforms import IMAGENET_MEAN, IMAGENET_STD, evaluation_transform
from ablations.devices import find_slots
from ablations.records.files import reason_of
from ablations.tables import Columns, Report
from ablations.training import evaluation
from ablations.training.checkpoint import beside_weights
from ablations.units import percent
from ablations.weights.validation import find_weights
from modernize.errors import UsageError, WeightsError
from modernize.libraries import library
from modernize.spec import NetSpec
from modernize.text import few, plural
from modernize.weights import network_of


def predict(
    images: Sequence[Path],
    source: str,
    *,
    step: str | None,
    regime: str,
    ema: bool,
    data: Path | None,
    image_size: int | None,
    resize: int | None,
    top: int,
) -> Report:
    """Returns the likeliest classes of images and their probabilities, the likeliest first.

    The weights of a run say how its images are prepared, and name its classes. With all
    other weights, images are prepared as ImageNet's, and only its 1000 classes have names.

    Args:
        images: the files.
        source: a file of weights, a run's folder, or ``torchvision``.
        step: of the network; None: found from the weights.
        regime: of the step.
        ema: whether to use the moving average of the weights.
        data: a folder with a folder of images for each class, which names the classes.
        image_size: height and width in pixels that the network sees; None: the run's, or 224.
        resize: pixels of the shorter side before the centre crop; None: the run's, in proportion to
            ``image_size``, or as of :func:`~ablations.training.evaluation.imagenet_transform`.
        top: number of classes of each image.

    Raises:
        WeightsError, FetchError: as :func:`~ablations.weights.validation.find_weights`.
        DataError: for a file that is missing or no image, and as
            :func:`~ablations.training.evaluation.list_images`.
        UsageError: for a network without a head or with other channels than images have, or an
            image size that is too small.
    """
    found = find_weights(source, step, regime, ema=ema)
    spec = found.spec
    of_run = _images_of_run(source, spec)
    size = image_size or (of_run.image_size if of_run else 224)
    spec.check_image_size(size)
    choice = (
        _resized(of_run, size, resize) if of_run else evaluation.imagenet_transform(size, resize)
    )
    values = (choice.mean or IMAGENET_MEAN, choice.std or IMAGENET_STD)
    if spec.in_channels != len(values[0]) or not spec.num_classes:
        raise UsageError(
            f"the network of {source} has {plural(spec.in_channels, 'image channel')} and "
            f"{plural(spec.num_classes, 'class')}; predict needs at least one class and 3 channels "
            "(RGB), or the weights of a run of this program."
        )
    names = _class_names(spec.num_classes, of_run, data)
    prepare = evaluation_transform(choice)
    device = find_slots(1)[0].device
    network = network_of(found).eval().to(device)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in values)
    rows: list[dict[str, Any]] = []
    made_grey = []
    for path in images:
        image = _read(path)
        if spec.in_channels == 1:
            grey = image.convert("L")
            if ImageChops.difference(image, grey.convert("RGB")).getbbox():
                made_grey.append(path)
            image = grey
        pixels = torch.from_numpy(np.atleast_3d(np.array(prepare(image)))).permute(2, 0, 1)
        x = (pixels / 255 - mean) / std
        with torch.inference_mode():
            probabilities = network(x[None].to(device))[0].softmax(0)
        highest, classes = probabilities.topk(min(top, spec.num_classes))
        for rank, (value, index) in enumerate(zip(highest.tolist(), classes.tolist(), strict=True)):
            row = {"image": str(path), "rank": rank + 1, "class": index, "name": names[index]}
            rows.append({**row, "probability": value})
    texts = [
        {**{key: str(value or "") for key, value in row.items()}, "class": str(row["class"]),
         "probability": percent(100 * row["probability"], 2)}
        for row in rows
    ]  # fmt: skip
    columns = Columns(("rank", "class", "probability"), wrapped={"name": 12})
    notes = [f"Turned to grey, because the network has one image channel: {few(made_grey)}."]
    return Report(rows, texts, columns, notes=notes if made_grey else ())


def _images_of_run(source: str, spec: NetSpec) -> DataChoice | None:
    """Returns how a run's images are prepared; None for weights that are not of a run.

    Raises:
        WeightsError: if the values in the file are not valid or do not fit the network.
    """
    written = None if source == "torchvision" else beside_weights(Path(source), "images")
    if written is None:
        return None
    try:
        choice = DataChoice.model_validate(written)
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


def _read(path: Path) -> Image.Image:
    """Returns an image as RGB.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return decode_image(str(path))
    except Exception as error:  # a decoder may raise any
        raise DataError(f"{path} cannot be read: {explain(error)}.") from error


def _class_names(count: int, of_run: DataChoice | None, data: Path | None) -> Sequence[str | None]:
    """Returns the name of each class; None: unknown."""
    if data is not None:
        return evaluation.list_images(data, count).classes
    names: Sequence[str | None] = [None] * count
    if of_run is not None and of_run.classes is not None:
        names = [str(name) for name in of_run.classes]
    elif of_run is None and count == len(evaluation.synsets()):
        names = evaluation.synsets()
    if not any(name and re.fullmatch(r"n\d{8}", name) for name in names):
        return names
    info = library("timm.data").ImageNetInfo("imagenet-22k")
    known = set(info.label_names())
    return [info.label_name_to_description(n) if n in known else n for n in names]
