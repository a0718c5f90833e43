"""Commands, run as a user would give them: in the test's process, or in their own."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.cli import main

ROOT = Path(__file__).parent.parent
TINY = ("epochs=1", "warmup_epochs=0", "batch_size=1000", "micro_batch_size=1000")
"""Settings of a training that is as short as can be."""

PATIENCE = 900  # seconds; only a test that fails takes so long


def call(*arguments: str | Path, status: int = 0) -> str:
    """Runs a command in this process, checks its exit status, and returns its output.

    Whatever takes long to import is imported once for all tests, and so it is in the process from
    which the local queue starts those of runs.
    """
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        patch.setattr(sys, "argv", ["run_roadmap.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == status, printed.getvalue()
    assert "Traceback" not in printed.getvalue()
    return printed.getvalue()


def run_program(*arguments: str | Path) -> str:
    """Runs a command that succeeds in its own process; returns its standard output."""
    command = [sys.executable, str(ROOT / "run_roadmap.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def run_without_torch(*arguments: str | Path, status: int = 0, **environment: str | Path) -> str:
    """Runs a command in its own process, which must not import torch; returns its output."""
    code = (
        "import sys\nfrom ablations.cli import main\ntry: main()\nfinally: "
        "print('imported:', *{'torch', 'torchvision'} & {*sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, **environment}, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr.endswith("imported:\n"), done.stderr
    return done.stdout
