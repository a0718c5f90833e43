"""What a file of torch's claims to hold, checked against its size before any memory is taken.

A few bytes can ask for any amount of memory: compressed entries, storages larger than the file,
functions that torch allows in a pickle and that make large objects. So a file's pickle is first
read with objects that hold nothing. Checksums are compared here too, for torch does not.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

MAX_PICKLE = 2**23  # bytes that describe tensors; 300 tensors take some 50,000
_PER_ITEM = 64  # bytes that an item of a container takes

_STORAGES = {  # of torch, and the bytes of one value
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
    """A file that claims more than it can hold, or is not what its checksums say."""


class PythonObjectError(Exception):
    """A file that holds a Python object; the text is its name."""


def check_zip(source: Path | io.BytesIO) -> None:
    """Refuses a file of torch's format of today that is damaged or claims more than it holds.

    Args:
        source: the file, or what it holds.

    Raises:
        InvalidFileError: saying what is wrong.
        PythonObjectError: for more than tensors and plain values.
        Exception: whatever the bytes of a damaged file lead to.
    """
    size = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
    with zipfile.ZipFile(source) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        for name, entry in entries.items():
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise InvalidFileError(
                    f"its entry {name} is compressed, as torch never does: unpack it and zip it "
                    "without compression"
                )
        held = sum(entry.file_size for entry in archive.infolist())
        if held > size or len(entries) != len(archive.infolist()):
            raise InvalidFileError("its entries overlap")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if len(pickles) != 1 or entries[pickles[0]].file_size > MAX_PICKLE:
            raise InvalidFileError(f"it has not one data.pkl of at most {MAX_PICKLE:,} bytes")
        if damaged := archive.testzip():
            raise InvalidFileError(f"its entry {damaged} is not what its checksum says")
        pickled = _SafeUnpickler(io.BytesIO(archive.read(pickles[0])), held)
        pickled.load()
        for key, size in pickled.storages.items():
            record = entries.get(pickles[0].removesuffix("data.pkl") + f"data/{key}")
            if record is None or record.file_size < size:
                raise InvalidFileError(f"its entry data/{key} lacks some of its {size:,} bytes")


def check_old_format(path: Path) -> None:
    """Refuses a file of torch's old format that claims more than it holds; it has no checksums.

    Raises:
        InvalidFileError, PythonObjectError, Exception: as of :func:`check_zip`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = io.BytesIO(file.read(MAX_PICKLE))
    for _ in range(4):  # a magic number, a version, the system, and then the content
        pickled = _SafeUnpickler(start, size)
        pickled.load()


def read_header(file: IO[bytes]) -> None:
    """Refuses a safetensors file whose header claims to be longer than the file, or than is sane.

    Raises:
        InvalidFileError: saying so.
    """
    length = int.from_bytes(file.read(8), "little")
    left = os.fstat(file.fileno()).st_size - 8
    if length > min(left, MAX_PICKLE):
        raise InvalidFileError(
            f"its header is of {length:,} bytes; {min(left, MAX_PICKLE):,} are read"
        )


class _Placeholder:
    """Stands in for a tensor, or another value whose content does not matter."""


class _SafeUnpickler(pickle._Unpickler):
    """Reads a pickle, and adds up the memory that it asks for. It makes nothing and runs nothing.

    The one in C takes memory for whatever number a pickle names, before it reads on.

    Args:
        file: the pickle.
        most: bytes that it may ask for.

    Attributes:
        storages: bytes of each storage, by its key.
    """

    dispatch = {  # noqa: RUF012  # as in the base class
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]  # which takes memory before it reads
    }

    def __init__(self, file: IO[bytes], most: int) -> None:
        super().__init__(file)
        self.most, self.used = most, 0
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Returns what stands in for a function or class."""
        if (module, name) == ("collections", "OrderedDict"):
            return self._make_dictionary
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) in _PLAIN or (module == "torch" and name.startswith(_DTYPES)):
            return self._make_placeholder
        raise PythonObjectError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Returns what stands in for a storage, after adding up its bytes."""
        _, width, key, _, values, *_ = pid
        size = width * values
        if size < 0 or self.storages.setdefault(str(key), size) != size:
            raise InvalidFileError(f"its storage {key} has two sizes")
        if sum(self.storages.values()) > self.most:
            raise InvalidFileError(f"its tensors claim {sum(self.storages.values()):,} bytes")
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
            raise InvalidFileError("its values, which are no tensors, claim too much memory")
