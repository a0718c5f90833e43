"""Presets and recipes: what a study trains on, and how.

A preset is a YAML file: a regime, a data set and two recipes, ``classic`` for the roadmap's first
row and ``enhanced`` for all others. It is checked whole; every fault is reported at once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from modernize.errors import UnknownNameError, UsageError
from modernize.spec import Init, NetSpec
from modernize.steps import REGIMES, Training

PRESETS = Path(__file__).parent / "presets"

Key: TypeAlias = tuple[str | int, ...]
Rate: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
NonNegative: TypeAlias = Annotated[float, Field(ge=0)]
Count: TypeAlias = Annotated[int, Field(gt=0)]


class _Table(BaseModel):
    """A part of a preset: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Recipe(_Table):
    """How one network is trained.

    Attributes:
        optimizer: ``sgd`` (with ``momentum``) or ``adamw`` (with ``betas``).
        learning_rate: the peak, for updates of ``batch_size`` images.
        momentum, betas: of the optimizer; exactly the one it has must be given.
        weight_decay: on weights of two or more dimensions; biases, norms and Layer Scale have none.
        batch_size: images per update.
        epochs: passes over the training images.
        warmup_epochs: linear rise of the learning rate from 0.
        schedule: ``cosine`` to ``final_learning_rate``, or ``step``: a tenth at each third of the
            epochs (as 30, 60 of 90).
        final_learning_rate: where ``cosine`` ends; 0 for ``step``, which does not use it.
        label_smoothing: share of each label spread over all classes.
        crop_padding: pixels of padding around an image before a random crop of its own size.
        flip: probability of a horizontal flip.
        drop_path: stochastic depth of the last block.
        layer_scale: initial Layer Scale of every step it trains; null: as the step has it.
        init: initial weights of convolutions.
    """

    optimizer: Literal["sgd", "adamw"]
    learning_rate: Positive
    momentum: Rate | None = None
    betas: Annotated[list[Rate], Field(min_length=2, max_length=2)] | None = None
    weight_decay: NonNegative
    batch_size: Count
    epochs: Count
    warmup_epochs: NonNegative
    schedule: Literal["cosine", "step"]
    final_learning_rate: NonNegative = 0.0
    label_smoothing: Rate
    crop_padding: Annotated[int, Field(ge=0)]
    flip: Annotated[float, Field(ge=0, le=1)]
    drop_path: Rate
    layer_scale: NonNegative | None = None
    init: Literal["framework", "kaiming", "trunc-normal"]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wanted, other = ("momentum", "betas") if self.optimizer == "sgd" else ("betas", "momentum")
        if getattr(self, wanted) is None:
            raise ValueError(f"optimizer {self.optimizer} needs {wanted}")
        if getattr(self, other) is not None:
            raise ValueError(f"optimizer {self.optimizer} has no {other}; take it out")
        if self.schedule == "step" and self.final_learning_rate:
            raise ValueError("schedule step has no final_learning_rate; take it out")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs, {self.epochs}")
        return self

    def apply_to(self, spec: NetSpec) -> NetSpec:
        """Returns the spec with what this recipe says of the network itself."""
        spec = spec.replace(drop_path=self.drop_path, init=Init(self.init))
        return spec if self.layer_scale is None else spec.replace(layer_scale=self.layer_scale)

    def learning_rate_at(self, iteration: int, iterations_per_epoch: int) -> float:
        """Returns the learning rate of one update, counted from 0 over the whole run."""
        warmup = self.warmup_epochs * iterations_per_epoch
        total = self.epochs * iterations_per_epoch
        if iteration < warmup:
            return self.learning_rate * iteration / warmup
        if self.schedule == "step":
            return float(self.learning_rate * 0.1 ** (3 * iteration // total))
        progress = (iteration - warmup) / (total - warmup)
        low = self.final_learning_rate
        return low + (self.learning_rate - low) * 0.5 * (1 + math.cos(math.pi * progress))


class Recipes(_Table):
    """The two recipes of a preset; a step's row says which one trains it."""

    classic: Recipe
    enhanced: Recipe

    def of(self, training: Training) -> Recipe:
        """Returns the recipe of this name."""
        return self.classic if training is Training.CLASSIC else self.enhanced


class DataChoice(_Table):
    """Which images.

    Attributes:
        name: the data set.
        source: ``embedded``, the subset shipped here; ``on-disk``, the full set where this machine
            has it; or a folder.
        image_size: height and width in pixels that the network sees.
    """

    name: Literal["fashion-mnist"]
    source: str
    image_size: Annotated[int, Field(ge=32)]


class Preset(_Table):
    """A whole experiment but for the steps and the number of seeds.

    Attributes:
        title: one line for the head of tables and charts.
        regime: the default regime.
        data: the images.
        recipes: how they are learnt.
    """

    title: str
    regime: Literal[tuple(REGIMES)]  # type: ignore[valid-type]
    data: DataChoice
    recipes: Recipes


def preset_names() -> list[str]:
    """Returns the names of the presets shipped here."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str, settings: Sequence[str] = ()) -> Preset:
    """Returns a preset with some keys set otherwise.

    Args:
        name: a shipped preset's name, or the path of a YAML file.
        settings: ``key=value`` texts; a key is a path such as ``recipes.enhanced.epochs`` or
            ``data.image_size``. A recipe's key alone, such as ``epochs``, means both recipes.

    Raises:
        UsageError: naming every fault at once, with file and line where there is one.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PRESETS / f"{name}.yaml"
    if not path.is_file():
        raise UnknownNameError("preset", name, [*preset_names(), "or the path of a .yaml file"])
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} is not a preset: it must be a mapping with {_keys(Preset)}.")
    places: dict[Key, str] = {key: f"{path.name}, line {line}" for key, line in lines.items()}
    for setting in settings:
        places.update(dict.fromkeys(_apply(setting, values), f"--set {setting}"))
    try:
        return Preset.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explain(error, path, places)) from None


def _apply(setting: str, values: dict[str, Any]) -> list[Key]:
    """Puts one ``key=value`` into the values and returns the keys it set."""
    name, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"--set {setting}: write it as key=value, such as epochs=3.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {setting}: {text!r} is no value that YAML can read.") from None
    if isinstance(value, str):  # YAML 1.1 takes 1e-3 for text
        with contextlib.suppress(ValueError):
            value = float(value)
    asked = tuple(name.split("."))
    keys = [key for key in _leaf_keys() if asked == key or asked in _short_forms(key)]
    if not keys:
        names = dict.fromkeys(".".join((_short_forms(key) or [key])[-1]) for key in _leaf_keys())
        raise UnknownNameError("key", name, names)
    keys = [key for key in keys if _get(values, key) is not None] or keys
    for key in keys:
        _get(values, key[:-1])[key[-1]] = value
    return list(keys)


def _leaf_keys() -> list[tuple[str, ...]]:
    recipes = [("recipes", r, k) for r in Recipes.model_fields for k in Recipe.model_fields]
    return [*recipes, *(("data", k) for k in DataChoice.model_fields), ("title",), ("regime",)]


def _short_forms(key: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A recipe's key may be given from the recipe's name on, or alone for both recipes."""
    return [key[1:], key[2:]] if key[0] == "recipes" else []


def _get(values: Any, key: Sequence[str]) -> Any:
    for part in key:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _keys(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _lines(node: yaml.Node | None, key: Key = ()) -> dict[Key, int]:
    """Returns the line of every key of a YAML document."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    lines: dict[Key, int] = {}
    for name, value in node.value:
        lines[*key, name.value] = name.start_mark.line + 1
        lines |= _lines(value, (*key, name.value))
    return lines


def _explain(error: ValidationError, path: Path, places: Mapping[Key, str]) -> str:
    faults = []
    for fault in error.errors():
        loc = fault["loc"]
        place = next((places[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in places), "")
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            model: Any = Preset
            for part in loc[:-1]:
                model = model.model_fields[str(part)].annotation
            message = str(UnknownNameError("key", loc[-1], model.model_fields))
        elif fault["type"] == "missing":
            message = "this key is missing"
        elif isinstance(fault["input"], str | int | float | None):
            message += f", not {fault['input']!r}"
        faults.append(f"  {place or path.name}: {'.'.join(map(str, loc))}: {message}")
    return "\n".join([f"the preset {path.stem!r} has {len(faults)} fault(s):", *faults])
