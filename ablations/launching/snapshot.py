"""Snapshots: the program, copied into a study when its runs are submitted to SLURM.

Jobs may be queued for days. They run the program as it was when they were submitted, even if the
repository has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ablations.records import (
    PROGRAM,
    REPOSITORY,
    SNAPSHOT,
    commit_of,
    make_folder,
    write_bytes,
    write_json,
)
from modernize.files import read_bytes

PACKAGES = ("modernize", "ablations")


def snapshot_path(study: Path) -> Path:
    """Returns the folder of the snapshot of the program as it is now, which need not exist."""
    return _path(study, _contents())


def snapshot(study: Path) -> Path:
    """Copies the program into a study, and returns the folder of the copy.

    The name of the folder is a digest of the files, so that equal code is copied once. An
    incomplete copy is completed.

    Raises:
        ResultsError: if it cannot be written.
    """
    contents = _contents()
    target = _path(study, contents)
    for name, content in contents.items():
        if not _holds(target / name, content):
            make_folder((target / name).parent)
            write_bytes(target / name, content)
    if not (target / SNAPSHOT).is_file():
        write_json(target / SNAPSHOT, commit_of(REPOSITORY, *PROGRAM))
    return target


def _path(study: Path, contents: Mapping[Path, bytes]) -> Path:
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return study / "submissions" / "code" / digest.hexdigest()[:10]


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_bytes(path) == content
    except OSError:
        return False


def _contents() -> dict[Path, bytes]:
    """Returns the content of each of the program's files, in order."""
    paths = sorted(
        path
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return {path.relative_to(REPOSITORY): path.read_bytes() for path in paths}
