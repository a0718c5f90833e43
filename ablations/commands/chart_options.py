"""The options of commands that draw: they become one object of settings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from ablations import limits
from ablations.commands.options import given_parameters
from ablations.commands.parameters import FilePath, FloatType, IntegerType

_OPTIONS = {
    "width": click.option(
        "--width",
        type=FloatType(*limits.CHART_WIDTHS),
        metavar="INCHES",
        help="The width of the page or column: 3.25 for a column of two.  "
        "[default: 6.7; for blocks, by their number]",
    ),
    "style": click.option(
        "--style",
        metavar="FILE|NAME",
        help="The fonts and colours of a matplotlib style: a file, or a name such as grayscale.",
    ),
    "title": click.option("--no-title", "title", flag_value=False, default=True, help="No title."),
    "dark": click.option("--dark", is_flag=True, help="Light on dark."),
    "transparent": click.option(
        "--transparent", is_flag=True, help="No background: the page's is seen."
    ),
    "svg_text": click.option(
        "--svg-text",
        is_flag=True,
        help="Keep texts in an SVG as texts, to edit or search; without it they are outlines, "
        "which look the same everywhere.",
    ),
    "dpi": click.option(
        "--dpi",
        type=IntegerType(*limits.CHART_DPIS),
        default=200,
        show_default=True,
        help="Pixels per inch of a PNG.",
    ),
}

NAMES = tuple(f"--{'no-' * (name == 'title')}{name.replace('_', '-')}" for name in _OPTIONS)
"""As given on the command line."""


def outputs_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Returns the option ``--output``, which may be repeated, with this help."""
    return click.option(
        "--output", "outputs", multiple=True, metavar="FILE", type=FilePath(dir_okay=False),
        help=text,
    )  # fmt: skip


def chart_options(
    *without: str, draws: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options of charts; the command gets them as ``settings``, a ``ChartSettings``.

    Args:
        without: settings that make no sense for the command.
        draws: the parameter of ``--output``, if the command draws only with it; without it
            ``settings`` is None, matplotlib is not imported, and the options are refused.
    """
    names = [name for name in _OPTIONS if name not in without]

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_settings(*arguments: Any, **options: Any) -> Any:
            given = {name: options.pop(name) for name in names}
            if draws and not options[draws]:
                for name in given_parameters(click.get_current_context()):
                    if name.removeprefix("--").replace("-", "_").removeprefix("no_") in given:
                        raise click.UsageError(f"{name} goes with --output.")
                return command(*arguments, settings=None, **options)
            from ablations.charts.settings import ChartSettings

            chosen = {name: value for name, value in given.items() if value is not None}
            return command(*arguments, settings=ChartSettings(**chosen), **options)

        for name in reversed(names):
            with_settings = _OPTIONS[name](with_settings)
        return with_settings

    return add
