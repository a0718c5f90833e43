"""Types of values in presets and recipes, with the checks that they need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field

from ablations import limits
from ablations.data_sets import NAMES
from ablations.metrics import TASKS
from modernize.errors import UnknownNameError
from modernize.models import MODELS
from modernize.steps import REGIMES

DEFAULT = "default"
"""Instead of a regime or model: all that have no value."""
# timm asserts some of this, and silently ignores the rest, such as "inc" for "inc1".
RAND_AUGMENT = re.compile(
    r"rand(-(m\d{1,3}|n[1-9]\d?|p(0|1|0?\.\d{1,9}|1\.0{1,9})|mstd\d{1,3}(\.\d{1,9})?"
    r"|mmax[1-9]\d{0,2}|inc[01]"
    r"|t(weights|3aw|3a)))*"
)


def _one_of(kind: str, names: Iterable[str]) -> AfterValidator:
    """Returns the check that a value is one of the names of a kind."""
    known = list(names)

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(str(UnknownNameError(kind, name, known)))
        return name

    return AfterValidator(check)


def _known_to_timm(text: str) -> str:
    if not RAND_AUGMENT.fullmatch(text):
        raise ValueError(
            "RandAugment is written as rand-m9-mstd0.5-inc1, with any of m, n, p, mstd, mmax, inc "
            "and t (weights, 3a, 3aw) and their values"
        )
    return text


TaskName: TypeAlias = Annotated[str, _one_of("task", TASKS)]
DataName: TypeAlias = Annotated[str, _one_of("data set", NAMES)]
Rate: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
RandAugment: TypeAlias = Annotated[str, AfterValidator(_known_to_timm)]
RegimeName: TypeAlias = Annotated[str, _one_of("regime", REGIMES)]
ModelName: TypeAlias = Annotated[str, _one_of("model", MODELS)]
SizeName: TypeAlias = Annotated[str, _one_of("regime or model", [*REGIMES, *MODELS, DEFAULT])]
Fraction: TypeAlias = Annotated[float, Field(gt=0, le=1)]
Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0, le=limits.FACTOR)]
NonNegative: TypeAlias = Annotated[float, Field(ge=0, le=limits.FACTOR)]
BatchSize: TypeAlias = Annotated[int, Field(gt=0, le=limits.BATCH)]
Epochs: TypeAlias = Annotated[int, Field(gt=0, le=limits.EPOCHS)]
Iterations: TypeAlias = Annotated[int, Field(gt=0, le=limits.ITERATIONS)]
Seeds: TypeAlias = Annotated[int, Field(gt=0, le=limits.SEEDS)]
