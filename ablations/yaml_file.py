"""YAML files that people write: read safely, checked whole, every fault named with its line."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from ablations import yaml_core
from ablations.paths import expand
from ablations.yaml_core import Key
from modernize.errors import UnknownNameError, UsageError
from modernize.files import read_bytes
from modernize.text import plural

Model = TypeVar("Model", bound=BaseModel)

MOST_BYTES = 2**18  # of a file: a second's reading
ENDINGS = (".yaml", ".yml")
SET = "--set "
_SHOWN = 80  # characters of a value in a message


def _in_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("this is not UTF-8") from None
    return text


Text: TypeAlias = Annotated[str, AfterValidator(_in_unicode)]


class Table(BaseModel):
    """A mapping in such a file: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclasses.dataclass(frozen=True)
class Misfit:
    """Values of a table that do not fit together.

    Attributes:
        keys: of the values.
        message: what is wrong, with the values.
        cures: for a key of these: another key, and the value of it that would fit.
    """

    keys: Sequence[str]
    message: str
    cures: Mapping[str, tuple[str, object]] = dataclasses.field(default_factory=dict)


class MisfitError(ValueError):
    """Raised by a table's validator: all that does not fit together in it."""

    def __init__(self, misfits: Iterable[Misfit]) -> None:
        self.misfits = tuple(misfits)
        super().__init__("; ".join(misfit.message for misfit in self.misfits))


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
        UsageError: where there is no such file.
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
    """Returns the text of a file that a person wrote.

    Raises:
        UsageError: where it cannot be read: no regular file, too large, or not in UTF-8.
    """
    try:
        raw = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path.name}, line {line}: this is not UTF-8; save {path} so.") from None


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
        faults = [fault for found in error.errors() for fault in _faults(found, kind, places)]
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


def _faults(found: Any, kind: type[BaseModel], places: Mapping[Key, str]) -> list[tuple[Key, str]]:
    """Returns key and message of what pydantic found, in our words."""
    key: Key = tuple(found["loc"])
    error = found.get("ctx", {}).get("error")
    if isinstance(error, MisfitError):
        return [_misfit(key, misfit, places) for misfit in error.misfits]
    return [(key, _message(found, kind))]


def _misfit(table: Key, misfit: Misfit, places: Mapping[Key, str]) -> tuple[Key, str]:
    """Returns the key to blame, one from the command line before others, and what to do."""
    stands = {key: _place((*table, key), places) for key in misfit.keys}
    blamed = next((key for key in misfit.keys if stands[key].startswith(SET)), misfit.keys[0])
    message = misfit.message
    others = [
        f"{key} is given in {place}"
        for key, place in stands.items()
        if key != blamed and (*table, key) in places
    ]
    if others:
        message += f" ({'; '.join(others)})"
    if blamed in misfit.cures:
        other, value = misfit.cures[blamed]
        if stands[blamed].startswith(SET):
            asked = stands[blamed].removeprefix(SET).partition("=")[0]
            prefix = asked.removesuffix(blamed)
            instead = " in its place" if stands.get(other, "").startswith(SET) else ""
            message += f"; add {SET}{prefix}{other}={value}{instead}"
        else:
            message += f"; {other}: {value} would do"
    return (*table, blamed), message


def _message(fault: Any, kind: type[BaseModel]) -> str:
    """Returns what is wrong, in our words."""
    if fault["type"] == "extra_forbidden":
        model = _table_at(kind, fault["loc"][:-1])
        keys = [field.alias or name for name, field in model.model_fields.items()]
        return str(UnknownNameError("key", fault["loc"][-1], keys))
    if fault["type"] == "missing":
        return "this key is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "bool_type":
        message = "write true or false"
    value = fault["input"]
    if not (value is None or isinstance(value, str | int | float)):
        return message
    quotes = fault["type"] == "string_type" and value is not None
    return f"{message}, not {show(value)}{': put it in quotes' if quotes else ''}"


def show(value: object) -> str:
    """Returns a value as it stands in a message, shortened where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


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
