"""YAML files that people write: read safely, checked whole, every fault named with its line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from modernize.errors import UnknownNameError, UsageError

Key: TypeAlias = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class Table(BaseModel):
    """A mapping in such a file: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def read(path: Path, kind: type[BaseModel], what: str) -> tuple[dict[str, Any], dict[Key, str]]:
    """Returns what a file holds, and where each of its keys stands.

    Args:
        path: of the file.
        kind: what it shall become.
        what: that, in words.

    Raises:
        UsageError: where it cannot be read, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        keys = ", ".join(kind.model_fields)
        raise UsageError(f"{path} is not a {what}: it must be a mapping with {keys}.")
    return values, {key: f"{path.name}, line {line}" for key, line in lines.items()}


def check(
    values: Mapping[str, Any],
    kind: type[Model],
    name: str,
    places: Mapping[Key, str],
    otherwise: str,
) -> Model:
    """Returns the values as a model.

    Args:
        values: what was read.
        kind: the model.
        name: of the whole, for the message.
        places: where each key was given.
        otherwise: the place of a key that stands nowhere.

    Raises:
        UsageError: naming every fault at once.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explain(error, kind, name, places, otherwise)) from None


def _lines(node: yaml.Node | None, key: Key = ()) -> dict[Key, int]:
    """Returns the line of every key of a YAML document."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    lines: dict[Key, int] = {}
    for name, value in node.value:
        lines[*key, name.value] = name.start_mark.line + 1
        lines |= _lines(value, (*key, name.value))
    return lines


def _explain(
    error: ValidationError,
    kind: type[BaseModel],
    name: str,
    places: Mapping[Key, str],
    otherwise: str,
) -> str:
    faults = []
    for fault in error.errors():
        loc = fault["loc"]
        place = next((places[loc[:n]] for n in range(len(loc), 0, -1) if loc[:n] in places), "")
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            model: Any = kind
            for part in loc[:-1]:
                model = model.model_fields[str(part)].annotation
            message = str(UnknownNameError("key", loc[-1], model.model_fields))
        elif fault["type"] == "missing":
            message = "this key is missing"
        elif isinstance(fault["input"], str | int | float | None):
            message += f", not {fault['input']!r}"
        faults.append(f"  {place or otherwise}: {'.'.join(map(str, loc))}: {message}")
    return "\n".join([f"{name} has {len(faults)} fault(s):", *faults])
