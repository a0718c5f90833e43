"""YAML files that people write: read safely, checked whole, every fault named with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from modernize.errors import UnknownNameError, UsageError
from modernize.text import plural

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
        faults = [(tuple(fault["loc"]), _message(fault, kind)) for fault in error.errors()]
    raise refusal(faults, name, places, otherwise)


def refusal(
    faults: Sequence[tuple[Key, str]], name: str, places: Mapping[Key, str], otherwise: str
) -> UsageError:
    """Returns the error that names all faults, each with the place of its key.

    Args:
        faults: key and message of each.
        name: of the whole, for the message.
        places: where each key was given.
        otherwise: the place of a key that stands nowhere.
    """
    lines = [
        f"  {_place(key, places) or otherwise}: {'.'.join(map(str, key))}: {message}"
        for key, message in faults
    ]
    return UsageError("\n".join([f"{name} has {plural(len(faults), 'fault')}:", *lines]))


def _place(key: Key, places: Mapping[Key, str]) -> str:
    """Returns where a key stands, or else what it is part of."""
    return next((places[key[:n]] for n in range(len(key), 0, -1) if key[:n] in places), "")


def _lines(node: yaml.Node | None, key: Key = ()) -> dict[Key, int]:
    """Returns the line of every key, and every item of a list, of a YAML document."""
    lines: dict[Key, int] = {}
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            lines[*key, name.value] = name.start_mark.line + 1
            lines |= _lines(value, (*key, name.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[*key, index] = value.start_mark.line + 1
            lines |= _lines(value, (*key, index))
    return lines


def _message(fault: Any, kind: type[BaseModel]) -> str:
    """Returns what is wrong, in our words."""
    if fault["type"] == "extra_forbidden":
        model = _table_at(kind, fault["loc"][:-1])
        keys = [field.alias or name for name, field in model.model_fields.items()]
        return str(UnknownNameError("key", fault["loc"][-1], keys))
    if fault["type"] == "missing":
        return "this key is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    given = isinstance(fault["input"], str | int | float | None)
    return f"{message}, not {fault['input']!r}" if given else message


def _table_at(kind: Any, key: Key) -> type[BaseModel]:
    """Returns the table that a key leads to, through lists, mappings and what may be null."""
    for part in key:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:  # the last type of list[X], dict[str, X]
            kind = get_args(kind)[-1]
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]
    table: type[BaseModel] = kind
    return table
