"""Where, when and with what a record was made."""

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
from ablations.records.forms import FROZEN_COMMIT

Answer = TypeVar("Answer")

GIT_SECONDS = 30  # how long git may take to answer
REPOSITORY = Path(__file__).parents[2]
PROGRAM = ("modernize", "ablations", "run_roadmap.py", "pyproject.toml")
SNAPSHOT = "frozen.json"  # beside code that was copied for a submission: the commit it came from


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Returns what a record says of where, when and with what it was made.

    Nothing here may cost a result: what cannot be found out is left out, or None.
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
        frozen = _attempt(lambda: read_or_note(code / SNAPSHOT, FROZEN_COMMIT, {})) or {}
        return {"commit": frozen.get("commit"), "dirty": frozen.get("dirty")}
    if not _attempt(lambda: _git(code, "ls-files", "--", *paths)):
        return {"commit": None, "dirty": None}
    changed = _attempt(lambda: _git(code, "status", "--porcelain", "--", *paths))
    commit = _attempt(lambda: _git(code, "rev-parse", "HEAD")) if changed is not None else None
    return {"commit": commit, "dirty": None if commit is None else bool(changed)}


def _git(code: Path, *arguments: str) -> str:
    """Returns what git says of some code, which may be another user's: it is run here anyway."""
    trust = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")
    # A hook of another repository, for one, may have set where git shall look.
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
