"""Schemas of the files of a study; each file is checked when it is read.

A file may have more values than its schema, if another version of this program wrote it, except for
records, variants and archived runs: there an unknown value may change the meaning of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, create_model

from ablations.metrics import EMA, METRICS
from modernize.steps import REGIMES

LATEST = 253402300799  # in seconds since 1970: the last second of the year 9999
MOST = 10**15

Count = Annotated[int, Field(strict=True, ge=0, le=MOST)]
Positive = Annotated[int, Field(strict=True, ge=1, le=MOST)]
Number = Annotated[float, Field(strict=True)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=LATEST)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=150, pattern=r"^[^/\x00]+$")]


ClassRow = Mapping[str, str | Percent | None]
"""The ``name`` of a class, and its part in some metrics by their keys."""


def _no_more_than_all(counts: tuple[int, int]) -> tuple[int, int]:
    if counts[0] > counts[1]:
        raise ValueError("more right images than images")
    return counts


class _Schema(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _AnyEpoch(_Schema):
    epoch: Positive
    train_loss: Number | None = None
    val_loss: Number | None = None
    learning_rate: Number | None = None
    ema_val_loss: Number | None = None


_MEASURED: dict[str, Any] = {
    f"{prefix}{key}": (Percent | None, None) for prefix in ("", EMA) for key in METRICS
}
_Epoch = create_model("_Epoch", __base__=_AnyEpoch, **_MEASURED)


class _Example(_Schema):
    number: Count
    image: str
    true: dict[str, Any]
    predicted: dict[str, Any]


class _Examples(_Schema):
    classes: list[str]
    images: list[_Example]


class _Event(_Schema):
    event: str
    time: Seconds = 0


class _Progress(_Schema):
    epoch: Count = 0
    epochs: Count = 0
    fraction: Fraction = 0
    seconds: Seconds = 0
    updated: Seconds = 0


class _Config(_Schema):
    spec: dict[str, Any]


class _SourceCommit(_Schema):
    commit: str | None
    dirty: bool | None


class _Provenance(_Schema):
    threads: Count = 0
    processes: Count = 0
    packages: dict[str, Any] = {}
    commit: str | None = None
    dirty: bool | None = None
    bad_images: Count = 0
    changes: list[dict[str, Any]] = []
    started: Seconds = 0
    ended: Seconds = 0


class _ClosedSchema(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


Counts = tuple[Count, Positive]
"""The number of images that are classified correctly, and of all images."""


class _Tallies(_ClosedSchema):
    key: str
    about: dict[str, str]
    parts: dict[str, Annotated[Counts, Field(strict=False), AfterValidator(_no_more_than_all)]]


class _Archived(_ClosedSchema):
    run: Name
    record: dict[str, Any]
    metrics: list[_Epoch]  # type: ignore[valid-type]  # a model made of METRICS
    tallies: _Tallies | None = None


class _Images(_Schema):
    name: str
    train_images: Positive
    val_images: Count


class _Variant(_ClosedSchema):
    key: Name
    title: str
    section: str
    adopted: bool
    parent: str | None
    spec: dict[str, Any]
    training: str
    recipe: dict[str, Any]
    start: dict[str, Any] | None = None


class _StartFile(_ClosedSchema):
    path: str
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    ema: bool


class _Manifest(_Schema):
    study: str = ""
    title: str = ""
    order: list[str] = []
    parents: dict[str, str | None] = {}
    sections: list[str] = []
    preset: dict[str, Any]
    regime: Annotated[str, Field(pattern=f"^({'|'.join(REGIMES)})$")]
    images: _Images
    variants: Annotated[list[_Variant], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1, le=10**6)]
    files: dict[str, str] = {}
    starts: dict[str, list[_StartFile]] = {}
    custom_costs: dict[str, Annotated[list[Count], Field(min_length=2, max_length=2)]] = {}


TALLIES = TypeAdapter(_Tallies)
OBJECT = TypeAdapter(dict[str, Any])
EPOCH = TypeAdapter(_Epoch)
EVENT = TypeAdapter(_Event)
EXAMPLES = TypeAdapter(_Examples)
PROGRESS = TypeAdapter(_Progress)
CONFIG = TypeAdapter(_Config)
SOURCE_COMMIT = TypeAdapter(_SourceCommit)
PROVENANCE = TypeAdapter(_Provenance)
ARCHIVED = TypeAdapter(_Archived)
MANIFEST = TypeAdapter(_Manifest)
