"""The lock of a study: one launch at a time trains it, and shows which runs are still pending."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ablations.records.files import ResultsError, make_folder, read_json, unwritable, write_json
from ablations.records.heartbeat import ProcessState, heartbeat, state_of, this_process
from modernize.errors import UsageError

LAUNCH = "launch.json"  # in the study's folder, as long as a launch of it lives
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EIO}


@dataclasses.dataclass(frozen=True)
class Launch:
    """A launch that is alive now.

    Attributes:
        pending: names of the runs that it has yet to finish; None: it has not decided yet.
    """

    pending: frozenset[str] | None

    def has(self, run: str) -> bool:
        """Whether a run of this name is pending, or may be."""
        return self.pending is None or run in self.pending


@contextlib.contextmanager
def study_lock(study: Path) -> Iterator[None]:
    """Prevents other processes from training the same study at the same time.

    Raises:
        UsageError: if another process trains it.
        ResultsError: if the folder cannot be written.
    """
    path = study / LAUNCH
    with _file_lock(study):
        # A file system may keep locks to one machine. All machines see the file of the launch.
        other, process = _read(study), this_process()
        elsewhere = other is not None and other.get("host") != process["host"]
        if other is not None and elsewhere and state_of(other, path) is not ProcessState.GONE:
            raise _locked_by(study, f" (number {other.get('pid')} on {other.get('host')})")
        token = uuid.uuid4().hex
        write_json(path, {**process, "token": token, "pending": None})

        def mine() -> bool:
            return (_read(study) or {}).get("token") == token

        try:
            with heartbeat(path, mine):
                yield
        finally:
            if mine():
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def write_pending(study: Path, runs: Iterable[str]) -> None:
    """Writes which runs the launch that holds the study has yet to finish."""
    if (launch := _read(study)) is not None:
        with contextlib.suppress(ResultsError):  # such as a full disk
            write_json(study / LAUNCH, {**launch, "pending": list(runs)})


def read_launch(study: Path) -> Launch | None:
    """Returns the launch of a study that is alive, or None."""
    launch = _read(study)
    if launch is None or state_of(launch, study / LAUNCH) is ProcessState.GONE:
        return None
    pending = launch.get("pending")
    return Launch(frozenset(map(str, pending)) if isinstance(pending, list) else None)


def _read(study: Path) -> dict[str, object] | None:
    with contextlib.suppress(ResultsError):
        return read_json(study / LAUNCH)
    return None


@contextlib.contextmanager
def _file_lock(study: Path) -> Iterator[None]:
    make_folder(study)
    try:
        lock = _acquire(study)
    except OSError as error:
        raise unwritable(study / ".lock", error) from error
    try:
        yield
    finally:
        lock.release()


def _acquire(study: Path) -> BaseFileLock:
    lock: BaseFileLock = FileLock(study / ".lock", timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
        return lock
    except Timeout:
        raise _locked_by(study) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    # This file system has no locks. A file that only one process can create takes their place. It
    # does not count if the process that created it, on this machine, is gone.
    lock = SoftFileLock(study / ".lock-file", timeout=0.2)
    try:
        lock.acquire()
    except Timeout:
        hint = f" If no process trains it, on any machine, remove {study / '.lock-file'}."
        raise _locked_by(study, hint=hint) from None
    return lock


def _locked_by(study: Path, holder: str = "", hint: str = "") -> UsageError:
    return UsageError(
        f"another process{holder} is training the study in {study}; wait for it, or use "
        f"another name with --name.{hint}"
    )
