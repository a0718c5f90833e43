"""A digest of the content of all image files in a folder; reads every file."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ablations.data.image_folder import ImageFolder

READERS = 8  # threads; most of the time is spent waiting for the disk


def digest_content(images: ImageFolder) -> str:
    """Returns a digest of the content of all files, in the order of their paths.

    A file that cannot be read counts as empty; once it can be read, the digest changes.
    """
    paths = [os.fsdecode(path) for split in (images.train, images.val) for path in split]

    def digest_file(path: str) -> bytes:
        try:
            if not (file_path := Path(images.root, path)).is_file():  # a pipe would block
                return b""
            with file_path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return b""

    whole = hashlib.sha256()
    with ThreadPoolExecutor(READERS) as pool:
        for path, digest in zip(paths, pool.map(digest_file, paths), strict=True):
            whole.update(os.fsencode(path.partition("/")[2]) + b"\0" + digest + b"\n")
    return whole.hexdigest()[:16]
