"""How the steps are compared: recipes, data, runs, records, tables and charts.

In Python, ``ablations.runs(STUDY)`` returns all runs of a study as a table, and
``ablations.agreement(STUDY)`` how far its changes agree with the paper's.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.analysis.agreement import agreement
    from ablations.analysis.frame import runs

__all__ = ["agreement", "runs"]

_MODULES = {"agreement": "ablations.analysis.agreement", "runs": "ablations.analysis.frame"}


def __getattr__(name: str) -> Any:
    """Imports a public function when it is used, because its libraries are slow to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
