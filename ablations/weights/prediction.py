"""The likeliest classes of images, by weights from a file, a run or torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablations.data.decoding import decode_image, explain
from ablations.data.images import DataError
from ablations.data.transforms import IMAGENET_MEAN, IMAGENET_STD, evaluation_transform
from ablations.devices import find_slots
from ablations.tables import Columns, Report
from ablations.training import evaluation
from ablations.units import percent
from ablations.weights.validation import find_weights
from modernize.errors import UsageError
from modernize.libraries import library
from modernize.weights import network_of


def predict(
    images: Sequence[Path],
    source: str,
    *,
    step: str | None,
    regime: str,
    ema: bool,
    data: Path | None,
    image_size: int,
    resize: int | None,
    top: int,
) -> Report:
    """Returns the likeliest classes of images and their probabilities, the likeliest first.

    Args:
        images: the files.
        source: a file of weights, a run's folder, or ``torchvision``.
        step: of the network; None: found from the weights.
        regime: of the step.
        ema: whether to use the moving average of the weights.
        data: a folder with a folder of images for each class, which names the classes. Without it
            only ImageNet's 1000 classes have names.
        image_size: height and width in pixels that the network sees.
        resize: as of :func:`~ablations.training.evaluation.imagenet_transform`.
        top: number of classes of each image.

    Raises:
        WeightsError, FetchError: as :func:`~ablations.weights.validation.find_weights`.
        DataError: for a file that is missing or no image, and as
            :func:`~ablations.training.evaluation.list_images`.
        UsageError: for a network without a head or for images that are not in colour, or an image
            size that is too small.
    """
    found = find_weights(source, step, regime, ema=ema)
    spec = found.spec
    spec.check_image_size(image_size)
    if spec.in_channels != len(IMAGENET_MEAN) or not spec.num_classes:
        raise UsageError(
            f"the network of {source} has {spec.in_channels} image channels and "
            f"{spec.num_classes} classes; predict needs 3 channels (RGB) and at least one class."
        )
    names = _class_names(spec.num_classes, data)
    prepare = evaluation_transform(evaluation.imagenet_transform(image_size, resize))
    device = find_slots(1)[0].device
    network = network_of(found).eval().to(device)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    rows: list[dict[str, Any]] = []
    for path in images:
        try:
            pixels = np.asarray(prepare(decode_image(str(path))))
        except Exception as error:  # a decoder may raise any
            raise DataError(f"{path} cannot be read: {explain(error)}.") from error
        x = (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - mean) / std
        with torch.inference_mode():
            probabilities = network(x[None].to(device))[0].softmax(0)
        values, classes = probabilities.topk(min(top, spec.num_classes))
        for rank, (value, index) in enumerate(zip(values.tolist(), classes.tolist(), strict=True)):
            row = {"image": str(path), "rank": rank + 1, "class": index, "name": names[index]}
            rows.append({**row, "probability": value})
    texts = [
        {**{key: str(value or "") for key, value in row.items()}, "class": str(row["class"]),
         "probability": percent(100 * row["probability"], 2)}
        for row in rows
    ]  # fmt: skip
    columns = Columns(("rank", "class", "probability"), wrapped={"name": 12})
    return Report(rows, texts, columns)


def _class_names(count: int, data: Path | None) -> Sequence[str | None]:
    """Returns the name of each class; None: unknown."""
    if data is not None:
        return evaluation.list_images(data, count).classes
    info = library("timm.data").ImageNetInfo("imagenet-1k")
    if count == len(info.label_names()):
        return [info.index_to_description(index) for index in range(count)]
    return [None] * count
