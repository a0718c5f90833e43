"""torch.hub loads every network from a folder."""

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
