"""Files written aside and renamed: whoever reads one sees the old content or the new one, whole."""

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

ASIDE = ".aside"  # how the names of unfinished files end; no pattern of this program matches them
STALE_SECONDS = 3600  # without locks: an unfinished file of this age has no writer any more
MAX_BYTES = 2**28  # of a file that is read whole
ADVICE = "Make room or give rights there, or name another file."
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class UnwritableFileError(RoadmapError):
    """A file that cannot be written."""


@contextlib.contextmanager
def replacing(
    path: Path,
    *,
    fault: type[RoadmapError] = UnwritableFileError,
    advice: str = ADVICE,
    flush: bool = True,
) -> Iterator[IO[bytes]]:
    """Yields an empty file to write; it takes the place of ``path`` once it is whole.

    A link is replaced, never followed; the permissions of a file that is replaced are kept, and a
    new one has the usual ones. Where anything fails, what was there stays, and nothing else does.
    What a killed writer left unfinished is removed by the next writer of the same file.

    Args:
        path: of the file; its folder must be there.
        fault: the kind of error to raise.
        advice: what the user can do about it.
        flush: whether the content must outlast a power cut.

    Raises:
        RoadmapError: of the kind ``fault``, where it cannot be written: which file, and why.
    """
    aside: Path | None = None
    try:
        _remove_leftovers(path)
        aside, file = _open_aside(path)
        with file:
            yield file
            file.flush()
            if flush:
                _sync(file.fileno())
            with contextlib.suppress(OSError):
                if stat.S_ISREG(mode := path.lstat().st_mode):
                    aside.chmod(stat.S_IMODE(mode))
            if fcntl is None:  # Windows renames no open files
                file.close()
            aside.replace(path)
        if flush:
            _sync_folder(path.parent)
    except BaseException as error:
        if aside is not None:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
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
    """Writes a file, whole or not at all; arguments and errors are those of :func:`replacing`."""
    with replacing(path, fault=fault, advice=advice, flush=flush) as file:
        file.write(content)


def make_folder(
    path: Path, *, fault: type[RoadmapError] = UnwritableFileError, advice: str = ADVICE
) -> None:
    """Makes a folder and those around it, where they are not there yet.

    Raises:
        RoadmapError: of the kind ``fault``, where it cannot be made: which folder, and why.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error, fault, advice) from error


def read_bytes(path: Path, most: int = MAX_BYTES) -> bytes:
    """Returns the content of a regular file.

    Raises:
        OSError: for anything else, such as a folder or a pipe, and for more than ``most`` bytes.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"More than {most:,} bytes", str(path))
        return file.read()


def open_regular(path: Path | str) -> IO[bytes]:
    """Opens a regular file to read; it never waits, as for whoever writes into a pipe.

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
    return f".{path.name[:50]}."  # a name of 255 bytes has room for what is added


def _open_aside(path: Path) -> tuple[Path, IO[bytes]]:
    """Makes an unfinished file, locked as long as it is open."""
    while True:
        aside = path.with_name(f"{_stem(path)}{secrets.token_hex(4)}{ASIDE}")
        file = aside.open("xb")
        with contextlib.suppress(OSError):
            _lock(file)
        if aside.exists():
            return aside, file
        file.close()  # another writer took it for a leftover before it was locked


def _remove_leftovers(path: Path) -> None:
    """Removes unfinished files that nobody writes any more."""
    with contextlib.suppress(OSError):
        for leftover in path.parent.glob(f"{glob.escape(_stem(path))}*{ASIDE}"):
            with contextlib.suppress(OSError), leftover.open("r+b") as file:
                try:
                    _lock(file)
                except BlockingIOError:
                    continue
                except OSError:
                    if time.time() - os.fstat(file.fileno()).st_mtime < STALE_SECONDS:
                        continue
                leftover.unlink()


def _lock(file: IO[bytes]) -> None:
    """Locks a file.

    Raises:
        BlockingIOError: where another process has locked it.
        OSError: where files cannot be locked.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "No locks")
    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync(handle: int) -> None:
    """Puts a file on the disk, where the file system can be asked to."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_folder(folder: Path) -> None:
    """Makes a rename outlast a power cut, where the system can; the file is there in any case."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _system_error(error: BaseException) -> OSError | None:
    """Returns the system's error behind one that a library made of it."""
    cause: BaseException | None = error if isinstance(error, Exception) else None
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause
