"""What a folder's entries are: folders, files with their sizes and times, or neither."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

NO_FILE = -1  # in place of the size of what is no regular file, or a link that leads nowhere


class File(NamedTuple):
    """A file, or what is named like one.

    Attributes:
        path: as far as the caller knows it.
        size: in bytes, or NO_FILE.
        time: of its last modification, in whole seconds, which every file system keeps.
    """

    path: bytes
    size: int
    time: int


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tells whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def stat_entry(entry: os.DirEntry[str], path: str) -> File:
    """Returns an entry's size and time; its path is given."""
    try:
        status = entry.stat()
    except OSError:
        return File(os.fsencode(path), NO_FILE, 0)
    size = status.st_size if stat.S_ISREG(status.st_mode) else NO_FILE
    return File(os.fsencode(path), size, int(status.st_mtime))


def suffix_of(name: str) -> str:
    """Returns what stands behind the last dot, in lower case; nothing without a dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""
