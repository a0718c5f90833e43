"""Makes torchvision importable beside a torch that cannot load its compiled operators.

The package index's torchvision is built for CUDA. Beside a CPU-only torch its C extension cannot
load, and ``import torchvision`` ends with "operator torchvision::nms does not exist": at import it
describes two operators to torch that only the extension would have defined. Defining their
signatures beforehand is enough for everything in Python (networks, transforms, data sets) to work;
only the two operators themselves cannot run.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import Any

_SIGNATURES = tuple(
    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
)
_libraries: list[Any] = []  # torch forgets a definition as soon as its Library is collected


def make_torchvision_importable() -> None:
    """Defines the operators that torchvision misses, where it would miss them; else does nothing.

    Call it before the first ``import torchvision`` or ``import timm`` (which imports torchvision).
    It may be called any number of times, with torchvision imported already, or not installed.
    """
    if "torchvision" in sys.modules:
        return
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None or _extension_loads(Path(package.origin).parent):
        return
    torch = importlib.import_module("torch")  # lazily; torch.library has no types to check
    missing = [s for s in _SIGNATURES if not hasattr(torch.ops.torchvision, s.partition("(")[0])]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for signature in missing:
            library.define(signature)
        _libraries.append(library)


def _extension_loads(folder: Path) -> bool:
    """Loads torchvision's ``_C`` from its folder, as torchvision will; returns whether it could."""
    finder = importlib.machinery.FileFinder(
        str(folder),
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    )
    extension = finder.find_spec("_C")
    if extension is None or extension.origin is None:
        return False
    try:
        importlib.import_module("torch").ops.load_library(extension.origin)
    except (ImportError, OSError):
        return False
    return True
