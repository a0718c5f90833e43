"""Provenance of a record: device, versions and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from ablations.records.files import read_or_note
from ablations.records.schemas import SOURCE_COMMIT

Answer = TypeVar("Answer")

GIT_SECONDS = 30  # how long git may take to answer
REPOSITORY = Path(__file__).parents[2]
PROGRAM = ("modernize", "ablations", "run_roadmap.py", "pyproject.toml")
COMMAND = (  # as a user types it: in a clone, or with the package installed
    "python run_roadmap.py" if (REPOSITORY / "run_roadmap.py").exists() else "convnext-roadmap"
)
SNAPSHOT = "snapshot.json"  # in a copy of the program: the commit of its source


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Returns the device, platform, versions and commit for a record.

    Nothing here may stop a run: a value that cannot be found is left out, or None.
    """
    packages = ("convnext-roadmap", "torch", "torchvision", "timm", "fvcore", "numpy")
    versions = {name: _attempt(partial(metadata.version, name)) for name in packages}
    return {
        "device": device,
        "threads": threads,
        "platform": _attempt(platform.platform),
        "python": platform.python_version(),
        "packages": {name: version for name, version in versions.items() if version},
        **commit_of(REPOSITORY, *PROGRAM),
    }


def commit_of(code: Path, *paths: str) -> dict[str, Any]:
    """Returns the commit of some code, and whether files differ from it; None if unknown.

    A snapshot has a file that names its commit. The commit of other code is unknown if git does
    not track it, as that of an installed package, even if its folder is in some repository.

    Args:
        code: the folder.
        paths: the files and folders in it that count; by default, all.
    """
    if (code / SNAPSHOT).exists():
        snapshot = _attempt(lambda: read_or_note(code / SNAPSHOT, SOURCE_COMMIT, {})) or {}
        return {"commit": snapshot.get("commit"), "dirty": snapshot.get("dirty")}
    if not _attempt(lambda: _git(code, "ls-files", "--", *paths)):
        return {"commit": None, "dirty": None}
    changed = _attempt(lambda: _git(code, "status", "--porcelain", "--", *paths))
    commit = _attempt(lambda: _git(code, "rev-parse", "HEAD")) if changed is not None else None
    return {"commit": commit, "dirty": None if commit is None else bool(changed)}


def _git(code: Path, *arguments: str) -> str:
    """Returns the output of git for a folder, which may belong to another user."""
    trust = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")
    # A hook of another repository, for example, may have set the repository that git uses.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return subprocess.run(
        ["git", *trust, "-C", str(code), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
        timeout=GIT_SECONDS,
        env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
    ).stdout.strip()


def _attempt(ask: Callable[[], Answer]) -> Answer | None:
    try:
        return ask()
    except Exception:  # whatever it is
        return None
