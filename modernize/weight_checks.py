"""Checks of untrusted files of weights, before any memory is allocated for them.

A few bytes can request any amount of memory: compressed entries, storages larger than the file,
functions that torch allows in a pickle and that make large objects. So the pickle in a file is
first read with empty placeholders. Checksums are verified here too, because torch does not.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

MAX_PICKLE = 2**23  # bytes of a pickle; that of 300 tensors has about 50,000
_PER_ITEM = 64  # bytes of memory of an item in a container

_STORAGES = {  # torch's types of storage, and the bytes of one value
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1,
    "BoolStorage": 1, "ComplexDoubleStorage": 16, "ComplexFloatStorage": 8, "UntypedStorage": 1,
}  # fmt: skip
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
_PLAIN = frozenset(
    (
        *(("torch._utils", name) for name in _TENSORS),
        *(("torch", name) for name in ("Size", "device")),
        ("torch.serialization", "_get_layout"),
        *((module, name) for module in ("builtins", "__builtin__") for name in ("complex", "set")),
        ("_codecs", "encode"),
        ("collections", "OrderedDict"),
        ("collections", "Counter"),
    )
)
_DTYPES = ("bool", "uint", "int", "float", "bfloat", "complex", "half", "double", "long", "short")


class InvalidFileError(RuntimeError):
    """A file that requests more memory than its size, or does not match its checksums."""


class PythonObjectError(Exception):
    """A file that contains a Python object; the text is its name."""


def check_zip(source: Path | io.BytesIO) -> None:
    """Checks a file of torch's new format.

    Args:
        source: the file, or its content.

    Raises:
        InvalidFileError: if it is damaged or requests too much memory, with the reason.
        PythonObjectError: for more than tensors and plain values.
        Exception: a damaged file may lead to any.
    """
    size = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
    with zipfile.ZipFile(source) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        for name, entry in entries.items():
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise InvalidFileError(
                    f"its entry {name} is compressed, which torch never does: unpack it and zip it "
                    "without compression"
                )
        held = sum(entry.file_size for entry in archive.infolist())
        if held > size or len(entries) != len(archive.infolist()):
            raise InvalidFileError("its entries overlap")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1 or entries[pickles[0]].file_size > MAX_PICKLE:
            raise InvalidFileError(f"it must have one data.pkl of at most {MAX_PICKLE:,} bytes")
        if damaged := archive.testzip():
            raise InvalidFileError(f"its entry {damaged} does not match its checksum")
        pickled = _SafeUnpickler(io.BytesIO(archive.read(pickles[0])), held)
        pickled.load()
        for key, size in pickled.storages.items():
            record = entries.get(pickles[0].removesuffix("data.pkl") + f"data/{key}")
            if record is None or record.file_size < size:
                raise InvalidFileError(f"its entry data/{key} has less than its {size:,} bytes")


def check_old_format(path: Path) -> None:
    """Checks a file of torch's old format, which has no checksums.

    Raises:
        InvalidFileError, PythonObjectError, Exception: as :func:`check_zip`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = io.BytesIO(file.read(MAX_PICKLE))
    for _ in range(4):  # a magic number, a version, the system, and then the content
        pickled = _SafeUnpickler(start, size)
        pickled.load()


def check_header(file: IO[bytes]) -> None:
    """Checks the length of the header of a safetensors file.

    Raises:
        InvalidFileError: if it is longer than the file or than :data:`MAX_PICKLE`.
    """
    length = int.from_bytes(file.read(8), "little")
    left = os.fstat(file.fileno()).st_size - 8
    if length > min(left, MAX_PICKLE):
        raise InvalidFileError(
            f"its header has {length:,} bytes; at most {min(left, MAX_PICKLE):,} are valid"
        )


class _Placeholder:
    """Replaces a tensor, or another value whose content does not matter."""


class _SafeUnpickler(pickle._Unpickler):
    """Reads a pickle without its objects, and adds up the memory that they would need.

    The unpickler in C would allocate memory for any size in a pickle before it reads on.

    Args:
        file: the pickle.
        limit: bytes of all storages, at most.

    Attributes:
        storages: bytes of each storage, by its key.
    """

    dispatch = {  # noqa: RUF012  # as in the base class
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]  # which allocates before it reads
    }

    def __init__(self, file: IO[bytes], limit: int) -> None:
        super().__init__(file)
        self.limit, self.used = limit, 0
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns the replacement of a function or class."""
        if (module, name) == ("collections", "OrderedDict"):
            return self._make_dictionary
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) in _PLAIN or (module == "torch" and name.startswith(_DTYPES)):
            return self._make_placeholder
        raise PythonObjectError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Returns a placeholder for a storage, after adding up its bytes."""
        _, width, key, _, values, *_ = pid
        size = width * values
        if size < 0 or self.storages.setdefault(str(key), size) != size:
            raise InvalidFileError(f"its storage {key} has two sizes")
        if sum(self.storages.values()) > self.limit:
            raise InvalidFileError(f"its tensors need {sum(self.storages.values()):,} bytes")
        return _Placeholder()

    def _make_dictionary(self, *arguments: Any) -> Any:
        self._count_memory(arguments)
        return collections.OrderedDict()

    def _make_placeholder(self, *arguments: Any) -> Any:
        self._count_memory(arguments)
        return _Placeholder()

    def _count_memory(self, arguments: tuple[Any, ...]) -> None:
        for value in arguments:
            if isinstance(value, str | list | tuple | dict):
                self.used += len(value) if isinstance(value, str) else _PER_ITEM * len(value)
        if self.used > _PER_ITEM * MAX_PICKLE:
            raise InvalidFileError("its values that are not tensors need too much memory")
