"""The environment of a command: signals, standard streams, the current folder."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from ablations.terminal import Stream
from modernize.errors import UsageError

STOPPING = (signal.SIGTERM, signal.SIGHUP)  # besides SIGINT, for which Python does the same


class Stopped(KeyboardInterrupt):  # like its parent, not an error
    """A signal other than SIGINT asks this process to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_status(stop: BaseException | None) -> int:
    """Returns the exit status that a shell reports for a command that a signal stopped."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def describe(stop: BaseException | None) -> str:
    """Returns how a command was stopped, in a few words."""
    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    return "Interrupted" if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}"


def prepare() -> None:
    """Prepares this process for signals, for streams that are closed or break, and for any locale.

    Raises:
        UsageError: if the current folder was deleted.
    """
    # A file opened later must not take the number of a closed stream. This one cannot be written.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    sys.stdout = Stream(sys.stdout, required=True)
    sys.stderr = Stream(sys.stderr, required=False)
    for signal_number in STOPPING:
        if signal.getsignal(signal_number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(signal_number, _stop)
    try:
        Path.cwd()
    except OSError:
        raise UsageError("the current folder was deleted; change to one that exists.") from None


def continue_without_output() -> None:
    """Lets the command continue if standard output is lost; its work matters more."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.required = False


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)
