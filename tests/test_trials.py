"""A small trial of the kind that tests/benchmarks/trials.py makes at length."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRIALS = Path(__file__).parent / "benchmarks" / "trials.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_killed_and_concurrent_launches_lose_and_double_nothing(tmp_path: Path) -> None:
    command = [sys.executable, TRIALS, "--kills", "6", "--launches", "12", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "log.txt").read_text()
    counts = dict(reversed(line.split(None, 1)) for line in done.stdout.splitlines())
    assert int(counts["kills"]) == 6
    assert int(counts["launches"]) >= 19
