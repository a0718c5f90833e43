"""YAML files that users write: read safely, checked whole, every fault named with its line."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from ablations import yaml_core
from ablations.paths import expand
from ablations.yaml_core import Key
from modernize.errors import UnknownNameError, UsageError
from modernize.files import read_bytes
from modernize.text import plural, shortened

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 2**18  # of a file; reading it takes a second
ENDINGS = (".yaml", ".yml")
SET = "--set "


def _in_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("this is not UTF-8") from None
    return text


Text: TypeAlias = Annotated[str, AfterValidator(_in_unicode)]


class Table(BaseModel):
    """A mapping in a YAML file: immutable, without unknown keys or silent conversions.

    Attributes:
        example: of such a mapping, for messages; empty: its keys are named instead.
    """

    example: ClassVar[str] = ""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Values of a table that conflict with each other.

    Attributes:
        keys: of the values.
        message: what is wrong, with the values.
        fixes: for a key of these: another key, and a value of it that fits.
    """

    keys: Sequence[str]
    message: str
    fixes: Mapping[str, tuple[str, object]] = dataclasses.field(default_factory=dict)


class ConflictError(ValueError):
    """Raised by a table's validator: all conflicts between its values."""

    def __init__(self, conflicts: Iterable[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__("; ".join(conflict.message for conflict in self.conflicts))


def is_file_name(name: str) -> bool:
    """Whether a name means a file, rather than something that ships with this program."""
    return name.lower().endswith(ENDINGS)


def find(name: str, folder: Path, what: str) -> Path:
    """Returns a file that is shipped under this name, or the path that the name is.

    Args:
        name: of the file in ``folder``, without its ending; or a path that ends in ``.yaml``.
        folder: of the shipped files.
        what: the kind of file, for the message.

    Raises:
        UsageError: if there is no such file.
    """
    names = shipped_names(folder)
    if name in names:
        return folder / f"{name}.yaml"
    if not is_file_name(name):
        raise UnknownNameError(what, name, [*names, "or the path of a .yaml file"])
    path = Path(expand(name))
    if not os.path.lexists(path):
        raise UsageError(f"there is no {what} file {str(path)!r}; shipped are {', '.join(names)}.")
    return path


def shipped_names(folder: Path) -> list[str]:
    """Returns the names of the YAML files in a folder of this program."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_text(path: Path) -> str:
    """Returns the text of a file that a user wrote.

    Raises:
        UsageError: if it cannot be read: not a regular file, too large, or not in UTF-8.
    """
    try:
        raw = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path.name}, line {line}: this is not UTF-8; save {path} so.") from None


def read(path: Path, kind: type[BaseModel], what: str) -> tuple[dict[str, Any], dict[Key, str]]:
    """Returns the content of a file, and the location of each of its keys.

    Args:
        path: of the file.
        kind: the model of its content.
        what: the kind of file, for the message.

    Raises:
        UsageError: if it cannot be read, or is not a mapping.
    """
    try:
        document = yaml_core.parse(read_text(path))
    except yaml_core.YamlError as error:
        lines = [f"  {path.name}, line {line}: {message}" for line, message in error.faults]
        raise UsageError("\n".join([f"{path} cannot be read as YAML:", *lines])) from None
    if not isinstance(document.values, dict):
        keys = ", ".join(kind.model_fields)
        raise UsageError(f"{path} is not a {what}: it must be a mapping with {keys}.")
    return document.values, {k: f"{path.name}, line {n}" for k, n in document.lines.items()}


def check(
    values: Mapping[str, Any],
    kind: type[Model],
    name: str,
    locations: Mapping[Key, str],
    default: str,
) -> Model:
    """Returns the values as a model.

    Args:
        values: what was read.
        kind: the model.
        name: of the whole, for the message.
        locations: where each key was given.
        default: the location of a key that is not in the file.

    Raises:
        UsageError: naming every fault at once.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found = faults(error, values, kind, locations)
    raise faults_error(found, name, locations, default)


def faults_error(
    faults: Sequence[tuple[Key, str]], name: str, locations: Mapping[Key, str], default: str
) -> UsageError:
    """Returns the error that names all faults, each with the location of its key.

    Args:
        faults: key and message of each.
        name: of the whole, for the message.
        locations: where each key was given.
        default: the location of a key that is not in the file.
    """
    lines = [
        ": ".join(
            [
                f"  {_location(key, locations) or default}",
                *[".".join(map(str, key))] * bool(key),
                text,
            ]
        )
        for key, text in faults
    ]
    return UsageError("\n".join([f"{name} has {plural(len(faults), 'fault')}:", *lines]))


def _location(key: Key, locations: Mapping[Key, str]) -> str:
    """Returns the location of a key, or if it is not in the file, of the part it belongs to."""
    return next((locations[key[:n]] for n in range(len(key), 0, -1) if key[:n] in locations), "")


def faults(
    error: ValidationError, values: object, kind: type[BaseModel], locations: Mapping[Key, str]
) -> list[tuple[Key, str]]:
    """Returns key and message of each fault that pydantic found, in this program's words."""
    messages: dict[Key, list[str]] = {}
    for found in error.errors():
        key = _key(found["loc"], values, missing=found["type"] == "missing")
        cause = found.get("ctx", {}).get("error")
        if isinstance(cause, ConflictError):
            for conflict in cause.conflicts:
                name, message = _conflict(key, conflict, locations)
                messages.setdefault(name, []).append(message)
        else:
            messages.setdefault(key, []).append(_message(found, kind))
    return [(key, "; or ".join(dict.fromkeys(texts))) for key, texts in messages.items()]


def _key(location: Key, values: Any, *, missing: bool) -> Key:
    """Returns the key of a fault, without the parts that pydantic adds for alternative types."""
    key: list[str | int] = []
    for part in location:
        known = isinstance(values, dict) and part in values
        known |= isinstance(values, list) and part in range(len(values))
        if known:
            values = values[part]
        if known or (missing and part == location[-1]):
            key.append(part)
    return tuple(key)


def _conflict(table: Key, conflict: Conflict, locations: Mapping[Key, str]) -> tuple[Key, str]:
    """Returns the key at fault, if possible one of the command line, and a message with a fix."""
    where = {key: _location((*table, key), locations) for key in conflict.keys}
    blamed = next((key for key in conflict.keys if where[key].startswith(SET)), conflict.keys[0])
    message = conflict.message
    others = [
        f"{key} is given in {location}"
        for key, location in where.items()
        if key != blamed and (*table, key) in locations
    ]
    if others:
        message += f" ({'; '.join(others)})"
    if blamed in conflict.fixes:
        other, value = conflict.fixes[blamed]
        if where[blamed].startswith(SET):
            asked = where[blamed].removeprefix(SET).partition("=")[0]
            prefix = asked.removesuffix(blamed)
            instead = " instead" if where.get(other, "").startswith(SET) else ""
            message += f"; add {SET}{prefix}{other}={value}{instead}"
        else:
            message += f"; {other}: {value} would do"
    return (*table, blamed), message


def _message(fault: Any, kind: type[BaseModel]) -> str:
    """Returns the message of a fault, in this program's words."""
    if fault["type"] == "extra_forbidden":
        model = _table_at(kind, fault["loc"][:-1])
        keys = [field.alias or name for name, field in model.model_fields.items()]
        return str(UnknownNameError("key", fault["loc"][-1], keys))
    if fault["type"] == "missing":
        return "this key is missing"
    if fault["type"] in ("model_type", "list_type", "dict_type"):
        return f"this is {show(fault['input'])}; {_right_form(fault, kind)}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "bool_type":
        message = "write true or false"
    value = fault["input"]
    if message.endswith(".") or not (value is None or isinstance(value, str | int | float)):
        return message
    quotes = fault["type"] == "string_type" and value is not None
    return f"{message}, not {show(value)}{': put it in quotes' if quotes else ''}"


def _right_form(fault: Any, kind: type[BaseModel]) -> str:
    """Returns how to write a list or a mapping where something else was given."""
    what = "a list" if fault["type"] == "list_type" else "a mapping"
    if fault["type"] == "model_type":
        model = _table_at(kind, fault["loc"])
        example = (
            getattr(model, "example", "")
            or f"{{{', '.join(f'{k}: ...' for k in model.model_fields)}}}"
        )
    else:
        table = _table_at(kind, fault["loc"][:-1])
        field = getattr(table, "model_fields", {}).get(str(fault["loc"][-1]))
        example = (getattr(field, "examples", None) or [""])[0]
    return f"write {what}" + (f", such as {example}" if example else "")


def show(value: object) -> str:
    """Returns a value for a message, shortened if it is long."""
    return shortened(repr(value))


def _table_at(kind: Any, key: Key) -> type[BaseModel]:
    """Returns the table that a key leads to, through lists, mappings and optional values."""
    for part in key:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:  # the last type of list[X], dict[str, X]
            kind = get_args(kind)[-1]
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]
    table: type[BaseModel] = kind
    return table
