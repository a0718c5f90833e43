"""The device of a run: the settings of a process before it trains."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ablations.training.device_context import resolve_precision

PAGE_FAULTS = Path(__file__).parent / "programs" / "page_faults.py"


@pytest.mark.integration
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


@pytest.mark.parametrize(
    ("major", "expected"), [(7, torch.float16), (8, torch.bfloat16), (9, torch.bfloat16)]
)
@pytest.mark.parametrize("older", [False, True])
def test_auto_takes_bf16_only_where_the_gpu_does_not_emulate_it(
    major: int, expected: torch.dtype, older: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4 (7.5) can hold bf16 tensors, and says so where emulation counts."""

    def asked(including_emulation: bool = True) -> bool:
        return including_emulation or major >= 8

    answer = (lambda: True) if older else asked
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device=None: (major, 5))
    assert resolve_precision("auto", torch.device("cuda:0")) is expected
