"""Layers of one's own: one Python file that adds to what a field of a NetSpec may name.

The file defines any of three dictionaries, from names to what makes a layer, mostly classes::

    ACTIVATIONS    name: () -> module, (N, C, H, W) -> the same shape
    NORMS          name: (width) -> module, (N, width, H, W) -> the same shape
    SPATIAL_CONVS  name: (width, kernel_size, stride, bias) -> module,
                   (N, width, H, W) -> (N, width, H / stride, W / stride)

``nn.Conv2d`` and ``nn.Linear`` in them are initialised as everywhere in the network; all else stays
as the constructor leaves it. A norm of one's own is taken to leave convolutions their biases.

Reading such a file runs it. It is therefore read only where a person names it, or in a study that
they launched; never because a file of weights speaks of it. A network holds on to the file's
content: :class:`~modernize.spec.CustomLayer` carries its digest, and no other file will do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from modernize.errors import LayersError, RoadmapError, UnknownNameError
from modernize.files import read_bytes
from modernize.spec import CustomLayer, field_types

if TYPE_CHECKING:
    from torch import nn

TABLES = {"activation": "ACTIVATIONS", "norm": "NORMS", "spatial_conv": "SPATIAL_CONVS"}
"""The fields that may name a layer of one's own, and the dictionary that has it."""

_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclasses.dataclass(frozen=True, eq=False)
class Layers:
    """What one Python file adds.

    Attributes:
        path: where the file lay.
        content: its bytes as they were run.
        tables: field -> name -> what makes the layer.
    """

    path: Path
    content: bytes
    tables: Mapping[str, Mapping[str, Callable[..., Any]]]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name the content."""
        return digest_of(self.content)

    def named(self, field: str, name: str) -> CustomLayer:
        """Returns the layer that a field names.

        Raises:
            UnknownNameError: listing what the field may name.
        """
        if name not in self.tables[field]:
            raise UnknownNameError(field, name, [*builtin(field), *self.tables[field]])
        return CustomLayer(name, self.digest)


def digest_of(content: bytes) -> str:
    """Returns 16 hexadecimal digits that name a file's content."""
    return hashlib.sha256(content).hexdigest()[:16]


def load_layers(path: Path, digest: str | None = None) -> Layers:
    """Runs a Python file and returns the layers it defines.

    Args:
        path: of the file.
        digest: what its content must be; None: whatever it is.

    Raises:
        LayersError: where it cannot be read, is not that content, fails, or defines no layer.
    """
    try:
        content = read_bytes(path)
        content.decode()  # as it is copied into a study
    except OSError as error:
        raise LayersError(f"layers {path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise LayersError(f"layers {path} are no text in UTF-8: {error}.") from error
    if digest not in (None, digest_of(content)):
        raise LayersError(
            f"{path} is not the file of layers that this network was planned with: its content is "
            f"{digest_of(content)}, not {digest}."
        )
    return _run(path, content)


def make_layer(layers: Layers | None, field: str, own: CustomLayer, *arguments: Any) -> nn.Module:
    """Returns a layer of one's own.

    Args:
        layers: the file that has it.
        field: what it is to the network: one of :data:`TABLES`.
        own: which it is.
        arguments: of its constructor.

    Raises:
        LayersError: without the file, with another one, or where the layer cannot be made.
    """
    if layers is None or own.digest != layers.digest:
        other = f"; {layers.path.name} is another file ({layers.digest})" if layers else ""
        raise LayersError(
            f"this network's {field} is {own.name}, a layer of the Python file with the content "
            f"{own.digest}; it can only be built where that file is given{other}."
        )
    make = layers.tables[field].get(own.name)
    if make is None:
        raise LayersError(f"{layers.path.name} has no {own.name} in {TABLES[field]}.")
    from torch import nn

    called = f"{TABLES[field]}[{own.name!r}]({', '.join(map(repr, arguments))})"
    with guarded(layers.path, f"{layers.path.name}: {called} fails"):
        layer = make(*arguments)
    if not isinstance(layer, nn.Module):
        raise LayersError(
            f"{layers.path.name}: {TABLES[field]}[{own.name!r}] makes a {type(layer).__name__}; "
            "it must make a torch.nn.Module."
        )
    return layer


@contextlib.contextmanager
def guarded(path: Path, failing: str) -> Iterator[None]:
    """Makes a :class:`LayersError` of whatever the code in a file of layers raises.

    That includes ``SystemExit``, which would end a command without a word. Only Ctrl-C passes,
    unless it is the file that raises ``KeyboardInterrupt``.

    Args:
        path: of the file.
        failing: how the error begins.
    """
    try:
        yield
    except RoadmapError:
        raise
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        of_file = last.filename == str(path) and "KeyboardInterrupt" in (last.line or "")
        if isinstance(error, KeyboardInterrupt) and not of_file:
            raise
        raise LayersError(f"{failing}: {_explain(error, path)}") from error


@functools.lru_cache(maxsize=32)
def _run(path: Path, content: bytes) -> Layers:
    """Runs exactly these bytes, once a process: what is hashed is what is run."""
    module = types.ModuleType(f"own_layers_{digest_of(content)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # as import does; dataclasses look themselves up there
    try:
        with guarded(path, f"layers {path} fail"):
            exec(compile(content, str(path), "exec"), module.__dict__)  # noqa: S102  # as import does
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    tables = {field: getattr(module, table, {}) for field, table in TABLES.items()}
    faults = [fault for field in tables for fault in _faults(field, tables[field])]
    if not faults and not any(tables.values()):
        faults = [f"it defines none of {', '.join(TABLES.values())}"]
    if faults:
        raise LayersError(f"layers {path}: " + "; ".join(faults) + ".")
    return Layers(path, content, {field: dict(table) for field, table in tables.items()})


def builtin(field: str) -> list[str]:
    """Returns what a field may name without a file."""
    return list(get_args(field_types()[field])[0])


def _faults(field: str, table: Any) -> list[str]:
    """Returns what is wrong with one of the dictionaries."""
    if not isinstance(table, dict):
        return [f"{TABLES[field]} is no dictionary"]
    faults = []
    for name, make in table.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            faults.append(f"{TABLES[field]} has {name!r}; write names as in star-relu")
        elif name in builtin(field):
            faults.append(
                f"{TABLES[field]} has {name!r}, which there is already; call it otherwise"
            )
        elif not callable(make):
            faults.append(f"{TABLES[field]}[{name!r}] is no class or function")
    return faults


def _explain(error: BaseException, path: Path) -> str:
    """Returns an error in one line, with the line of the file that it came from."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    try:
        text = (str(error).splitlines() or [""])[0]
    except Exception:  # of the error's own __str__
        text = "its text cannot be shown"
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line else "")
