"""Files of named tensors: torch's own format, old and new, and safetensors.

Which of them a file is, is read from its first bytes. No file can run code, or take more memory
than a few times its size. Torch's format of today has checksums, which are compared, and so has the
safetensors that is written here; other safetensors and torch's old format have none.
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
    check_old_format,
    check_zip,
    read_header,
)

TORCH_SUFFIXES = (".pth", ".pt")
SAFETENSORS_SUFFIX = ".safetensors"

_ZIP = b"PK\x03\x04"  # how torch's format of today begins
# Keys under which programs put their state dict, and its moving average.
_WRAPPERS = ("model", "state_dict", "network", "model_state_dict", "net", "module")
_AVERAGES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")
_REREAD = "Fetch or save it anew, or name another file."


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: everything in its state dict by name; a value that is no tensor stays as it is.
        spec: what the file says of its network, as ``NetSpec.to_dict`` does; None: nothing.
    """

    tensors: dict[str, Any]
    spec: Any


def read_file(path: Path, *, ema: bool = False) -> Content:
    """Returns what a file holds; its tensors are on the CPU, and memory-mapped where possible.

    Args:
        path: written by ``torch.save`` or safetensors. The state dict may stand under one of the
            usual keys: ``model``, ``state_dict`` or ``network``.
        ema: take the moving average of the weights that stands beside them.

    Raises:
        WeightsError: for a file that is missing, damaged, no checkpoint, or that holds more than
            tensors and plain values, saying which.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; name the file of weights in it.")
    if not path.is_file():
        there = f"{path} is no regular file" if path.exists() else f"there is no file {path}"
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


def _read_safetensors(path: Path, *, ema: bool) -> Content:
    if ema:
        raise WeightsError(f"{path} holds one set of weights and no moving average beside it.")
    try:
        with path.open("rb") as start:
            read_header(start)
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = file.metadata() or {}
        if said.get("sha256", None) not in (None, _digest(tensors)):
            raise InvalidFileError("its tensors are not what its checksum says")
        return Content(tensors, json.loads(said["spec"]) if "spec" in said else None)
    except Exception as error:  # whatever the bytes of a damaged file lead to
        raise _damaged(path, error) from error


def _load(path: Path, *, mapped: bool) -> Any:
    """Returns what ``torch.save`` wrote: tensors, containers and plain values."""
    try:
        check = check_zip if mapped else check_old_format
        check(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle; it is read or it is not
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except PythonObjectError as error:
        raise WeightsError(
            f"{path} holds a Python object ({error}), and reading that could run code; only "
            "tensors and plain values are read. If you trust where it comes from, save its state "
            "dict alone with torch.save, and read that."
        ) from error
    except Exception as error:  # whatever the bytes of a damaged file lead to
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = type(error).__name__
    if isinstance(error, RuntimeError | safetensors.SafetensorError) and str(error):
        reason = str(error).splitlines()[0].partition(". ")[0].removesuffix(".")
    size = f"{path.stat().st_size:,} bytes" if path.exists() else "gone"
    return WeightsError(
        f"{path} is no whole file of weights ({size}; {reason}): damaged, cut short, or neither "
        f"torch's format nor safetensors. {_REREAD}"
    )


def _unwrap(path: Path, loaded: Any, *, ema: bool) -> Content:
    """Finds the state dict in what was loaded."""
    found, averages = loaded, False
    if isinstance(loaded, Mapping):
        averages = any(isinstance(loaded.get(key), Mapping) for key in _AVERAGES)
        if ema and not averages:
            raise WeightsError(f"{path} has no moving average of the weights; leave out ema.")
        found = _within(loaded, _AVERAGES) if ema else loaded
        for _ in range(2):  # one wrapper may be in another
            found = _within(found, _WRAPPERS)
    if isinstance(found, Mapping) and any(isinstance(v, Tensor) for v in found.values()):
        spec = None if found is loaded else loaded.get("spec")
        return Content({str(name): value for name, value in found.items()}, spec)
    hint = " It has a moving average of the weights; take that with ema." if averages else ""
    raise WeightsError(
        f"{path} holds no state dict, which is tensors by name, alone or under one of "
        f"{', '.join(_WRAPPERS)}.{hint} {_REREAD}"
    )


def _within(found: Any, keys: Sequence[str]) -> Any:
    """Returns what stands under the first of these keys, or else what was given."""
    inner = (found.get(key) for key in keys) if isinstance(found, Mapping) else ()
    return next((value for value in inner if isinstance(value, Mapping)), found)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns 64 hexadecimal digits that name the tensors' names and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_file(
    path: Path, tensors: Mapping[str, Tensor], wrapper: str | None, spec: Mapping[str, Any] | None
) -> None:
    """Writes tensors to a file, whole or not at all.

    Args:
        path: its suffix decides the format: ``.safetensors``, or ``.pth`` or ``.pt`` for torch's.
        tensors: by name.
        wrapper: in torch's format, the key under which they stand.
        spec: what the file says of its network.

    Raises:
        UsageError: for another suffix, or a folder that is not there.
        UnwritableFileError: where it cannot be written, with the reason; what was there stays.
    """
    check_writable(path)
    # Only what a tensor shows is written, not the larger storage that it may be a part of.
    whole = {name: _compact(tensor) for name, tensor in tensors.items()}
    try:
        with atomic_write(path) as file:
            if path.suffix == SAFETENSORS_SUFFIX:
                metadata = {"format": "pt", "sha256": _digest(whole)}
                metadata |= {"spec": json.dumps(spec)} if spec else {}
                file.write(safetensors.torch.save(whole, metadata))
            else:
                content: dict[str, Any] = {wrapper: whole} if wrapper else whole
                torch.save(content | ({"spec": dict(spec)} if spec else {}), file)
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UnwritableFileError(f"cannot write {path}: {reason}. {ADVICE}") from error


def check_writable(path: Path) -> None:
    """Refuses a file to write whose suffix names no format, or whose folder is not there.

    Raises:
        UsageError: saying what is valid.
    """
    suffixes = (SAFETENSORS_SUFFIX, *TORCH_SUFFIXES)
    if path.suffix not in suffixes:
        raise UsageError(
            f"{path} does not say which format to write; its name must end in one of "
            f"{', '.join(suffixes)}."
        )
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to write {path.name} into; make it.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file to write.")


def _compact(tensor: Tensor) -> Tensor:
    """Returns the tensor in a storage of its own size, in the usual order; itself if it is so."""
    tensor = tensor.detach().cpu().contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()
