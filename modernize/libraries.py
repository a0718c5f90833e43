"""Torchvision and timm, imported when they are needed: each takes seconds."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from modernize.errors import RoadmapError

PAIR = "torch==2.14.1 torchvision==0.29.1"  # as in requirements.txt


class LibraryError(RoadmapError):
    """A library that is installed but cannot be imported."""


def library(name: str) -> Any:
    """Imports and returns a module of torchvision or timm, untyped.

    Args:
        name: the module's full name, such as ``"timm.data"``.

    Raises:
        LibraryError: if torchvision was built for another version of torch; names both versions
            and the command that installs a matching pair.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        if "torchvision" not in str(error):
            raise
        torch, torchvision = (_version(package) for package in ("torch", "torchvision"))
        raise LibraryError(
            f"torchvision {torchvision} does not work with torch {torch} ({error}). Install a "
            f"matching pair: pip install {PAIR}"
        ) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
