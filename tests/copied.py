"""A copy of the repository, so that what commands write stays out of it."""

import shutil
import subprocess
import sys
from pathlib import Path

from command_line import ROOT

from ablations.data.fashion_mnist import EMBEDDED


def copy_repository(folder: Path, images: Path | None = None) -> Path:
    """Copies what commands need; ``images`` take the place of the embedded ones."""
    for name in ("modernize", "ablations", "results"):
        skip = shutil.ignore_patterns("__pycache__", "runs")
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("run_roadmap.py", "hubconf.py"):
        shutil.copy(ROOT / name, folder)
    if images is not None:
        embedded = folder / EMBEDDED.relative_to(ROOT)
        shutil.rmtree(embedded)
        shutil.copytree(images, embedded)
    return folder


def run(words: list[str], clone: Path) -> str:
    """Runs ``python ...`` in a copy; returns its standard output."""
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=clone, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
