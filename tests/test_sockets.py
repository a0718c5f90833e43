"""The folder of sockets, where that for temporary files has a long path."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
import multiprocessing.connection, os, sys, tempfile
from ablations.sockets import use_short_paths
before = tempfile.tempdir
folder = use_short_paths()
assert use_short_paths() == folder
assert tempfile.gettempdir() == os.environ["TMPDIR"]  # for all other files
multiprocessing.connection.Listener(family="AF_UNIX").close()
print(folder)
"""


def deep(folder: Path, size: int) -> Path:
    """A folder whose path has so many bytes."""
    while (left := size - len(os.fsencode(folder))) > 1:
        folder /= "x" * min(left - 1, 200)
    folder.mkdir(parents=True)
    return folder


@pytest.mark.integration
@pytest.mark.parametrize("size", [70, 71, 76, 107, 250])
def test_sockets_have_a_short_path(size: int) -> None:
    root = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder = deep(root, size)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True, text=True, env={**os.environ, "TMPDIR": str(folder)}, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made = Path(done.stdout.strip())
        assert made.is_relative_to(folder) == (size <= 70)
        assert not made.exists()  # it is gone with the process
    finally:
        shutil.rmtree(root)
