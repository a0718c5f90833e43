"""Where, when and with what a record was made."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from ablations.records.files import read_or_note
from ablations.records.forms import FROZEN_COMMIT

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "results"
PROGRAM = ("modernize", "ablations", "run_roadmap.py", "pyproject.toml")
FROZEN = "frozen.json"  # beside code that was copied for a submission: the commit it came from


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Returns what a record says of where, when and with what it was made."""
    packages = ("torch", "torchvision", "timm", "fvcore", "numpy")
    return {
        "device": device,
        "threads": threads,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        **commit_of(REPOSITORY, *PROGRAM),
    }


def commit_of(code: Path, *paths: str) -> dict[str, Any]:
    """Returns the commit of some code, and whether files differed from it.

    Code that was frozen for a submission says so itself; outside git, nobody knows.

    Args:
        code: the folder.
        paths: what in it counts, for results and notes are no program; by default, all.
    """
    if (code / FROZEN).exists():
        frozen = read_or_note(code / FROZEN, FROZEN_COMMIT, {}) or {}
        return {"commit": frozen.get("commit"), "dirty": frozen.get("dirty")}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(code), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *paths)
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
