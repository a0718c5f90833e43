"""Libraries that only some data sets need, and that are installed as extras."""

from __future__ import annotations

import importlib
from typing import Any

from ablations.data.images import DataError


def extra_library(name: str, extra: str) -> Any:
    """Imports and returns a module, untyped.

    Args:
        name: the module's full name, such as ``"datasets"``.
        extra: the extra of this package that installs it.

    Raises:
        DataError: if it is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise DataError(
            f"data.name {extra} needs the package {error.name}, which is not installed: "
            f"pip install 'convnext-roadmap[{extra}]'."
        ) from error
