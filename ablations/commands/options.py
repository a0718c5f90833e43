"""What several commands share: options, which study is meant, and how paths are shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ablations import tables, terminal
from ablations.commands.typed import FilePath
from modernize.errors import UsageError
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.records import Study

MOST_FAULTS = 10  # damaged files that a command names
FORMATS = click.Choice(tables.FORMATS)


def results_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--results``."""
    return click.option(
        "--results",
        type=FilePath(file_okay=False),
        metavar="FOLDER",
        help="Where studies lie.  [default: results/ of the repository]",
    )(command)


def results_folder(results: Path | None) -> Path:
    """Returns where studies lie."""
    from ablations.records import RESULTS

    return results or RESULTS


def from_here(path: Path) -> str:
    """Returns a path as short as it can be typed from where we are."""
    with contextlib.suppress(ValueError, OSError):  # elsewhere; or this folder is gone
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def study_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--name`` and ``--results``."""
    return click.option(
        "--name", metavar="STUDY", help="Which study.  [default: the one launched last]"
    )(results_option(command))


def comparing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--baseline`` and ``--best-epoch``."""
    against = click.option(
        "--baseline",
        "against",
        default="parent",
        show_default=True,
        metavar="parent|STEP",
        help="What each step is compared with: the one it builds on, or where that has no finished "
        "run the nearest before it; or always the same STEP.",
    )
    best = click.option(
        "--best-epoch",
        is_flag=True,
        help="Take the best of all epochs, which is optimistic, instead of the last.",
    )
    return against(best(command))


def find_study(name: str | None, results: Path | None) -> Study:
    """Returns the study of this name; without one, that which was launched last.

    Raises:
        UsageError: where there is none.
    """
    from ablations.records import Study, study_folder

    folder = results_folder(results)
    study = _last_launched(folder) if name is None else Study.open(study_folder(folder, name))
    tell_faults(study)
    return study


def _last_launched(folder: Path) -> Study:
    """Returns the study that was launched last, of those that can be read.

    Raises:
        UsageError: if there is none.
    """
    from ablations.records import ResultsError, Study

    launched = [
        path
        for path in folder.glob("*/study.json")
        if (path.parent / "runs").is_dir() or (path.parent / "submissions").is_dir()
    ]
    for path in sorted(launched, key=_changed, reverse=True):
        try:
            return Study.open(path.parent)
        except ResultsError as error:
            terminal.echo(f"Note: {error}", err=True)
    raise UsageError(f"no study was launched in {folder} yet; see run_roadmap.py --help.")


def tell_faults(study: Study) -> None:
    """Has the command say at its end which of the study's files it could not read."""

    def tell() -> None:
        faults = list(study.faults.values())
        if (more := len(faults) - MOST_FAULTS) > 0:
            faults[MOST_FAULTS:] = [f"{plural(more, 'more file')} could not be read."]
        for fault in faults:
            terminal.echo(f"Note: {fault}", err=True)

    click.get_current_context().call_on_close(tell)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def name_once(argument: str | None, option: str | None) -> str | None:
    """Returns the study's name, which may be given as an argument or with ``--name``.

    Raises:
        UsageError: where it is given as both.
    """
    if argument is not None and option is not None:
        raise UsageError("name the study once, as STUDY or with --name.")
    return argument or option


def given_options(ctx: click.Context) -> list[str]:
    """Returns the options that were typed, by their names."""
    return [
        parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.expose_value
        and parameter.name
        and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
