"""torch.hub loads every network from a folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modernize import build
from modernize.network import Network
from modernize.weights import write

ROOT = Path(__file__).parent.parent


def load(**options: Any) -> Network:
    network = torch.hub.load(str(ROOT), "convnext_roadmap", source="local", **options)
    assert isinstance(network, Network)
    return network.eval()


def test_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = build("patchify", "nano", num_classes=7).eval()
    write(network, "weights.pt", "ours")
    x = torch.randn(2, 3, 32, 32)
    found = load(step="patchify", regime="nano", weights="weights.pt")
    assert torch.equal(found(x), network(x))
    assert load(step="patchify", regime="nano", num_classes=3)(x).shape == (2, 3)
    with torch.device("meta"):
        assert load(step="convnext_tiny").feature_widths == (96, 192, 384, 768)


FRESH = """
import sys
import torch

torch.manual_seed(0)
network = torch.hub.load(sys.argv[1], "convnext_roadmap", step="patchify", source="local")
torch.save(network.state_dict(), "state.pt")
"""


@pytest.mark.integration
def test_a_fresh_process_elsewhere(tmp_path: Path) -> None:
    """Without this package on the path: torch.hub finds it in the folder."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    asked = [sys.executable, "-P", "-c", FRESH, str(ROOT)]
    subprocess.run(asked, cwd=tmp_path, env=environment, check=True)
    torch.manual_seed(0)
    network, found = build("patchify"), torch.load(tmp_path / "state.pt", weights_only=True)
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name], x) for name, x in network.state_dict().items())
