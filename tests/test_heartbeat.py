"""Whether a process lives, and which launch has a study: what others can know of it."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablations.records import ResultsError
from ablations.records import heartbeat as heartbeat_module
from ablations.records.heartbeat import (
    ALIVE_SECONDS,
    ProcessState,
    heartbeat,
    state_of,
    this_process,
)
from ablations.records.lock import LAUNCH, read_launch, study_lock, write_pending
from modernize.errors import UsageError

PROGRAM = (
    "import json, sys; from ablations.records.heartbeat import this_process; "
    "print(json.dumps(this_process()), flush=True); sys.stdin.read()"
)


@pytest.fixture
def other() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.fixture
def silent(tmp_path: Path) -> Path:
    """A file that its process has not touched for very long."""
    path = tmp_path / "owner.json"
    path.touch()
    os.utime(path, (0, 0))
    return path


def wait_for(process: "subprocess.Popen[str]", code: int) -> None:
    """Waits until a process has stopped or ended, and leaves it as it is."""
    os.waitid(os.P_PID, process.pid, code | os.WNOWAIT)


@pytest.mark.integration
def test_a_process_of_this_machine_is_looked_up(
    other: "subprocess.Popen[str]", silent: Path
) -> None:
    """It is alive without a heartbeat, and gone as soon as it is killed."""
    assert state_of(this_process(), silent) is ProcessState.ALIVE
    assert other.stdout is not None
    said = json.loads(other.stdout.readline())
    assert state_of(said, silent) is ProcessState.ALIVE
    assert (
        state_of({**said, "began": said["began"] + 1}, silent) is ProcessState.GONE
    )  # its number, later
    assert state_of({**said, "released": True}, silent) is ProcessState.GONE
    other.send_signal(signal.SIGSTOP)
    wait_for(other, os.WSTOPPED)
    assert state_of(said, silent) is ProcessState.SUSPENDED
    other.kill()
    wait_for(other, os.WEXITED)
    assert state_of(said, silent) is ProcessState.GONE  # a zombie
    other.wait()
    silent.touch()
    assert state_of(said, silent) is ProcessState.GONE


@pytest.mark.parametrize("system", ["another machine", None])
def test_processes_of_other_machines_need_a_heartbeat(silent: Path, system: str | None) -> None:
    process = {**this_process(), "system": system}
    assert state_of(process, silent) is ProcessState.GONE
    assert state_of(process, silent.with_name("nowhere")) is ProcessState.GONE
    recent = time.time() - ALIVE_SECONDS / 2
    os.utime(silent, (recent, recent))
    assert state_of(process, silent) is ProcessState.ALIVE


@pytest.mark.integration
def test_hidden_processes_need_a_heartbeat(
    other: "subprocess.Popen[str]", silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert other.stdout is not None
    said = json.loads(other.stdout.readline())
    monkeypatch.setattr(heartbeat_module, "_look_up", lambda _: None)
    assert state_of(said, silent) is ProcessState.GONE
    silent.touch()
    assert state_of(said, silent) is ProcessState.ALIVE
    other.kill()
    other.wait()
    assert state_of(said, silent) is ProcessState.GONE


def test_a_heartbeat_touches_only_files_of_its_process(
    silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_module, "BEAT_SECONDS", 0.001)
    asked = 0

    def theirs() -> bool:
        nonlocal asked
        asked += 1
        return False

    with heartbeat(silent, theirs):
        while asked < 3:
            time.sleep(0.001)
    assert silent.stat().st_mtime == 0
    with heartbeat(silent, lambda: True):
        while silent.stat().st_mtime == 0:
            time.sleep(0.001)


def test_a_launch_shows_its_pending_runs(tmp_path: Path) -> None:
    assert read_launch(tmp_path) is None
    write_pending(tmp_path, ["a"])  # by nobody that holds the study
    assert read_launch(tmp_path) is None
    with study_lock(tmp_path):
        launch = read_launch(tmp_path)
        assert launch is not None
        assert launch.has("a")
        write_pending(tmp_path, ["a"])
        launch = read_launch(tmp_path)
        assert launch is not None
        assert launch.has("a")
        assert not launch.has("b")
        (tmp_path / LAUNCH).write_text("{")
        assert read_launch(tmp_path) is None
    assert read_launch(tmp_path) is None


@pytest.mark.integration
@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EIO", "EINVAL"])
def test_one_launch_at_a_time_without_file_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def flock(*_: object) -> None:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        study_lock(tmp_path),
        pytest.raises(UsageError, match=r"\.lock-file"),
        study_lock(tmp_path),
    ):
        pass
    with study_lock(tmp_path):
        pass
    # One that was killed is no hindrance.
    lock = f"lock = filelock.SoftFileLock({str(tmp_path / '.lock-file')!r}); lock.acquire()"
    killed = f"import filelock, os, signal; {lock}; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", killed]).returncode == -signal.SIGKILL
    assert (tmp_path / ".lock-file").exists()
    with study_lock(tmp_path):
        pass


def test_a_lock_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(ResultsError, match=r"\.lock: No space left"), study_lock(tmp_path):
        pass


def test_another_machines_launch_is_seen_without_locks(tmp_path: Path) -> None:
    there = {**this_process(), "host": "elsewhere", "system": "another", "pid": 4711}
    (tmp_path / LAUNCH).write_text(json.dumps(there))
    with pytest.raises(UsageError, match=r"4711 on elsewhere"), study_lock(tmp_path):
        pass
    os.utime(tmp_path / LAUNCH, (0, 0))
    with study_lock(tmp_path):
        pass
