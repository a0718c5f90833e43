"""Starting other processes of this program: their imports, sockets and signals."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from typing import Any

from ablations.sockets import use_short_paths

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def wait_passively() -> None:
    """Lets torch's threads sleep while they wait for each other; call it before torch is imported.

    Threads that spin slow each other down as soon as another process, such as a worker that decodes
    images, needs a core.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def process_context() -> Any:
    """Returns the multiprocessing context that starts the processes of runs."""
    wait_passively()
    use_short_paths()
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Imported once, not once for each run. Making the first optimizer imports the second.
    context.set_forkserver_preload(["ablations.training.train", "torch._dynamo"])
    return context


def start_importing() -> None:
    """Starts the server process, if the platform has one, and its imports for runs.

    Signals that end a launch are often sent to all its processes, for example by Ctrl-C. They do
    not reach the server, nor a run before it can save: the launch stops both. The server imports
    the same modules as this process, whatever modules the current folder has.
    """
    if process_context().get_start_method() != "forkserver":
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    environment = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        resource_tracker.ensure_running()  # it unblocks two of the signals when it has started
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.environ.clear()
        os.environ.update(environment)


@contextlib.contextmanager
def delayed_signals() -> Iterator[None]:
    """Delays signals that end a launch until after the body.

    If a signal interrupts a request to the server process, the server dies of it.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for name in handlers:
        signal.signal(name, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        for name, handler in handlers.items():
            signal.signal(name, signal.SIG_DFL if handler is None else handler)
        for number in received[:1]:
            signal.raise_signal(number)
