"""The validation images of a study under the corruptions made here, in files that runs share.

A folder has the images as the network sees them, before normalisation, their labels, and a file for
each corruption and severity. A process that needs a missing file makes it; all processes make the
same, and replace it as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ablations.analysis.robustness import CLEAN, PARTS
from ablations.choices import DataChoice
from ablations.data.corruptions.corrupt import corrupt
from ablations.data.corruptions.names import table_for
from ablations.data.decoding import explain
from ablations.data.images import DataError, InMemoryDataset
from ablations.data.in_memory_loader import fit_size
from ablations.data.sampling import derive
from ablations.data.transforms import BatchFormat, batch_format, evaluation_transform
from ablations.records import ResultsError, Study, make_folder, read_json, write_json
from ablations.tasks.registry import make_task
from ablations.units import integer
from modernize.user_code import digest_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
"""To be raised when the same seed gives other corrupted images than before."""
_CHUNK = 256  # images that are corrupted at a time


@dataclasses.dataclass(frozen=True)
class CorruptedImages:
    """The images of a study, as they are and corrupted.

    Attributes:
        folder: of the files.
    """

    folder: Path

    @classmethod
    def of(cls, study: Study) -> CorruptedImages:
        """Returns the images of a study; :meth:`prepare` writes them."""
        return cls(study.folder / "corrupted" / identity(study))

    def prepare(self, study: Study) -> None:
        """Writes the images as they are, with their labels, unless they are there.

        Raises:
            DataError: if the images are not those that the study was trained on.
            ResultsError: if there is too little space for all corrupted images.
        """
        if (self.folder / "format.json").is_file():
            return
        choice = study.preset.data
        dataset = make_task(study.preset.task_choice).load(choice)
        if dataset.identity() != study.manifest["images"]:
            raise DataError(
                f"the images of the study {study.name} have changed since its launch; restore "
                "them, or train it again under another --name."
            )
        images = prepared_images(dataset, choice)
        make_folder(self.folder)
        needed, free = images.nbytes * len(PARTS), shutil.disk_usage(self.folder).free
        if needed > free:
            raise ResultsError(
                f"the corrupted images of the study {study.name} need "
                f"{integer(needed / 2**20)} MiB in {self.folder}, and "
                f"{integer(free / 2**20)} MiB are free; free space there."
            )
        _save(self.folder / "labels.npy", np.asarray(dataset.val_labels, np.int64))
        _save(self._file(CLEAN), images)
        batches = batch_format(dataset, choice, torch.device("cpu"))
        write_json(self.folder / "format.json", {"mean": [*batches.mean], "std": [*batches.std]})

    def format(self, device: torch.device) -> BatchFormat:
        """Returns how the images are normalised."""
        values = read_json(self.folder / "format.json")
        if values is None:
            raise ResultsError(f"{self.folder} is gone; start the evaluation again.")
        return BatchFormat(values["mean"], values["std"], device)

    def labels(self) -> NDArray[np.int64]:
        """Returns the labels (N,)."""
        labels: NDArray[np.int64] = np.load(self.folder / "labels.npy")
        return labels

    def part(self, name: str) -> NDArray[np.uint8]:
        """Returns the images of a part, uint8 (N, S, S, C), mapped from its file.

        The file is made if it is missing: the seed of an image is derived from its number alone,
        and the corruption's own draws from that seed, its name and severity.
        """
        path = self._file(name)
        if not path.is_file():
            corruption, severity = name.split("/")
            originals = self.part(CLEAN)
            table = table_for(*originals.shape[1:3])
            result = np.empty_like(originals)
            for start in range(0, len(originals), _CHUNK):
                some = originals[start : start + _CHUNK]
                seeds = [derive(start + i, corruption) for i in range(len(some))]
                result[start : start + _CHUNK] = corrupt(
                    some, corruption, int(severity), seeds, table
                )
            _save(path, result)
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        return images

    def _file(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '-')}.npy"

    def remove(self) -> None:
        """Deletes the files; they can be made again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()


def identity(study: Study) -> str:
    """Returns a digest that changes with the corrupted images of a study."""
    data = study.preset.data
    depends = {
        "images": study.manifest["images"],
        "data": {k: getattr(data, k) for k in ("image_size", "resize", "interpolation")},
        "normalisation": [data.mean, data.std],
        "corruptions": VERSION,
    }
    return digest_of(json.dumps(depends, sort_keys=True).encode())


def prepared_images(dataset: Any, choice: DataChoice) -> NDArray[np.uint8]:
    """Returns the validation images at the size that the network sees, uint8 (N, S, S, C).

    Raises:
        DataError: for an image that cannot be read.
    """
    if isinstance(dataset, InMemoryDataset):
        fitted = fit_size(torch.from_numpy(dataset.val.copy()), choice.image_size)
        return np.ascontiguousarray(fitted.permute(0, 2, 3, 1).numpy())
    transform, reader = evaluation_transform(choice), dataset.reader(dataset.val)
    shape = len(reader), choice.image_size, choice.image_size, dataset.channels
    images = np.empty(shape, np.uint8)
    for index in range(len(reader)):
        try:
            images[index] = np.asarray(transform(reader(index))).reshape(shape[1:])
        except Exception as error:  # a broken file can make a decoder raise anything
            path = reader.path(index)
            raise DataError(f"{path} cannot be read: {explain(error)}. Replace it.") from error
    return images


def _save(path: Path, array: NDArray[Any]) -> None:
    """Writes an array atomically; another process may write the same at the same time."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.save(file, array)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ResultsError(f"cannot write {path}: {error.strerror or error}.") from error
