"""The same images as each kind of data set keeps them, for tests."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ablations.choices import DataChoice
from ablations.data.datasets import load_dataset
from ablations.data.images import DataError, Dataset, ListedImages
from ablations.data.loaders import make_loaders
from ablations.data.sampling import Sampling
from ablations.data_sets import KINDS
from ablations.recipe import load_preset

CLASSES = ("ant", "bee", "cat")
Row = tuple[str, str, bytes]  # split, class, the content of a PNG file


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def filled(red: int) -> bytes:
    """A PNG file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (48, 40), (red, 100, 100)).save(file, "PNG")
    return file.getvalue()


def rows_of(splits: dict[str, int]) -> list[Row]:
    """Images of three classes, class after class, in the order of a folder."""
    return [
        (split, name, png(1000 * count + 100 * c + i))
        for split, count in splits.items()
        for c, name in enumerate(CLASSES)
        for i in range(count)
    ]


def write_folder(root: Path, rows: list[Row]) -> None:
    for i, (split, name, content) in enumerate(rows):
        (root / split / name).mkdir(parents=True, exist_ok=True)
        (root / split / name / f"{i:03}.png").write_bytes(content)


def write_csv(root: Path, rows: list[Row]) -> None:
    write_folder(root / "files", rows)
    with (root / "images.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "who"])
        for i, (split, name, _) in enumerate(rows):
            writer.writerow([f"files/{split}/{name}/{i:03}.png", name, split, "me"])


def write_shards(root: Path, rows: list[Row]) -> None:
    """Shards of five samples, with the label as text, and other members that are ignored."""
    for split in ("train", "val"):
        own = [(i, row) for i, row in enumerate(rows) if row[0] == split]
        for number in range(0, len(own), 5):
            with tarfile.open(root / f"toy-{split}-{number // 5:06}.tar", "w") as tar:
                for i, (_, name, content) in own[number : number + 5]:
                    for suffix, data in (("cls", name.encode()), ("json", b"{}"), ("png", content)):
                        member = tarfile.TarInfo(f"{i:03}.{suffix}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))


def write_huggingface(root: Path, rows: list[Row]) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "animal": datasets.ClassLabel(names=list(CLASSES))}
    )
    parts = {}
    for split, name in (("train", "train"), ("val", "validation")):
        own = [row for row in rows if row[0] == split]
        columns = {
            "image": [{"bytes": content, "path": None} for *_, content in own],
            "animal": [CLASSES.index(label) for _, label, _ in own],
        }
        parts[name] = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(parts).save_to_disk(root)


CUSTOM = """
import io, pathlib
from PIL import Image

CLASSES = ["ant", "bee", "cat"]

class Animals:
    def __init__(self, split):
        self.files = sorted(pathlib.Path({root!r}, split).glob("*/*.png"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return Image.open(self.files[i]).convert("RGB"), CLASSES.index(self.files[i].parent.name)

def train():
    return Animals("train")

def val():
    return Animals("val")
"""


def write_custom(root: Path, rows: list[Row]) -> None:
    write_folder(root / "files", rows)
    (root / "animals.py").write_text(CUSTOM.format(root=str(root / "files")))


def write_food(root: Path, rows: list[Row]) -> None:
    """As torchvision expects Food101; the names end with .jpg whatever the content."""
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    files: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for i, (split, name, content) in enumerate(rows):
        files["train" if split == "train" else "test"].setdefault(name, []).append(f"{name}/{i:03}")
        (base / "images" / name).mkdir(parents=True, exist_ok=True)
        (base / "images" / name / f"{i:03}.jpg").write_bytes(content)
    for split, classes in files.items():
        (base / "meta" / f"{split}.json").write_text(json.dumps(classes))


LIBRARIES = {"huggingface": "datasets", "webdataset": "webdataset"}  # that a kind needs
WRITERS: dict[str, tuple[Callable[[Path, list[Row]], None], str]] = {
    "image-folder": (write_folder, "."),
    "csv": (write_csv, "images.csv"),
    "webdataset": (write_shards, "."),
    "huggingface": (write_huggingface, "."),
    "custom": (write_custom, "animals.py"),
    "torchvision.Food101": (write_food, "."),
}
ON_DISK = [kind for kind in KINDS if kind in WRITERS]


def choose(kind: str, source: Path, **options: Any) -> DataChoice:
    return DataChoice(name=kind, source=str(source), image_size=32, resize=36, **options)


def write(kind: str, root: Path, rows: list[Row]) -> DataChoice:
    if kind in LIBRARIES:
        pytest.importorskip(LIBRARIES[kind])
    make, source = WRITERS[kind]
    root.mkdir(exist_ok=True)
    make(root, rows)
    return choose(kind, root / source)


def listed(choice: DataChoice) -> ListedImages:
    images = load_dataset(choice)
    assert isinstance(images, ListedImages)
    return images


def refused(choice: DataChoice) -> str:
    with pytest.raises(DataError) as raised:
        load_dataset(choice)
    assert raised.value.exit_status == 2
    return str(raised.value)


def epoch(images: Dataset, choice: DataChoice, workers: int) -> list[Any]:
    """The batches of an epoch, without the first update, and those of the validation."""
    preset = load_preset("imagenet-100", ["batch_size=4", "micro_batch_size=4"])
    compute = preset.compute.model_copy(update={"workers": workers})
    sampling = Sampling(len(images.train), 4, 4, seed=3)
    recipe = preset.recipes.enhanced
    loaders = make_loaders(images, choice, recipe, sampling, torch.device("cpu"), compute)
    batches = [*loaders.train.epoch(1, first_update=1), *loaders.validation]
    loaders.close()
    return batches
