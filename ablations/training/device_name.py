"""The name of this machine's processor."""

from __future__ import annotations

import contextlib
import platform
import re
import subprocess
import sys
from pathlib import Path


def cpu_name() -> str:
    """Returns the CPU's model name, as far as the system knows it."""
    name = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            name = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=True, timeout=10
            ).stdout
        else:
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
            name = parse_cpuinfo(text)
    return " ".join(name.split()) or platform.processor() or platform.machine()


def parse_cpuinfo(text: str) -> str:
    """Returns the model's name from Linux's ``/proc/cpuinfo``; empty if it has none."""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1] if found else ""


def slug(name: str) -> str:
    """Returns a device's name as part of a folder's: "Intel(R) Xeon(R)" as "intel-xeon"."""
    plain = re.sub(r"\((?:r|tm|c)\)|\bcpu\b|\bprocessor\b|@.*$", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9.]+", plain)) or "device"
