"""Images: found, read, checked and named by their content. No torch here.

Fashion-MNIST comes as four IDX files; a subset of it ships beside this module.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from modernize.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ablations.recipe import DataChoice

EMBEDDED = Path(__file__).parent / "fashion_mnist"

# Where Debian's package dataset-fashion-mnist and torchvision's own download put the full set.
ON_DISK = (
    Path("/usr/share/datasets/fashion-mnist"),
    Path("/usr/share/datasets"),
    Path("data/FashionMNIST/raw"),
    Path("~/.cache/torchvision/FashionMNIST/raw").expanduser(),
)

FILES = {  # name: dimensions of an item
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}


class DataError(UsageError):
    """Images that are not where they were said to be, or are not what they should be."""


@dataclasses.dataclass(frozen=True)
class Images:
    """Training and validation images in memory.

    Attributes:
        name: the data set.
        train, val: uint8 (N, channels, height, width).
        train_labels, val_labels: int64 (N,), from 0 to ``num_classes`` - 1.
        digest: names the content of all four.
    """

    name: str
    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    val: NDArray[np.uint8]
    val_labels: NDArray[np.int64]
    digest: str

    @property
    def num_classes(self) -> int:
        """Classes that occur in the training labels."""
        return int(self.train_labels.max()) + 1

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.train.shape[1])

    def identity(self) -> dict[str, str | int]:
        """Returns what a run's identity and record say of these images."""
        return {
            "name": self.name,
            "train_images": len(self.train),
            "val_images": len(self.val),
            "sha256": self.digest,
        }


def load_images(choice: DataChoice) -> Images:
    """Returns the images that a preset asks for.

    Raises:
        DataError: naming the folder and what was expected there, or the file and what is wrong.
    """
    folder = find_folder(choice.source)
    arrays = {name: _read_idx(_find_file(folder, name), dims) for name, dims in FILES.items()}
    train, train_labels, val, val_labels = arrays.values()
    for images, labels in ((train, train_labels), (val, val_labels)):
        if len(images) != len(labels) or not len(images):
            raise DataError(f"{folder}: {len(images)} images but {len(labels)} labels.")
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(str(array.shape).encode())
        digest.update(array.tobytes())
    return Images(
        name=choice.name,
        train=train[:, None],
        train_labels=train_labels.astype(np.int64),
        val=val[:, None],
        val_labels=val_labels.astype(np.int64),
        digest=digest.hexdigest()[:16],
    )


def find_folder(source: str) -> Path:
    """Returns the folder that a preset's ``source`` means.

    Raises:
        DataError: naming the places looked at.
    """
    if source == "embedded":
        return EMBEDDED
    folders = ON_DISK if source == "on-disk" else (Path(source).expanduser(),)
    for folder in folders:
        if any(_candidates(folder, next(iter(FILES)))):
            return folder
    looked = ", ".join(map(str, folders))
    state = "" if any(folder.is_dir() for folder in folders) else " (no such folder)"
    raise DataError(
        f"no Fashion-MNIST images in {looked}{state}. Expected {', '.join(FILES)}, each plain or "
        "ending in .gz; name their folder with --data. Debian's package dataset-fashion-mnist has "
        "them, and torchvision.datasets.FashionMNIST(root, download=True) fetches them."
    )


def _candidates(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / f"{name}.gz", folder / name) if path.is_file()]


def _find_file(folder: Path, name: str) -> Path:
    found = _candidates(folder, name)
    if not found:
        raise DataError(f"{folder} lacks {name} (plain or ending in .gz); put it there.")
    return found[0]


def _read_idx(path: Path, dims: int) -> NDArray[np.uint8]:
    """Returns the unsigned bytes of an IDX file: magic number, ``dims`` sizes, then the items."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; fetch it anew.") from error
    header = 4 + 4 * dims
    if len(raw) < header or raw[:4] != bytes((0, 0, 8, dims)):
        raise DataError(f"{path} is no IDX file of {dims}-dimensional bytes; fetch it anew.")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=dims, offset=4))
    if len(raw) - header != int(np.prod(shape)):
        raise DataError(
            f"{path} holds {len(raw) - header} bytes where its header says {np.prod(shape)}; "
            "it is cut off or altered: fetch it anew."
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
