"""torchvision and timm are imported late, and a mismatched pair is named."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modernize.libraries import PAIR, LibraryError, library

ROOT = Path(__file__).parents[1]


def test_compiled_operators_work():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 10], [20, 20, 30, 30]])
    kept = library("torchvision.ops").nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5)
    assert kept.tolist() == [1, 2]


def test_a_pair_that_does_not_match_is_named(monkeypatch):
    def fail(_name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(LibraryError) as caught:
        library("timm")
    version = importlib.metadata.version
    for named in (version("torch"), version("torchvision"), f"pip install {PAIR}"):
        assert named in str(caught.value)


def test_other_errors_pass(monkeypatch):
    def fail(_name):
        raise ImportError("No module named 'numpy'")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match="numpy"):
        library("timm")


@pytest.mark.integration
def test_nothing_is_imported_early():
    code = "import sys, modernize.libraries; assert not {'torch', 'torchvision'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
