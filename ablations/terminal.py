"""The one place where text leaves for people to read: nothing in it is markup, nothing acts.

Every command prints through :func:`echo` or a :func:`console`, so that titles, paths, reasons and
logs reach a terminal as characters to be seen, whatever they contain.
"""

from __future__ import annotations

import codecs
import io
import re
import sys
from collections.abc import Iterable
from typing import IO, Any, BinaryIO

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from modernize.text import plain_log, visible


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Prints a text as it is, and all its characters visibly; to the error output with ``err``."""
    click.echo(visible(str(text)), err=err, nl=nl)


def console(*, err: bool = False, quiet: bool = False, file: IO[str] | None = None) -> Console:
    """Returns a console for tables, styles and progress bars, which takes no text for markup."""
    return _Console(stderr=err, quiet=quiet, file=file, markup=False, emoji=False, highlight=False)


class LogPrinter:
    """Prints a log as it grows: on a terminal visibly and without colours, elsewhere its bytes."""

    def __init__(self) -> None:
        self._raw: BinaryIO | None = None
        if not sys.stdout.isatty():
            self._raw = getattr(sys.stdout, "buffer", None)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # the beginning of what ends in the next piece

    def write(self, data: bytes, *, final: bool = False) -> None:
        """Prints the next piece; ``final``: there is no other."""
        if self._raw is not None:
            self._raw.write(data)
            self._raw.flush()
            return
        text = self._rest + self._decoder.decode(data, final)
        whole = text if final else _UNENDED.sub("", text)
        self._rest = text[len(whole) :]
        echo(plain_log(whole), nl=False)


_UNENDED = re.compile(r"(?:\x1b(?:\[[0-9;:]*)?|\r)\Z")


def prepare() -> None:
    """Lets output that cannot encode a character, such as ASCII, escape it instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Console(Console):
    """A console that shows every character of what it renders."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(visible(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
