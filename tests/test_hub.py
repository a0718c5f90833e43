"""torch.hub loads every network from a folder, in a process elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from modernize import build
from modernize.weights import write

ROOT = Path(__file__).parent.parent
CODE = f"""
import torch
load = lambda *a, **k: torch.hub.load({str(ROOT)!r}, *a, source="local", **k).eval()
given = torch.load("given.pt")
network = load("convnext_roadmap", step="patchify", regime="nano", weights="weights.pt")
assert torch.equal(network(given["x"]), given["logits"])
fresh = load("convnext_roadmap", step="patchify", regime="nano", num_classes=3)
assert fresh(given["x"]).shape == (2, 3)
print(load("convnext_roadmap", step="convnext_tiny").feature_widths)
"""


@pytest.mark.integration
def test_hub(tmp_path: Path) -> None:
    import torch

    network = build("patchify", "nano", num_classes=7).eval()
    write(network, tmp_path / "weights.pt", "ours")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.save({"x": x, "logits": network(x)}, tmp_path / "given.pt")
    command = [sys.executable, "-c", CODE]
    environment = {
        "HOME": str(tmp_path),
        "PATH": "",
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(96, 192, 384, 768)\n"
