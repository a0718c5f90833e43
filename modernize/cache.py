"""A cache on disk for the costs of networks, so that each is counted once.

A file has one entry per network and image size; its name is a fingerprint of everything that could
change a count. It is in the user's cache folder; if that cannot be read or written, costs are
counted each time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import platformdirs

from modernize.files import UnwritableFileError, read_bytes, write_bytes

NOWHERE = Path(os.devnull) / "cache"  # a path that cannot be written


class DataclassInstance(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Entry = TypeVar("Entry", bound=DataclassInstance)


def cache_folder() -> Path:
    """Returns the user's cache folder, whether it exists or not."""
    try:
        folder = Path(platformdirs.user_cache_dir("convnext-roadmap"))
    except RuntimeError:  # no HOME, and no entry among the system's users
        return NOWHERE
    return folder if folder.is_absolute() else NOWHERE


def fingerprint(sources: Iterable[Path], packages: Iterable[str]) -> str:
    """Returns 16 hexadecimal digits that depend on these files and these packages' versions."""
    parts = [source.read_bytes() for source in sources]
    parts += [importlib.metadata.version(name).encode() for name in packages]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def cached(path: Path, key: str, kind: type[Entry], count: Callable[[], Entry]) -> Entry:
    """Returns an entry of a cache file; if it is missing, counts it and adds it to the file.

    Args:
        path: the file; each kind needs a separate one.
        key: the entry's name.
        kind: a dataclass whose fields are all counts.
        count: returns the entry.
    """
    known = _read(path, kind)
    if key not in known:
        known[key] = count()
        # Another process may have written in the meantime: keep its entries.
        _write(path, {**_read(path, kind), key: known[key]})
    return known[key]


def _read(path: Path, kind: type[Entry]) -> dict[str, Entry]:
    """Returns the valid entries of a file; none if it cannot be read."""
    try:
        entries = json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    width = len(dataclasses.fields(kind))
    return {
        key: kind(*numbers)
        for key, numbers in entries.items()
        if isinstance(numbers, list)
        and len(numbers) == width
        and all(type(number) is int and number >= 0 for number in numbers)
    }


def _write(path: Path, entries: Mapping[str, DataclassInstance]) -> None:
    """Replaces the file atomically; does nothing if it cannot be written."""
    text = json.dumps({key: dataclasses.astuple(entry) for key, entry in entries.items()})
    with contextlib.suppress(OSError, UnwritableFileError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode(), flush=False)
