"""The likeliest classes of images, by weights from a file, a run or torchvision."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageChops

from ablations.choices import DataChoice
from ablations.data.decoding import decode_image, explain
from ablations.data.image_folder import list_validation
from ablations.data.images import DataError
from ablations.data.transforms import evaluation_transform
from ablations.devices import find_slots
from ablations.tables import Columns, Report
from ablations.units import percent
from ablations.weights.preparation import preparation
from ablations.weights.validation import find_weights
from modernize.libraries import library
from modernize.text import few
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
        image_size: as for :func:`~ablations.weights.preparation.preparation`.
        resize: the same.
        top: number of classes of each image.

    Raises:
        WeightsError, FetchError: as :func:`~ablations.weights.validation.find_weights`.
        WeightsError, UsageError: as :func:`~ablations.weights.preparation.preparation`.
        DataError: for a file that is missing or no image, and as
            :func:`~ablations.data.image_folder.list_validation`.
    """
    found = find_weights(source, step, regime, ema=ema)
    spec = found.spec
    choice = preparation(source, spec, image_size, resize)
    names = _class_names(spec.num_classes, choice, data)
    prepare = evaluation_transform(choice)
    device = find_slots(1)[0].device
    network = network_of(found).eval().to(device)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (choice.mean, choice.std))
    rows: list[dict[str, Any]] = []
    made_grey = []
    for path in images:
        image = read_image(path)
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


def read_image(path: Path) -> Image.Image:
    """Returns an image as RGB.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return decode_image(str(path))
    except Exception as error:  # a decoder may raise any
        raise DataError(f"{path} cannot be read: {explain(error)}.") from error


def _class_names(count: int, choice: DataChoice, data: Path | None) -> Sequence[str | None]:
    """Returns the name of each class; None: unknown."""
    names: Sequence[str | None] = [None] * count
    if data is not None:
        names = list_validation(data, count).classes
    elif choice.classes is not None:
        names = [str(name) for name in choice.classes]
    if not any(name and re.fullmatch(r"n\d{8}", name) for name in names):
        return names
    info = library("timm.data").ImageNetInfo("imagenet-22k")
    known = set(info.label_names())
    return [info.label_name_to_description(n) if n in known else n for n in names]
