"""Where processes of this program keep the sockets through which they pass files to each other."""

from __future__ import annotations

import multiprocessing.util
import os
import tempfile

from modernize.errors import UsageError

MOST_BYTES = 70  # of a folder: a socket's path has 103 at most, and multiprocessing adds 32
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # what is made there is this user's alone


def use_short_paths() -> str:
    """Lets multiprocessing make its sockets in a folder whose path is short enough for them.

    That is the one for temporary files, unless its path is too long. A job of a scheduler often has
    such a one.

    Raises:
        UsageError: if there is no such folder.
    """
    faults = []
    usual, given = tempfile.tempdir, ""
    try:
        given = tempfile.gettempdir()
        for folder in (given, *OTHERS):
            if len(os.fsencode(folder)) > MOST_BYTES:
                faults.append(f"{folder} has more than {MOST_BYTES} bytes")
                continue
            tempfile.tempdir = folder
            try:
                return multiprocessing.util.get_temp_dir()  # which is the same from now on
            except OSError as error:
                faults.append(f"{folder}: {error.strerror or error}")
    except OSError as error:
        faults.append(str(error))
    finally:
        tempfile.tempdir = given or usual
    raise UsageError(
        "there is no folder for sockets, by which processes reach each other; set TMPDIR to one "
        f"that is short and can be written. Tried: {'; '.join(faults)}."
    )
