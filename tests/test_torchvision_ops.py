"""torchvision and timm can be imported whatever torch they stand beside."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALL = """
from modernize import torchvision_ops
torchvision_ops.make_torchvision_importable()
"""


def python(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )


def test_torchvision_and_timm_import_after_the_call_and_further_calls_do_nothing():
    done = python(
        f"""{CALL}
held = list(torchvision_ops._libraries)
torchvision_ops.make_torchvision_importable()
import torchvision, timm
torchvision_ops.make_torchvision_importable()
assert torchvision_ops._libraries == held
assert torchvision.models.resnet18 and torchvision.transforms.Compose and timm.create_model
"""
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_defined_where_the_operators_exist():
    done = python(
        f"""
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
{CALL}
assert torchvision_ops._libraries == []
"""
    )
    assert done.returncode == 0, done.stderr


def test_only_the_operator_that_is_missing_is_defined():
    done = python(
        """
import torch
library = torch.library.Library("torchvision", "FRAGMENT")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from modernize import torchvision_ops
torchvision_ops._extension_loads = lambda folder: False
torchvision_ops.make_torchvision_importable()
assert hasattr(torch.ops.torchvision, "qnms")
"""
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "before",
    [
        # torchvision not installed; its C extension loads; imported already
        "import importlib.util; importlib.util.find_spec = lambda name: None",
        "torchvision_ops._extension_loads = lambda folder: True",
        "import sys, types; sys.modules['torchvision'] = types.ModuleType('torchvision')",
    ],
    ids=["not installed", "extension loads", "imported already"],
)
def test_nothing_is_done_where_nothing_is_needed(before):
    done = python(
        f"""
import sys
from modernize import torchvision_ops
{before}
torchvision_ops.make_torchvision_importable()
assert torchvision_ops._libraries == [] and "torch" not in sys.modules
"""
    )
    assert done.returncode == 0, done.stderr
