"""The choices of a preset besides its recipes: images, computation and starting weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ablations import limits
from ablations.data_sets import WITH_KEYWORDS
from ablations.value_types import DataName, Fraction, Probability, Rate
from ablations.yaml_file import Table, Text

SOURCES = ("embedded", "on-disk", "download")  # any other data.source is a folder


class DataChoice(Table):
    """The data set, and how its images are prepared.

    Attributes:
        name: the data set: one of :data:`ablations.data_sets.NAMES`.
        source: ``embedded``, the subset in this package; ``on-disk``, the full set on this
            machine; ``download``, by torchvision; or a folder or file.
        validation: about this fraction of the training images is used for validation, and no
            others; 0: there is no validation, and runs have no accuracy; null: the data set has
            validation images.
        image_size: height and width in pixels that the network sees.
        resize: pixels of the shorter side before the centre crop of an evaluation; ``warp``: the
            whole image becomes a square of ``image_size``; null: images are padded or cropped, not
            resized.
        interpolation: how images are resized for classification; for other tasks it is not
            allowed, and they are resized bilinearly.
        mean, std: of each channel, of pixels from 0 to 1; null: measured on the training images.
        classes: only images of these classes, by name or number; null: all.
        limit: only this many training and validation images, evenly spaced; null: all.
    """

    name: DataName
    source: str
    validation: Rate | None = None
    image_size: Annotated[int, Field(ge=32, le=limits.PIXELS)]
    resize: Annotated[int, Field(gt=0, le=limits.PIXELS)] | Literal["warp"] | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: list[Probability] | None = None
    std: list[Fraction] | None = None
    classes: Annotated[list[Text | int], Field(min_length=2)] | None = None
    limit: Annotated[int, Field(gt=0, le=limits.IMAGES)] | None = None

    @property
    def is_path(self) -> bool:
        """Whether ``source`` is a folder or file, not one of the :data:`SOURCES`."""
        return self.name not in WITH_KEYWORDS or self.source not in SOURCES

    @property
    def runs_code(self) -> bool:
        """Whether ``source`` is a Python file, which is run."""
        return self.name == "custom"


class Compute(Table):
    """How a network is computed: this decides speed and, except for rounding, not the result.

    Attributes:
        precision: of convolutions and products in training; ``auto``: bf16 if the device has
            instructions for it (a GPU from compute capability 8.0 on); otherwise fp16 on a
            GPU and fp32 on a CPU.
        channels_last: whether the memory format of tensors is (N, H, W, C).
        compile: whether ``torch.compile`` is used.
        tf32: whether fp32 products on a GPU may round to TF32.
        workers: processes that decode and augment images; ``auto``: one for each CPU thread of
            the run.
    """

    precision: Literal["auto", "fp32", "bf16", "fp16"]
    channels_last: bool
    compile: bool
    tf32: bool
    workers: Literal["auto"] | Annotated[int, Field(ge=0, le=limits.PROCESSES)]


class Start(Table):
    """The weights that runs start from: of a file, or of the runs of a study.

    It is also written as one text: the file, or ``study:NAME``.

    Attributes:
        file: of weights in any layout that can be read, or the folder of a finished run.
        study: its name, or its folder; each run starts from the run of its own step and seed.
        ema: whether from the moving average of the weights; by default, from the last weights.
    """

    file: Text | None = None
    study: Text | None = None
    ema: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        study = value.removeprefix("study:").strip()
        return {"file": value} if study == value.strip() else {"study": study}

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        if bool(self.file) == bool(self.study):
            raise ValueError("give one of file and study")
        return self

    @property
    def text(self) -> str:
        """It as one text, which does not say ``ema``."""
        return self.file or f"study:{self.study}"
