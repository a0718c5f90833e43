"""What several commands share: options, and how paths are shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ablations import tables

FORMATS = click.Choice(tables.FORMATS)


def results_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--results``."""
    return click.option(
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER",
        help="Where studies lie.  [default: results/ of the repository]",
    )(command)


def results_folder(results: Path | None) -> Path:
    """Returns where studies lie."""
    from ablations.records import RESULTS

    return results or RESULTS


def from_here(path: Path) -> str:
    """Returns a path as short as it can be typed from where we are."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)
