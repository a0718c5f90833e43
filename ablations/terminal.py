"""Output for people: every text is shown as it is, without markup or control sequences.

Every command prints through :func:`echo` or a :func:`console`, so that titles, paths, reasons and
logs reach a terminal as visible characters.
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
    """Prints a text with all its characters visible; ``err``: to standard error."""
    click.echo(visible(str(text)), err=err, nl=nl)


def console(*, err: bool = False, quiet: bool = False, file: IO[str] | None = None) -> Console:
    """Returns a console for tables, styles and progress bars, which never reads text as markup."""
    return _Console(stderr=err, quiet=quiet, file=file, markup=False, emoji=False, highlight=False)


def print_text(console: Console, text: object) -> None:
    """Prints a text: broken between words on a terminal, as it is to a file or a pipe."""
    console.print(Text(str(text)), soft_wrap=not console.is_terminal)


class LogPrinter:
    """Prints a growing log: to a terminal as visible text without colours, otherwise its bytes."""

    def __init__(self) -> None:
        self._write: Callable[[bytes], object] | None = None
        if not sys.stdout.isatty():
            out: object = sys.stdout
            self._write = (out if isinstance(out, Stream) else Stream(out)).write_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # the part of the last piece that is incomplete

    def write(self, data: bytes, *, final: bool = False) -> None:
        """Prints the next piece; ``final``: the last one."""
        if self._write is not None:
            self._write(data)
            return
        text = self._rest + self._decoder.decode(data, final)
        whole = text if final else _UNENDED.sub("", text)
        self._rest = text[len(whole) :]
        echo(plain_log(whole), nl=False)


_UNENDED = re.compile(r"(?:\x1b(?:\[[0-9;:]*)?|\r)\Z")


class OutputError(Exception):
    """Standard output cannot be written: its reader has ended, or the disk is full."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the output: {error.strerror or error}")
        self.reader_is_gone = error.errno == errno.EPIPE


class Stream:
    """A standard stream that can show every text, and that may break.

    Characters that its encoding does not have are written as escape sequences.

    Args:
        stream: the stream.
        required: whether OutputError is raised if it breaks; otherwise the command continues.
    """

    def __init__(self, stream: Any, *, required: bool = True) -> None:
        self._stream: Any = stream._stream if isinstance(stream, Stream) else stream
        self.required, self.lost = required, False
        with contextlib.suppress(AttributeError, ValueError):
            self._stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Writes a text, unless the stream is lost."""
        if not self.lost:
            with self._writing():
                self._stream.write(text)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Writes bytes unchanged, unless the stream is lost."""
        if not self.lost:
            with self._writing():
                self._stream.flush()
                self._stream.buffer.write(data)
                self._stream.buffer.flush()

    def flush(self) -> None:
        """Writes the buffer, unless the stream is lost."""
        if not self.lost:
            with self._writing():
                self._stream.flush()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._discard()
            if self.required:
                raise OutputError(error) from error
            if self is not sys.stderr:
                echo(f"Note: {OutputError(error)}. The command continues without it.", err=True)

    def _discard(self) -> None:
        """Discards the rest of the buffer, and all that C libraries write."""
        self.lost = True
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes would bypass this class
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextlib.contextmanager
def cursor_kept(console: Console) -> Iterator[None]:
    """Shows the cursor again after the body, even if it was interrupted."""
    try:
        yield
    finally:
        console.show_cursor()


class _Console(Console):
    """A console that makes every character visible."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(visible(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
