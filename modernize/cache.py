"""Counts kept on disk, so that what was counted once is not counted again.

A file is named by a fingerprint of whatever could change a count, and holds one entry per network
and image size. It lies in the user's cache folder; where that cannot be read or written, everything
is counted each time.
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

NOWHERE = Path(os.devnull) / "cache"  # where nothing can be kept


class Dataclass(Protocol):
    """Any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


Count = TypeVar("Count", bound=Dataclass)


def cache_folder() -> Path:
    """Returns the user's folder for counts, whether it is there or not."""
    try:
        folder = Path(platformdirs.user_cache_dir("convnext-roadmap"))
    except RuntimeError:  # no HOME, and no entry among the system's users
        return NOWHERE
    return folder if folder.is_absolute() else NOWHERE


def fingerprint(sources: Iterable[Path], packages: Iterable[str]) -> str:
    """Returns 16 hexadecimal digits that change with these files and these packages' versions."""
    parts = [source.read_bytes() for source in sources]
    parts += [importlib.metadata.version(name).encode() for name in packages]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def remember(path: Path, key: str, kind: type[Count], count: Callable[[], Count]) -> Count:
    """Returns the entry of a file, or else counts it and writes it there.

    Args:
        path: the file; one of its own for each kind.
        key: the entry's name.
        kind: a dataclass whose fields are all counts.
        count: counts the entry.
    """
    known = _read(path, kind)
    if key not in known:
        known[key] = count()
        # Another process may have written meanwhile: its entries stay, as of now.
        _write(path, {**_read(path, kind), key: known[key]})
    return known[key]


def _read(path: Path, kind: type[Count]) -> dict[str, Count]:
    """Returns the counts in a file; an unreadable one has none, an odd entry is left out."""
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


def _write(path: Path, entries: Mapping[str, Dataclass]) -> None:
    """Replaces the file as a whole, so that no reader sees half of it; gives up where it cannot."""
    text = json.dumps({key: dataclasses.astuple(entry) for key, entry in entries.items()})
    with contextlib.suppress(OSError, UnwritableFileError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode(), flush=False)
