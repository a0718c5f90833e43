"""How a command gets on with what started it: signals, standard streams, the current folder."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from ablations.terminal import Stream
from modernize.errors import UsageError

STOPPING = (signal.SIGTERM, signal.SIGHUP)  # besides SIGINT, for which Python does the same


class Stopped(KeyboardInterrupt):  # no error, as its parent is none
    """A signal asks this process to stop, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def exit_status(stop: BaseException | None) -> int:
    """Returns what a shell reports of a command that a signal has stopped: Ctrl-C, or another."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def describe(stop: BaseException | None) -> str:
    """Returns how a command was stopped, in a word or two."""
    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    return "Interrupted" if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}"


def prepare() -> None:
    """Readies this process: for signals, for streams that are closed or break, for any locale.

    Raises:
        UsageError: if the folder that the command was started in is gone.
    """
    # A file opened later must not take the number of a closed stream. This one cannot be written.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    sys.stdout = Stream(sys.stdout, lasting=False)
    sys.stderr = Stream(sys.stderr, lasting=True)
    for signal_number in STOPPING:
        if signal.getsignal(signal_number) is signal.SIG_DFL:  # nohup has it ignored
            signal.signal(signal_number, _stop)
    try:
        Path.cwd()
    except OSError:
        raise UsageError(
            "the folder that this command was started in is gone; change to one that exists."
        ) from None


def continue_without_output() -> None:
    """Lets the command go on if standard output is lost: what it does is more than what it says."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.lasting = True


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)
