"""Files are there whole or not at all: full disks, kills, links, permissions."""

import contextlib
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from reporting import write_study

from ablations.cli import cli
from ablations.records import Study
from modernize.files import UnwritableFileError, atomic_write, make_folder, read_bytes, write_bytes

ENDS = {"recipe": [85.0, 85.4], "stage-ratio": [85.5, None], "patchify": [84.0, 84.5]}
ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def full_disk(room: int = 0) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_usual_permissions_and_an_old_one_keeps_its_own(
    tmp_path: Path, mask: int
) -> None:
    path = tmp_path / "file"
    with umask(mask):
        write_bytes(path, b"one")
        assert mode(path) == 0o666 & ~mask
        path.chmod(0o640)
        write_bytes(path, b"two")
    assert mode(path) == 0o640
    assert tree(tmp_path) == {"file": b"two"}


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_replaced_and_never_followed(tmp_path: Path, there: bool) -> None:
    other, link = tmp_path / "other", tmp_path / "report.html"
    if there:
        other.write_bytes(b"mine")
    link.symlink_to(other)
    write_bytes(link, b"report")
    assert not link.is_symlink()
    assert tree(tmp_path) == {"report.html": b"report"} | ({"other": b"mine"} if there else {})


def test_the_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    make_folder(tmp_path / "link" / "below")
    write_bytes(tmp_path / "link" / "below" / "file", b"x")
    assert tree(tmp_path / "real") == {"below/file": b"x"}


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "a[b]*c", "-", "\udcff.png"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"1")
    with full_disk(), pytest.raises(UnwritableFileError):
        write_bytes(tmp_path / name, b"2")
    assert tree(tmp_path) == {name: b"1"}


def test_what_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path, reason in (
        (tmp_path / "folder", "Is a directory"),
        (tmp_path / "file" / "below", "Not a directory"),
        (tmp_path / "missing" / "file", "No such file"),
    ):
        with pytest.raises(UnwritableFileError, match=f"cannot write {path}: {reason}"):
            write_bytes(path, b"x")
    with pytest.raises(UnwritableFileError, match=f"cannot write {tmp_path / 'file'}: File exists"):
        make_folder(tmp_path / "file")
    assert tree(tmp_path) == {"file": b""}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_writer_that_fails_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def write() -> None:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert tree(tmp_path) == {"file": b"old"}


KILLED = """
import os, pathlib, signal, sys
from modernize.files import atomic_write
with atomic_write(pathlib.Path(sys.argv[1])) as file:
    file.write(b"half"); file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.integration
def test_what_a_killed_writer_left_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "file.txt"
    for target in (path, path, other):
        done = subprocess.run([sys.executable, "-c", KILLED, target], cwd=ROOT)
        assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(tree(tmp_path)) == 2  # the second writer of the same file removed the first's
    with atomic_write(path) as mine:
        mine.write(b"mine")
        write_bytes(path, b"another's")
        write_bytes(other, b"x")
    assert tree(tmp_path) == {"file": b"mine", "file.txt": b"x"}


@pytest.mark.parametrize("errors", [["ENOLCK"], ["EOPNOTSUPP"], ["EIO"]])
def test_without_locks_only_old_leftovers_go(
    tmp_path: Path, errors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, errors[0]), "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    new, old = tmp_path / ".file.0001.aside", tmp_path / ".file.0002.aside"
    for leftover in (new, old):
        leftover.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    write_bytes(tmp_path / "file", b"whole")
    assert tree(tmp_path) == {"file": b"whole", new.name: b"half"}


@pytest.mark.parametrize(("code", "fails"), [("EINVAL", False), ("ENOSPC", True), ("EIO", True)])
def test_a_disk_that_cannot_be_flushed(
    tmp_path: Path, code: str, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def refuse(_: int) -> None:
        raise OSError(getattr(errno, code), code)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UnwritableFileError, match=code) if fails else contextlib.nullcontext():
        write_bytes(tmp_path / "file", b"x")
    assert tree(tmp_path) == ({} if fails else {"file": b"x"})


def test_only_regular_files_of_a_reasonable_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(bytes(9))
    (tmp_path / "link").symlink_to("large")
    for name in ("pipe", "folder", "missing", "/dev/zero"):
        with pytest.raises(OSError):  # noqa: PT011
            read_bytes(tmp_path / name)
    with pytest.raises(OSError, match="8"):
        read_bytes(tmp_path / "large", 8)
    assert read_bytes(tmp_path / "link", 9) == bytes(9)


# -- commands ------------------------------------------------------------------------------------

WRITERS = {
    "collect": ["collect", "study"],
    "report": ["report", "study"],
    "plot": ["plot", "--from", "study", "--output", "OUT/mine.pdf"],
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "results" / "study", ENDS)


def arguments(study: Study, command: str) -> list[str]:
    words = [word.replace("OUT", str(study.folder)) for word in WRITERS[command]]
    return [*words, "--results", str(study.folder.parent)]


def call(study: Study, command: str) -> BaseException | None:
    return CliRunner().invoke(cli, arguments(study, command), standalone_mode=False).exception


@pytest.mark.integration
@pytest.mark.parametrize("command", WRITERS)
def test_a_command_leaves_what_was_there_or_replaces_it(study: Study, command: str) -> None:
    before = tree(study.folder).keys()
    precious = study.folder.parent / "precious"
    assert call(study, command) is None
    written = tree(study.folder)
    with full_disk(100):
        error = str(call(study, command))
    assert f"cannot write {study.folder}/" in error
    assert "File too large" in error
    assert tree(study.folder) == written
    precious.write_bytes(b"mine")
    for name in written.keys() - before:
        (study.folder / name).unlink()
        (study.folder / name).symlink_to(precious)
    assert call(study, command) is None
    assert precious.read_bytes() == b"mine"
    assert not [name for name in written if (study.folder / name).is_symlink()]


@pytest.mark.integration
def test_the_results_folder_and_the_study_may_be_links(study: Study, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    study.folder.rename(real)
    study.folder.symlink_to(real)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "results")
    linked = Study.open(link / "study")
    assert [call(linked, command) for command in ("collect", "report")] == [None, None]
    assert {"summary.csv", "roadmap.png", "report.html", "report.md"} <= set(tree(real))


@pytest.mark.slow
def test_killed_at_any_moment_every_file_is_whole(study: Study) -> None:
    """Each file that `collect` and `report` write is that of before or of after, and no more."""
    chance = random.Random(7)
    whole: dict[str, set[bytes]] = {}
    first = study.folder / "runs" / next(study.runs())[1].name / "record.json"
    texts = [first.read_text(), first.read_text().replace("85.0", "86.0")]
    for text in texts:
        first.write_text(text)
        assert [call(study, command) for command in ("collect", "report")] == [None, None]
        for name, content in tree(study.folder).items():
            whole.setdefault(name, set()).add(content)
    program = [sys.executable, str(ROOT / "run_roadmap.py")]
    began = time.monotonic()
    subprocess.run([*program, *arguments(study, "report")], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    for turn in range(12):
        first.write_text(texts[turn % 2])
        command = [*program, *arguments(study, ("collect", "report")[turn // 2 % 2])]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.3, 1) * seconds)  # most of it is imports
        process.kill()
        process.wait()
        there = {n: c for n, c in tree(study.folder).items() if not n.endswith(".aside")}
        assert there.keys() == whole.keys()
        assert not [name for name, content in there.items() if content not in whole[name]]
    assert [call(study, command) for command in ("collect", "report")] == [None, None]
    assert tree(study.folder).keys() == whole.keys()
