"""Options that several commands share, the study they name, and paths in messages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ablations import limits, tables, terminal
from ablations.commands.parameters import BATCH, PIXELS, FilePath, IntegerType
from modernize.errors import UsageError
from modernize.text import plural

if TYPE_CHECKING:
    from ablations.records import Study

MAX_FAULTS = 10  # damaged files that a command names
FORMATS = click.Choice(tables.FORMATS)
STUDY_HELP = "STUDY: a study's name, or the path of its folder.  [default: the study launched last]"


def add_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a decorator that adds all of these options to a command, in this order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def results_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--results``."""
    return click.option(
        "--results",
        type=FilePath(file_okay=False),
        metavar="FOLDER",
        help="The folder of the studies.  [default: results in the current folder]",
    )(command)


def results_folder(results: Path | None) -> Path:
    """Returns the folder of the studies: the given one, or ``results`` in the current folder."""
    return results or Path.cwd() / "results"


def short_path(path: Path) -> str:
    """Returns a path relative to the current folder, if it is in it."""
    with contextlib.suppress(ValueError, OSError):  # it is elsewhere, or this folder was deleted
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def study_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``[STUDY]`` and ``--results``; :func:`find_study` takes them."""
    return click.argument("study", required=False, metavar="[STUDY]")(results_option(command))


comparing_options = add_options(
    click.option(
        "--baseline",
        default="parent",
        show_default=True,
        metavar="parent|STEP",
        help="Compare each step with its parent, the step it builds on (or, if that has no "
        "finished run, the nearest step before it); or compare all steps with one STEP.",
    ),
    click.option(
        "--best-epoch",
        is_flag=True,
        help="Use the best epoch of each run instead of the last one. This is optimistic.",
    ),
)


def weights_option(text: str, *, required: bool = False) -> Callable[..., Any]:
    """Returns the option ``--weights`` with its help text."""
    return click.option(
        "--weights",
        required=required,
        type=FilePath(path_type=str, is_path=lambda value: value != "torchvision"),
        metavar="FILE|torchvision",
        help=text,
    )


def regime_option(text: str) -> Callable[..., Any]:
    """Returns the option ``--regime``, with its help text."""
    return click.option(
        "--regime", default="resnet50", show_default=True, metavar="NAME", help=text
    )


ema_option = click.option(
    "--ema", is_flag=True, help="Use the file's moving average of the weights (EMA)."
)
layers_option = click.option(
    "--layers",
    type=FilePath(dir_okay=False),
    metavar="FILE",
    help="The Python file of the network's custom layers, if it has any; it is executed.",
)
image_size_option = click.option(
    "--image-size", type=PIXELS, metavar="PIXELS", help="[default: the run's, or 224]"
)
batch_size_option = click.option(
    "--batch-size", type=BATCH, metavar="IMAGES", default=64, show_default=True
)
skip_bad_images_option = click.option(
    "--skip-bad-images", is_flag=True, help="Skip images that cannot be read, and count them."
)
workers_option = click.option(
    "--workers",
    type=IntegerType(0, limits.PROCESSES),
    metavar="N",
    help="Processes that decode images.",
)


def find_study(given: str | None, results: Path | None) -> Study:
    """Returns a study, given by its name or by the path of its folder.

    Without either, returns the study that was launched last.

    Raises:
        UsageError: if there is no such study, or for ``--results`` beside a path.
    """
    from ablations.records import open_study

    folder = results_folder(results)
    if given is None:
        study = _last_launched(folder)
    elif results is not None and "/" in given:
        raise UsageError(f"{given!r} is a path, and --results goes with a study's name; give one.")
    else:
        study = open_study(given, folder)
    report_faults(study)
    return study


def _last_launched(folder: Path) -> Study:
    """Returns the readable study that was launched last.

    Raises:
        UsageError: if there is none.
    """
    from ablations.records import COMMAND, ResultsError, Study

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
    raise UsageError(f"no study was launched in {folder} yet; see {COMMAND} --help.")


def report_faults(study: Study) -> None:
    """Lets the command print, at its end, which files of the study it could not read."""

    def tell() -> None:
        faults = list(study.faults.values())
        if (more := len(faults) - MAX_FAULTS) > 0:
            faults[MAX_FAULTS:] = [f"{plural(more, 'more file')} could not be read."]
        for fault in faults:
            terminal.echo(f"Note: {fault}", err=True)

    click.get_current_context().call_on_close(tell)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def given_parameters(ctx: click.Context) -> list[str]:
    """Returns the options that were typed, such as ``--only``, and the arguments, as ``STUDY``."""
    return [
        parameter.opts[0] if isinstance(parameter, click.Option) else parameter.name.upper()
        for parameter in ctx.command.params
        if parameter.expose_value
        and parameter.name
        and ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    ]
