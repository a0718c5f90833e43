"""Where a record's origin comes from, and that it never costs a result."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.records import SNAPSHOT, commit_of, provenance
from ablations.training import device_name

MODULE = sys.modules["ablations.records.provenance"]  # the package has a function of that name


@pytest.mark.integration
@pytest.mark.parametrize(
    ("script", "known"),
    [
        ("exec sleep 1000", False),
        ("sleep 1000", False),  # the shell is killed, and what it started holds the pipe
        ("printf '\\377\\n'", True),
        ("exit 128", False),
        ("kill -9 $$", False),
        (None, False),
    ],
)
def test_git_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, known: bool
) -> None:
    monkeypatch.setattr(MODULE, "GIT_SECONDS", 0.2)
    if script:
        (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}" if script else str(tmp_path))
    said = commit_of(tmp_path)
    assert (said["commit"] is not None) == known
    assert said["dirty"] is (True if known else None)


@pytest.mark.integration
def test_another_users_repository_has_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True)

    git("init", "--quiet")
    (tmp_path / "code.py").touch()
    git("add", "code.py")
    git("commit", "--quiet", "-m", "first")
    # git's own way to test it
    refusing = f"GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which('git')}"
    bin_folder = tmp_path / ".git" / "bin"
    bin_folder.mkdir()
    (bin_folder / "git").write_text(f'#!/bin/sh\n{refusing} "$@"\n')
    (bin_folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    plain = subprocess.run(["git", "-C", str(tmp_path), "status"], capture_output=True)
    assert b"dubious ownership" in plain.stderr
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    said = commit_of(tmp_path)
    assert said["commit"] is not None
    assert said["dirty"] is False


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_note_of_a_copys_commit(tmp_path: Path, content: str) -> None:
    (tmp_path / SNAPSHOT).write_text(content)
    assert commit_of(tmp_path)["commit"] is None


def test_what_cannot_be_found_out_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    def broken() -> str:
        raise OSError("no such interpreter")

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(platform, "platform", broken)
    said = provenance("cpu", 1)
    assert set(said["packages"]) == {"convnext-roadmap", "torch", "torchvision", "fvcore", "numpy"}
    assert said["platform"] is None
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_how: broken())
    assert device_name.cpu_name()
