"""The program, copied into a study when its runs are handed to a scheduler.

Jobs wait for hours or days; whatever happens to the repository meanwhile, they run what was
submitted.
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
    """Returns where the program as it is now has its copy, or would have it."""
    return _path(study, _contents())


def snapshot(study: Path) -> Path:
    """Copies the program into a study, as far as it is not there, and returns the copy's place.

    The copy's name is a digest of its files: the same code is there once. What a killed process
    or an accident left of a copy is completed.

    Raises:
        ResultsError: where it cannot be written.
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
