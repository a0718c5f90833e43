"""Imports matplotlib whatever the user's settings: charts need no backend and have their style."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path


def import_matplotlib() -> None:
    """Imports matplotlib even if it rejects the user's settings.

    The settings are the variable ``MPLBACKEND``, which a notebook sets, and a file ``matplotlibrc``
    in the current folder or the user's. Imported from its own folder, matplotlib reads
    its own file.
    """
    try:
        importlib.import_module("matplotlib")
    except Exception:
        found = importlib.util.find_spec("matplotlib")
        if found is None or not found.submodule_search_locations:
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]
        backend = os.environ.pop("MPLBACKEND", None)
        try:
            with contextlib.chdir(Path(found.submodule_search_locations[0]) / "mpl-data"):
                importlib.import_module("matplotlib")
        finally:
            if backend is not None:
                os.environ["MPLBACKEND"] = backend
