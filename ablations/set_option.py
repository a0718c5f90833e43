"""The option ``--set KEY=VALUE``, which replaces a value of a preset."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ablations import yaml_core
from ablations.yaml_core import Key
from ablations.yaml_file import SET, Table
from modernize.errors import UnknownNameError, UsageError


def apply(setting: str, values: dict[str, Any], table: type[Table]) -> list[Key]:
    """Sets one ``key=value`` in the values of a table, and returns the keys that were set."""
    name, equals, text = setting.partition("=")
    if not equals:
        raise UsageError(f"{SET}{shortened(setting)}: write it as key=value, such as epochs=3.")
    asked = tuple(name.split("."))
    types = _leaf_types(table)
    keys = [key for key in types if asked == key or asked in _short_forms(key)]
    if not keys:
        names = dict.fromkeys(".".join(map(str, (_short_forms(key) or [key])[-1])) for key in types)
        raise UnknownNameError("key", name, names)
    try:
        value = _value(text, types[keys[0]])
    except ValueError as error:
        raise UsageError(f"{SET}{shortened(setting)}: {error}.") from None
    keys = [key for key in keys if get(values, key) is not None] or keys
    for key in keys:
        if isinstance(part := get(values, key[:-1]), dict):
            part[key[-1]] = value
    return list(keys)


def shortened(text: str) -> str:
    """Returns a setting for a message."""
    return text if len(text) <= 80 else f"{text[:80]}..."


def _value(text: str, types: set[Any]) -> Any:
    """Returns the value of a text for a key with these types.

    If the key takes only text, the text is not parsed as YAML.
    """
    if types == {str}:
        return text
    if types == {str, NoneType}:
        return None if yaml_core.scalar(text) is None else text
    if types & {list, dict} and text.lstrip().startswith(("[", "{")):
        return yaml_core.parse(text).values
    return yaml_core.scalar(text.strip(" \t"))


def _leaf_types(table: type[Table], prefix: Key = ()) -> dict[Key, set[Any]]:
    """Returns the keys of a table and the tables in it, with the types of their values."""
    leaves: dict[Key, set[Any]] = {}
    for name, field in table.model_fields.items():
        kind, key = field.annotation, (*prefix, name)
        if isinstance(kind, type) and issubclass(kind, Table):
            leaves |= _leaf_types(kind, key)
        else:
            leaves[key] = _types(kind)
    return leaves


def _types(kind: Any) -> set[Any]:
    """Returns the plain types that an annotation consists of."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _types(arguments[0])
    if origin is Literal:
        return {type(value) for value in arguments}
    if origin in (Union, UnionType):
        return set().union(*map(_types, arguments))
    return {origin or kind}


def _short_forms(key: Key) -> list[Key]:
    """Returns a recipe's key without "recipes", and without the recipe's name (for both)."""
    return [key[1:], key[2:]] if key[0] == "recipes" else []


def get(values: Any, key: Key) -> Any:
    """Returns the value of a key; None if there is none."""
    for part in key:
        values = values.get(part) if isinstance(values, dict) else None
    return values
