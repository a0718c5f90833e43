"""The program, copied into a study when its runs are handed to a scheduler.

Jobs wait for hours or days; whatever happens to the repository meanwhile, they run what was
submitted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from ablations.records import FROZEN, PROGRAM, REPOSITORY, ResultsError, commit_of

PACKAGES = ("modernize", "ablations")


def place_of(study: Path) -> Path:
    """Returns where the program as it is now has its copy, or would have it."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path.relative_to(REPOSITORY)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return study / "submissions" / "code" / digest.hexdigest()[:10]


def freeze(study: Path) -> Path:
    """Copies the program into a study, unless it is there, and returns the copy's place.

    The copy's name is a digest of its files: the same code is there once.

    Raises:
        ResultsError: where it cannot be written.
    """
    target = place_of(study)
    if (target / FROZEN).exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=".code-"))
        aside.chmod(0o755)
        for path in _files():
            copy = aside / path.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        (aside / FROZEN).write_text(json.dumps(commit_of(REPOSITORY, *PROGRAM)), encoding="utf-8")
        aside.replace(target)
    except OSError as error:
        raise ResultsError(f"cannot copy the program to {target}: {error.strerror}.") from error
    return target


def _files() -> list[Path]:
    return sorted(
        path
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
