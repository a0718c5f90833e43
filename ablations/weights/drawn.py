"""Pictures of the objects or the classes of pixels that a run's network finds in images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.choices import Compute
from ablations.devices import find_slots
from ablations.heads import HEADS
from ablations.tables import Columns, Report
from ablations.tasks import drawing
from ablations.tasks.registry import make_task
from ablations.training.checkpoint import beside_weights
from ablations.training.device_context import make_device_context
from ablations.units import fixed
from ablations.weights.conversion import hint_at_layers
from ablations.weights.prediction import read_image
from ablations.weights.preparation import preparation
from ablations.weights.validation import check_step
from modernize.errors import UsageError, WeightsError
from modernize.files import make_folder, write_bytes
from modernize.spec import NetSpec
from modernize.text import few

if TYPE_CHECKING:
    from ablations.tasks.task import Task

LEAST_SIDE = 640  # pixels of the longer side of a picture; smaller images are enlarged
SUFFIX = ".predicted.png"


def task_of(source: str) -> Task | None:
    """Returns the task of a run's weights if it draws pictures; None for all other weights.

    Args:
        source: a file of weights, a run's folder, or ``torchvision``.
    """
    choice = None if source == "torchvision" else beside_weights(Path(source), "task")
    if not isinstance(choice, dict) or choice.get("head") not in HEADS.get(
        str(choice.get("name")), {}
    ):
        return None
    return make_task(choice)


def predict(
    images: Sequence[Path],
    source: str,
    task: Task,
    *,
    step: str | None,
    regime: str,
    ema: bool,
    image_size: int | None,
    resize: int | None,
    score: float,
    output: Path | None,
) -> Report:
    """Writes pictures of the predictions of a network for images, and returns these as rows.

    Args:
        images: the files.
        source: a file of a run's weights, or the run's folder.
        task: of the run, which draws pictures.
        step: of the network, which is checked; None: any.
        regime: of the step.
        ema: whether to use the moving average of the weights.
        image_size: as for :func:`~ablations.weights.preparation.preparation`.
        resize: pixels of the shorter side that the network sees; None: the run's, in proportion to
            ``image_size``.
        score: of detections, at least.
        output: folder of the pictures; None: each is next to its image.

    Raises:
        WeightsError: for weights that cannot be read, or that are not of this step.
        UsageError: for an image size that is too small, or two images with one picture.
        DataError: for a file that is missing or no image.
        UnwritableFileError: for a picture that cannot be written.
    """
    shows = task.pictures
    if shows is None:
        raise ValueError(f"{task.metrics.task} draws no pictures")
    spec = _spec(source)
    if step is not None:
        check_step(spec, step, regime)
    choice = preparation(source, spec, image_size, resize)
    classes = [str(name) for name in choice.classes or ()]
    targets = {path: (output or path.parent) / f"{path.stem}{SUFFIX}" for path in images}
    for target, count in Counter(targets.values()).items():
        if count > 1:
            raise UsageError(f"{count} images have the picture {target}; draw them one by one.")
    context = make_device_context(find_slots(1)[0].device, _FP32)
    file = Path(source) / "weights.pt" if Path(source).is_dir() else Path(source)
    network = context.put(task.read(file, spec, ema=ema))
    loader = shows.preparation(choice, context.device)
    rows: list[dict[str, Any]] = []
    without = []
    for path, target in targets.items():
        pixels = np.array(read_image(path))
        found = shows.predict(network, loader, pixels, context).above(score)
        picture = found.draw(pixels, classes, max(LEAST_SIDE, *pixels.shape[:2]))
        if output:
            make_folder(output)
        write_bytes(target, drawing.png(found.with_legend(picture, classes)))
        new = [{"image": str(path), **row} for row in found.rows(classes)]
        without += [] if new else [path]
        rows += [{**row, "picture": str(target)} for row in new]
    texts = [
        {name: _text(name, value) for name, value in row.items() if name != "picture"}
        for row in rows
    ]
    notes = [f"Nothing with a score of {score:g} or more: {few(without)}."] if without else []
    notes += [f"Wrote {target}" for target in targets.values()]
    numbers = [name for name, value in next(iter(rows), {}).items() if not isinstance(value, str)]
    columns = Columns(numbers, wrapped={"image": 16, "class": 12})
    return Report(rows, texts, columns, notes=notes)


_FP32 = Compute(precision="fp32", channels_last=True, compile=False, tf32=False, workers=0)


def _spec(source: str) -> NetSpec:
    """Returns the network that a file of a run's weights describes."""
    values = beside_weights(Path(source), "spec")
    with hint_at_layers(Path(source)):
        if isinstance(values, dict):
            return NetSpec.from_dict(values)
    raise WeightsError(f"{source} does not describe its network; train the run again.")


def _text(name: str, value: Any) -> str:
    return fixed(value, 2 if name == "score" else 1) if isinstance(value, float) else str(value)
