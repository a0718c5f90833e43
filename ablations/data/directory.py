"""The entries of a folder: folders, and files with their sizes and times."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

NO_FILE = -1  # the "size" of a special file, and of a broken link


class File(NamedTuple):
    """A file, or another entry with the name of one.

    Attributes:
        path: relative to a folder that the caller knows.
        size: in bytes, or NO_FILE.
        time: of its last modification, in seconds, which every file system stores.
    """

    path: bytes
    size: int
    time: int


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def stat_entry(entry: os.DirEntry[str] | Path, path: str) -> File:
    """Returns an entry's size and time, with the given path."""
    try:
        status = entry.stat()
    except (OSError, ValueError):  # no path has a NUL character
        return File(os.fsencode(path), NO_FILE, 0)
    size = status.st_size if stat.S_ISREG(status.st_mode) else NO_FILE
    return File(os.fsencode(path), size, int(status.st_mtime))


def stat_files(folder: Path, paths: Sequence[str]) -> list[File]:
    """Returns sizes and times of files, whose paths are relative to a folder."""
    with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
        return list(pool.map(lambda path: stat_entry(folder / path, path), paths))


def suffix_of(name: str) -> str:
    """Returns the text after the last dot, in lower case; empty without a dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""
