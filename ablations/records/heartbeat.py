"""Heartbeats: whether the process that wrote a file is alive.

A process writes its identity into a file, and touches the file at intervals while it is alive. A
process of the same machine is looked up by its process id: it is alive as long as it exists, even
if it is suspended, and gone as soon as it is killed. For a process of another machine only the time
of its last heartbeat is known.
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
ALIVE_SECONDS = 60.0  # without a heartbeat for this time, a process of another machine is gone


class ProcessState(enum.StrEnum):
    """The state of a process."""

    ALIVE = "alive"
    SUSPENDED = "suspended"  # by SIGSTOP or Ctrl-Z; it can go on
    GONE = "gone"


def this_process() -> dict[str, Any]:
    """Returns the identity of this process, for a file that others read."""
    found = _look_up(os.getpid())
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "system": _system(),
        "began": found[1] if found else None,
    }


def state_of(process: Mapping[str, Any], *paths: Path) -> ProcessState:
    """Returns the state of a process.

    Args:
        process: the identity from :func:`this_process`; with ``released`` the process is gone.
        paths: files that the process touches.
    """
    if process.get("released"):
        return ProcessState.GONE
    pid = process.get("pid")
    if isinstance(pid, int) and process.get("system") == _system():
        if (found := _look_up(pid)) is not None:
            state, began = found
            if state in "ZX" or began != process.get("began"):  # another process has its id now
                return ProcessState.GONE
            return ProcessState.SUSPENDED if state in "Tt" else ProcessState.ALIVE
        if not _exists(pid):
            return ProcessState.GONE
    touched = 0.0
    for path in paths:
        with contextlib.suppress(OSError):
            touched = max(touched, path.stat().st_mtime)
    return ProcessState.ALIVE if time.time() - touched < ALIVE_SECONDS else ProcessState.GONE


@contextlib.contextmanager
def heartbeat(path: Path, is_mine: Callable[[], bool]) -> Iterator[None]:
    """Touches a file at intervals while the body runs, as long as ``is_mine`` returns True."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                if is_mine():
                    os.utime(path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _system() -> str:
    """Returns the identity of this machine since its last boot, and of its container."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return f"{sys.platform} {socket.gethostname()}"


def _look_up(pid: int) -> tuple[str, int] | None:
    """Returns the state letter and the start time of a process; None if they are not known."""
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
    except (OSError, OverflowError):  # another user's process, or an impossible id
        pass
    return True
