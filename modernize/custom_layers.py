"""Custom layers: Python files of the user with additional values for some fields of a NetSpec.

Such a file defines any of three dictionaries, from names to classes or functions::

    ACTIVATIONS    name: () -> module, (N, C, H, W) -> the same shape
    NORMS          name: (width) -> module, (N, width, H, W) -> the same shape
    SPATIAL_CONVS  name: (width, kernel_size, stride, bias) -> module,
                   (N, width, H, W) -> (N, width, H / stride, W / stride)

``nn.Conv2d`` and ``nn.Linear`` in them get their initial weights as everywhere in the network; all
else stays as the constructor leaves it. With a custom norm, convolutions keep their biases.

To load such a file is to run it. :func:`load_custom_layers` is the only way to do so, and is called
only for a file that the user names and for the copy in a study that the user launches. It adds the
file to a registry, by the digest of its content. A :class:`~modernize.spec.CustomLayer` has the
same digest, so that a network finds its layers there, and only there: a file of weights can name a
layer, but cannot load it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from modernize.errors import CustomLayersError, UnknownNameError
from modernize.spec import CustomLayer, field_types
from modernize.user_code import digest_of, read_code, reporting_errors, run_code

if TYPE_CHECKING:
    from torch import nn

    from modernize.spec import NetSpec

TABLES = {"activation": "ACTIVATIONS", "norm": "NORMS", "spatial_conv": "SPATIAL_CONVS"}
"""The fields that may name a custom layer, and the dictionary that defines it."""

KIND = "file of custom layers"  # in messages
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclasses.dataclass(frozen=True, eq=False)
class CustomLayersFile:
    """A Python file of custom layers that was run.

    Attributes:
        path: where the file was.
        content: its bytes as they were run.
        tables: field -> name -> class or function that makes the layer.
    """

    path: Path
    content: bytes
    tables: Mapping[str, Mapping[str, Callable[..., Any]]]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the content."""
        return digest_of(self.content)

    def named(self, field: str, name: str) -> CustomLayer:
        """Returns the layer of this name.

        Raises:
            UnknownNameError: listing the valid names of the field.
        """
        if name not in self.tables[field]:
            raise UnknownNameError(field, name, [*builtin_names(field), *self.tables[field]])
        return CustomLayer(name, self.digest)


_loaded: dict[str, CustomLayersFile] = {}
"""The registry: digest -> file. Entries are only added, and one digest has one content."""


def load_custom_layers(path: Path, digest: str | None = None) -> CustomLayersFile:
    """Runs a Python file and registers its layers; a content that is registered is not run again.

    Args:
        path: of the file.
        digest: of the content that is expected; None: any.

    Raises:
        CustomLayersError: if the file cannot be read, has another content, fails, or defines no
            layer.
    """
    content = read_code(path, KIND, CustomLayersError)
    found = digest_of(content)
    if digest not in (None, found):
        raise CustomLayersError(
            f"{path} is not the file of custom layers that this network was planned with: the "
            f"digest of its content is {found}, not {digest}."
        )
    if found not in _loaded:
        _loaded[found] = _run(path, content)
    return _loaded[found]


def loaded_files(spec: NetSpec) -> list[CustomLayersFile]:
    """Returns the files of a network's custom layers, as far as this process has loaded them."""
    digests = {layer.digest for layer in spec.custom_layers.values()}
    return [_loaded[digest] for digest in digests if digest in _loaded]


def make_custom_layer(field: str, layer: CustomLayer, *arguments: Any) -> nn.Module:
    """Returns a new custom layer.

    Args:
        field: the field of the network that names it: one of :data:`TABLES`.
        layer: its name and the digest of its file.
        arguments: of its constructor.

    Raises:
        CustomLayersError: if its file is not loaded, does not define it, or fails to make it.
    """
    file = _loaded.get(layer.digest)
    if file is None:
        others = ", ".join(f"{f.path.name} ({digest})" for digest, f in _loaded.items())
        raise CustomLayersError(
            f"this network's {field} is {layer.name}, a custom layer of the Python file with the "
            f"digest {layer.digest}; load that file first"
            + (f" (loaded now: {others})." if others else ".")
        )
    make = file.tables[field].get(layer.name)
    if make is None:
        raise CustomLayersError(f"{file.path.name} has no {layer.name} in {TABLES[field]}.")
    from torch import nn

    call = f"{TABLES[field]}[{layer.name!r}]({', '.join(map(repr, arguments))})"
    start = f"{file.path.name}: {call} fails"
    with reporting_errors(file.path, start, CustomLayersError):
        module = make(*arguments)
    if not isinstance(module, nn.Module):
        raise CustomLayersError(
            f"{file.path.name}: {TABLES[field]}[{layer.name!r}] returns a {type(module).__name__}; "
            "it must return a torch.nn.Module."
        )
    return module


@contextlib.contextmanager
def running(spec: NetSpec, action: str) -> Iterator[None]:
    """Reports an exception in a network with custom layers as a :class:`CustomLayersError`.

    Args:
        spec: the network; without custom layers, exceptions pass unchanged.
        action: what is done with it, such as "be run on an image of 32 pixels".
    """
    files = loaded_files(spec)
    if not files:
        yield
        return
    named = ", ".join(f"{field} {layer.name}" for field, layer in spec.custom_layers.items())
    start = f"the network with {named} cannot {action}"
    with reporting_errors(files[0].path, start, CustomLayersError):
        yield


def _run(path: Path, content: bytes) -> CustomLayersFile:
    """Runs these bytes, and returns the layers that they define."""
    module = run_code(path, content, KIND, CustomLayersError)
    tables = {field: getattr(module, table, {}) for field, table in TABLES.items()}
    faults = [fault for field in tables for fault in _faults(field, tables[field])]
    if not faults and not any(tables.values()):
        faults = [f"it defines none of {', '.join(TABLES.values())}"]
    if faults:
        raise CustomLayersError(f"the file of custom layers {path}: {'; '.join(faults)}.")
    return CustomLayersFile(path, content, {field: dict(table) for field, table in tables.items()})


def builtin_names(field: str) -> list[str]:
    """Returns the valid names of a field without custom layers."""
    return list(get_args(field_types()[field])[0])


def _faults(field: str, table: Any) -> list[str]:
    """Returns the faults of one of the dictionaries."""
    if not isinstance(table, dict):
        return [f"{TABLES[field]} is not a dictionary"]
    faults = []
    for name, make in table.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            faults.append(f"{TABLES[field]} has {name!r}; write names like star-relu")
        elif name in builtin_names(field):
            faults.append(f"{TABLES[field]} has {name!r}, which is built in; choose another name")
        elif not callable(make):
            faults.append(f"{TABLES[field]}[{name!r}] is not a class or function")
    return faults
