"""Types of option values, and commands that refuse repeated or empty options."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ablations import limits
from ablations.paths import expand
from modernize.errors import UsageError
from modernize.text import shortened

_SHOWN = 30  # characters of a number in a message


class StrictCommand(click.Command):
    """A command that refuses an option given twice or empty. It adds ``--debug``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        debug = click.Option(
            ["--debug"], is_flag=True, expose_value=False, help="Show tracebacks of errors."
        )
        self.params.append(debug)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the command line.

        Raises:
            UsageError: of click, for an option that is given twice, or as an empty text.
        """
        if not ctx.resilient_parsing:
            values, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for option in dict.fromkeys(order):
                if not isinstance(option, click.Option) or option.is_flag:
                    continue
                if not option.multiple and order.count(option) > 1:
                    raise click.UsageError(f"{option.opts[0]} is given twice; give it once.", ctx)
                value = values.get(option.name or "")
                if value == "" or (isinstance(value, list) and "" in value):
                    raise click.UsageError(f"{option.opts[0]} is empty; leave it out.", ctx)
        return super().parse_args(ctx, args)


class StrictGroup(StrictCommand, click.Group):
    """A group of commands that refuses an option given twice."""


class _StrictNumber(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """A number within bounds, written with the digits 0 to 9 alone."""

    noun: str
    pattern: re.Pattern[str]
    min: Any
    max: Any

    def _describe_range(self) -> str:  # for the help
        return f"{self.min} to {self.max}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the number."""
        if isinstance(value, str) and not self.pattern.fullmatch(value.strip()):
            wanted = f"{self.noun} from {self._describe_range()}"
            self.fail(f"{shortened(value, _SHOWN)!r} is not {wanted}.", param, ctx)
        return super().convert(value, param, ctx)


class IntegerType(_StrictNumber, click.IntRange):
    """An integer within bounds."""

    noun = "an integer"
    pattern = re.compile(r"[+-]?[0-9]{1,20}")


class FloatType(_StrictNumber, click.FloatRange):
    """A finite number within bounds."""

    noun = "a number"
    pattern = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


class FilePath(click.Path):
    """A path, in which ``~``, ``~user``, ``$VAR`` and ``${VAR}`` are replaced.

    Args:
        path_type: of the result.
        is_path: whether a value is a path; others are not changed.
        options: of :class:`click.Path`.
    """

    def __init__(
        self,
        *,
        path_type: type[Any] = Path,
        is_path: Callable[[str], bool] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path_type=path_type, **options)
        self._is_path = is_path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the path, or a value that is not a path unchanged."""
        if isinstance(value, str):
            if self._is_path and not self._is_path(value):
                return value
            try:
                value = expand(value)
            except UsageError as error:
                self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


def _is_folder(value: str) -> bool:
    from ablations.choices import SOURCES

    return value not in SOURCES


class ImageFolder(FilePath):
    """The folder or file of the images, or one of the keywords of a preset's ``data.source``."""

    def __init__(self) -> None:
        super().__init__(path_type=str, is_path=_is_folder)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the folder or the keyword as text."""
        if not _is_folder(value) and os.path.lexists(value):
            self.fail(
                f"{value!r} is a folder here, and a keyword for other images. Write ./{value} for "
                f"the folder, or --set data.source={value} for the keyword.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


def _split_names(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """Returns the names in lists with commas."""
    keys = [key.strip() for value in values for key in value.split(",") if key.strip()]
    typed = param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    if typed and not keys:
        raise click.BadParameter("it is an empty list.", ctx, param)
    return keys


def list_option(name: str, **options: Any) -> Callable[..., Any]:
    """Returns an option that takes names separated by commas, and may be repeated."""
    return click.option(name, multiple=True, callback=_split_names, **options)


PIXELS = IntegerType(1, limits.PIXELS)
BATCH = IntegerType(1, limits.BATCH)
SEED = IntegerType(0, limits.SEEDS - 1)
