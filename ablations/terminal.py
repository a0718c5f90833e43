"""The one place where text leaves for people to read: nothing in it is markup, nothing acts.

Every command prints through :func:`echo` or a :func:`console`, so that titles, paths, reasons and
logs reach a terminal as characters to be seen, whatever they contain.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

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
        self._write: Callable[[bytes], object] | None = None
        if not sys.stdout.isatty():
            out: object = sys.stdout
            self._write = (out if isinstance(out, Stream) else Stream(out)).write_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # the beginning of what ends in the next piece

    def write(self, data: bytes, *, final: bool = False) -> None:
        """Prints the next piece; ``final``: there is no other."""
        if self._write is not None:
            self._write(data)
            return
        text = self._rest + self._decoder.decode(data, final)
        whole = text if final else _UNENDED.sub("", text)
        self._rest = text[len(whole) :]
        echo(plain_log(whole), nl=False)


_UNENDED = re.compile(r"(?:\x1b(?:\[[0-9;:]*)?|\r)\Z")


class OutputError(Exception):
    """Standard output takes no more: its reader is gone, or the disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the output: {error.strerror or error}")
        self.reader_is_gone = error.errno == errno.EPIPE


class Stream:
    """A standard stream that shows every text, and that may be lost.

    Characters that its encoding lacks are written as escape sequences.

    Args:
        stream: the stream.
        lasting: whether the command goes on without it. Else OutputError is raised.
    """

    def __init__(self, stream: Any, *, lasting: bool = False) -> None:
        self._stream: Any = stream._stream if isinstance(stream, Stream) else stream
        self.lasting, self.lost = lasting, False
        with contextlib.suppress(AttributeError, ValueError):
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Writes a text, if that is still possible."""
        if not self.lost:
            with self._losing():
                self._stream.write(text)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Writes bytes as they are, if that is still possible."""
        if not self.lost:
            with self._losing():
                self._stream.flush()
                self._stream.buffer.write(data)
                self._stream.buffer.flush()

    def flush(self) -> None:
        """Writes what is still in memory, if that is still possible."""
        if not self.lost:
            with self._losing():
                self._stream.flush()

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._give_up()
            if not self.lasting:
                raise OutputError(error) from error
            if self is not sys.stderr:
                echo(f"Note: {OutputError(error)}. The command goes on without it.", err=True)

    def _give_up(self) -> None:
        """Sends what is left in memory, and all that C libraries write, to nowhere."""
        self.lost = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes would go past all this
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextlib.contextmanager
def cursor_kept(console: Console) -> Iterator[None]:
    """Shows the cursor again after the body, at whatever moment that ended."""
    try:
        yield
    finally:
        console.show_cursor()


class _Console(Console):
    """A console that shows every character of what it renders."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(visible(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
