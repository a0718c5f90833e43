"""The folder of the sockets through which processes of this program pass files to each other."""

from __future__ import annotations

import multiprocessing.util
import os
import tempfile

from modernize.errors import UsageError

MOST_BYTES = 70  # of a folder's path: a socket's path has at most 103, and multiprocessing adds 32
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # multiprocessing creates a private folder there


def use_short_paths() -> str:
    """Lets multiprocessing create its sockets in a folder whose path is short enough.

    It is the folder for temporary files, unless its path is too long, as in many jobs of a cluster.

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
                return multiprocessing.util.get_temp_dir()  # the same folder from now on
            except OSError as error:
                faults.append(f"{folder}: {error.strerror or error}")
    except OSError as error:
        faults.append(str(error))
    finally:
        tempfile.tempdir = given or usual
    raise UsageError(
        "no folder can have the sockets that connect processes; set TMPDIR to a folder with a "
        f"short path where you can write. Tried: {'; '.join(faults)}."
    )
