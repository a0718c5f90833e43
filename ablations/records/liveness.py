"""Whether the process that wrote a file is alive: on this machine by its number, elsewhere by time.

A process says in a file which one it is, and touches the file now and then while it lives. A
process of the same machine is looked up: it is alive while it computes, validates, or is stopped
by a signal, however long that takes, and gone as soon as it is killed. Of another machine's
process only the last touch is known.
"""

from __future__ import annotations

import contextlib
import enum
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

BEAT_SECONDS = 10.0  # how often a process touches its file
ALIVE_SECONDS = 60.0  # a process of another machine is taken to be gone if it did not for so long


class Life(enum.StrEnum):
    """How a process is."""

    ALIVE = "alive"
    SUSPENDED = "suspended"  # by SIGSTOP or Ctrl-Z; it can go on
    GONE = "gone"


def this_process() -> dict[str, Any]:
    """Returns what identifies this process, for a file that others read."""
    found = _look_up(os.getpid())
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "system": _system(),
        "began": found[1] if found else None,
    }


def life_of(process: Mapping[str, Any], *paths: Path) -> Life:
    """Returns how a process is.

    Args:
        process: as :func:`this_process` identified it; a process that says ``released`` is gone.
        paths: files that the process touches.
    """
    if process.get("released"):
        return Life.GONE
    pid = process.get("pid")
    if isinstance(pid, int) and process.get("system") == _system():
        if (found := _look_up(pid)) is not None:
            state, began = found
            if state in "ZX" or began != process.get("began"):  # another one has its number now
                return Life.GONE
            return Life.SUSPENDED if state in "Tt" else Life.ALIVE
        if not _exists(pid):
            return Life.GONE
    touched = 0.0
    for path in paths:
        with contextlib.suppress(OSError):
            touched = max(touched, path.stat().st_mtime)
    return Life.ALIVE if time.time() - touched < ALIVE_SECONDS else Life.GONE


@contextlib.contextmanager
def heartbeat(path: Path, mine: Callable[[], bool]) -> Iterator[None]:
    """Touches a file while the body runs, for as long as it is this process's."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                if mine():
                    os.utime(path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _system() -> str:
    """Returns what tells this machine, as booted now, and its container from all others."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return f"{sys.platform} {socket.gethostname()}"


def _look_up(pid: int) -> tuple[str, int] | None:
    """Returns a process's state, as a letter, and when it began; None if the system hides it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number that a process can have
        pass
    return True
