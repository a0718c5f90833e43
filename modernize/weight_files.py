"""Files of named tensors: torch's own format, old and new, and safetensors.

The first bytes of a file determine its format. No file can run code, or use more memory than a few
times its size. Checksums are verified in torch's new format and in safetensors files that this
module wrote; other safetensors files and torch's old format have none.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from modernize.errors import UsageError, WeightsError
from modernize.files import ADVICE, UnwritableFileError, atomic_write
from modernize.weight_checks import (
    InvalidFileError,
    PythonObjectError,
    check_header,
    check_old_format,
    check_zip,
)

TORCH_SUFFIXES = (".pth", ".pt")
SAFETENSORS_SUFFIX = ".safetensors"

_ZIP = b"PK\x03\x04"  # first bytes of torch's new format
# Usual keys of a state dict, and of its moving average.
_WRAPPERS = ("model", "state_dict", "network", "model_state_dict", "net", "module")
_AVERAGES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")
_REREAD = "Fetch or save it again, or name another file."


class FileContent(NamedTuple):
    """The content of a file.

    Attributes:
        tensors: all values of its state dict by name, also those that are not tensors.
        spec: its description of the network, as of ``NetSpec.to_dict``; None if it has none.
    """

    tensors: dict[str, Any]
    spec: Any


def read_file(path: Path, *, ema: bool = False) -> FileContent:
    """Returns the content of a file, with tensors on the CPU, memory-mapped if possible.

    Args:
        path: written by ``torch.save`` or safetensors. The state dict may be under one of the usual
            keys: ``model``, ``state_dict`` or ``network``.
        ema: whether to read the moving average of the weights.

    Raises:
        WeightsError: if the file is missing, damaged, not a checkpoint, or contains more than
            tensors and plain values.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; name the file of weights in it.")
    if not path.is_file():
        there = f"{path} is not a regular file" if path.exists() else f"there is no file {path}"
        raise WeightsError(f"{there}; check the spelling.")
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    mapped = head.startswith(_ZIP)
    if head[8:] == b"{" and not mapped:
        return _read_safetensors(path, ema=ema)
    return _unwrap(path, _load(path, mapped=mapped), ema=ema)


def _read_safetensors(path: Path, *, ema: bool) -> FileContent:
    if ema:
        raise WeightsError(f"{path} has one set of weights and no moving average; omit ema.")
    try:
        with path.open("rb") as start:
            check_header(start)
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = file.metadata() or {}
        if said.get("sha256", None) not in (None, digest(tensors)):
            raise InvalidFileError("its tensors do not match its checksum")
        return FileContent(tensors, json.loads(said["spec"]) if "spec" in said else None)
    except Exception as error:  # a damaged file may lead to any
        raise _damaged(path, error) from error


def _load(path: Path, *, mapped: bool) -> Any:
    """Returns the content of a ``torch.save`` file: tensors, containers and plain values."""
    try:
        check = check_zip if mapped else check_old_format
        check(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about an unusual pickle
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except PythonObjectError as error:
        raise WeightsError(
            f"{path} contains a Python object ({error}), which could run code when read; only "
            "tensors and plain values are read. If you trust its source, save only its state dict "
            "with torch.save, and read that."
        ) from error
    except Exception as error:  # a damaged file may lead to any
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = type(error).__name__
    if isinstance(error, RuntimeError | safetensors.SafetensorError) and str(error):
        reason = str(error).splitlines()[0].partition(". ")[0].removesuffix(".")
    size = f"{path.stat().st_size:,} bytes" if path.exists() else "gone"
    return WeightsError(
        f"{path} is not a complete file of weights ({size}; {reason}): damaged, truncated, or "
        f"neither torch's format nor safetensors. {_REREAD}"
    )


def _unwrap(path: Path, loaded: Any, *, ema: bool) -> FileContent:
    """Returns the state dict in the content of a file."""
    found, averages = loaded, False
    if isinstance(loaded, Mapping):
        averages = any(isinstance(loaded.get(key), Mapping) for key in _AVERAGES)
        if ema and not averages:
            raise WeightsError(f"{path} has no moving average of the weights; omit ema.")
        found = _within(loaded, _AVERAGES) if ema else loaded
        for _ in range(2):  # one wrapper may be in another
            found = _within(found, _WRAPPERS)
    if isinstance(found, Mapping) and any(isinstance(v, Tensor) for v in found.values()):
        spec = None if found is loaded else loaded.get("spec")
        return FileContent({str(name): value for name, value in found.items()}, spec)
    hint = " It has a moving average of the weights; read that with ema." if averages else ""
    raise WeightsError(
        f"{path} has no state dict (tensors by name), neither alone nor under one of "
        f"{', '.join(_WRAPPERS)}.{hint} {_REREAD}"
    )


def _within(found: Any, keys: Sequence[str]) -> Any:
    """Returns the mapping under the first of these keys; without any, the given value."""
    inner = (found.get(key) for key in keys) if isinstance(found, Mapping) else ()
    return next((value for value in inner if isinstance(value, Mapping)), found)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns 64 hexadecimal digits that identify the tensors' names and bytes."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def write_file(
    path: Path, tensors: Mapping[str, Tensor], wrapper: str | None, spec: Mapping[str, Any] | None
) -> None:
    """Writes tensors to a file, atomically.

    Args:
        path: its suffix decides the format: ``.safetensors``, or ``.pth`` or ``.pt`` for torch's.
        tensors: by name.
        wrapper: in torch's format, the key of the tensors; None: they are the whole file.
        spec: the file's description of the network.

    Raises:
        UsageError: for another suffix, or a folder that does not exist.
        UnwritableFileError: if it cannot be written, with the reason; an old file does not change.
    """
    check_writable(path)
    # Only the tensor is written, not the larger storage that it may be a part of.
    whole = {name: _compact(tensor) for name, tensor in tensors.items()}
    try:
        with atomic_write(path) as file:
            if path.suffix == SAFETENSORS_SUFFIX:
                metadata = {"format": "pt", "sha256": digest(whole)}
                metadata |= {"spec": json.dumps(spec)} if spec else {}
                file.write(safetensors.torch.save(whole, metadata))
            else:
                content: dict[str, Any] = {wrapper: whole} if wrapper else whole
                torch.save(content | ({"spec": dict(spec)} if spec else {}), file)
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UnwritableFileError(f"cannot write {path}: {reason}. {ADVICE}") from error


def check_writable(path: Path) -> None:
    """Checks that a file to write has the suffix of a format, and that its folder exists.

    Raises:
        UsageError: if not; names the valid suffixes or the missing folder.
    """
    suffixes = (SAFETENSORS_SUFFIX, *TORCH_SUFFIXES)
    if path.suffix not in suffixes:
        raise UsageError(
            f"{path} does not have the suffix of a format; use one of {', '.join(suffixes)}."
        )
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for {path.name}; create it.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file to write.")


def _compact(tensor: Tensor) -> Tensor:
    """Returns the tensor, contiguous and in a storage of its size; a copy only if necessary."""
    tensor = tensor.detach().cpu().contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()
