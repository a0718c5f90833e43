"""Atomic writes: a reader sees the complete old content or the complete new one."""

from __future__ import annotations

import contextlib
import errno
import glob
import importlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO

from modernize.errors import RoadmapError

fcntl: ModuleType | None
try:
    fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows
    fcntl = None

TEMPORARY = ".aside"  # suffix of temporary files; no pattern of this program matches it
STALE_SECONDS = 3600  # without locks: age after which a temporary file has no writer any more
MAX_BYTES = 2**28  # of a file that is read into memory
ADVICE = "Free disk space, grant write permission there, or name another file."
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class UnwritableFileError(RoadmapError):
    """A file that cannot be written."""


@contextlib.contextmanager
def atomic_write(
    path: Path,
    *,
    fault: type[RoadmapError] = UnwritableFileError,
    advice: str = ADVICE,
    flush: bool = True,
) -> Iterator[IO[bytes]]:
    """Yields an empty temporary file to write, which replaces ``path`` when it is complete.

    A link is replaced, never followed. A replaced file keeps its permissions; a new one has the
    default ones. If anything fails, the old file does not change, and the temporary one is removed.
    The temporary file of a killed writer is removed by the next writer of the same file.

    Args:
        path: of the file; its folder must exist.
        fault: type of the error to raise.
        advice: for the user, at the end of the message.
        flush: whether the content must survive a power failure.

    Raises:
        RoadmapError: of type ``fault``, if the file cannot be written: which file, and why.
    """
    temporary: Path | None = None
    try:
        _remove_stale(path)
        temporary, file = _open_temporary(path)
        with file:
            yield file
            file.flush()
            if flush:
                _sync(file.fileno())
            with contextlib.suppress(OSError):
                if stat.S_ISREG(mode := path.lstat().st_mode):
                    temporary.chmod(stat.S_IMODE(mode))
            if fcntl is None:  # Windows renames no open files
                file.close()
            temporary.replace(path)
        if flush:
            _sync_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if (of_system := _system_error(error)) is None:
            raise
        raise _unwritable(path, of_system, fault, advice) from error


def write_bytes(
    path: Path,
    content: bytes,
    *,
    fault: type[RoadmapError] = UnwritableFileError,
    advice: str = ADVICE,
    flush: bool = True,
) -> None:
    """Writes a file atomically; arguments and errors are those of :func:`atomic_write`."""
    with atomic_write(path, fault=fault, advice=advice, flush=flush) as file:
        file.write(content)


def make_folder(
    path: Path, *, fault: type[RoadmapError] = UnwritableFileError, advice: str = ADVICE
) -> None:
    """Makes a folder and its parents, if they do not exist.

    Raises:
        RoadmapError: of type ``fault``, if it cannot be made: which folder, and why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error, fault, advice) from error


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Returns the content of a regular file.

    Raises:
        OSError: for anything else, such as a folder or a pipe, and for more than ``limit`` bytes.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"More than {limit:,} bytes", str(path))
        return file.read()


def open_regular(path: Path | str) -> IO[bytes]:
    """Opens a regular file to read, without waiting, as opening a pipe would.

    Raises:
        OSError: for anything else, such as a folder, a pipe or a device.
    """

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return file


def _unwritable(path: Path, error: OSError, fault: type[RoadmapError], advice: str) -> RoadmapError:
    return fault(f"cannot write {path}: {error.strerror or error}. {advice}")


def _stem(path: Path) -> str:
    return f".{path.name[:50]}."  # a name has at most 255 bytes


def _open_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """Makes a temporary file, locked as long as it is open."""
    while True:
        temporary = path.with_name(f"{_stem(path)}{secrets.token_hex(4)}{TEMPORARY}")
        file = temporary.open("xb")
        with contextlib.suppress(OSError):
            _lock(file)
        if temporary.exists():
            return temporary, file
        file.close()  # another writer removed it as stale before it was locked


def _remove_stale(path: Path) -> None:
    """Removes temporary files that have no writer any more."""
    with contextlib.suppress(OSError):
        for stale in path.parent.glob(f"{glob.escape(_stem(path))}*{TEMPORARY}"):
            with contextlib.suppress(OSError), stale.open("r+b") as file:
                try:
                    _lock(file)
                except BlockingIOError:
                    continue
                except OSError:
                    if time.time() - os.fstat(file.fileno()).st_mtime < STALE_SECONDS:
                        continue
                stale.unlink()


def _lock(file: IO[bytes]) -> None:
    """Locks a file.

    Raises:
        BlockingIOError: if another process has locked it.
        OSError: if files cannot be locked.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "No locks")
    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync(handle: int) -> None:
    """Flushes a file to the disk, if the file system supports it."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power failure, if the system supports it."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _system_error(error: BaseException) -> OSError | None:
    """Returns the system's error that caused a library's error; None if none did."""
    cause: BaseException | None = error if isinstance(error, Exception) else None
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause
