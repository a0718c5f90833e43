"""Where a run is computed: what a process is told before it trains."""

import subprocess
import sys
from pathlib import Path

import pytest

PAGE_FAULTS = Path(__file__).parent / "programs" / "page_faults.py"


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults as Linux does")
def test_a_process_that_trains_on_a_cpu_keeps_the_memory_that_it_frees():
    printed = subprocess.run(
        [sys.executable, PAGE_FAULTS], capture_output=True, text=True, check=True
    ).stdout
    before, after, able = map(int, printed.split())
    if not able:
        pytest.skip("this C library has no mallopt")
    assert before > 20_000  # 80 MiB; else there is nothing to gain, and nothing is shown
    assert after < before / 4
