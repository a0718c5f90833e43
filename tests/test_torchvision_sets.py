"""Data sets that torchvision reads, held against torchvision."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_kinds import (
    choose,
    listed,
    png,
    refused,
    rows_of,
    write_food,
)

from ablations.data.datasets import load_dataset
from ablations.data.images import InMemoryDataset
from ablations.data_sets import TORCHVISION
from ablations.recipe import load_preset
from modernize.errors import UsageError


def write_pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    for name, count in (("trainval", 6), ("test", 4)):
        lines = [f"Race_{i % 2}_{name}{i} {i % 2 + 1} 1 1" for i in range(count)]
        (base / "annotations" / f"{name}.txt").write_text("\n".join(lines))
        for line in lines:
            (base / "images" / f"{line.split()[0]}.jpg").write_bytes(png(len(line)))


def write_some_food(root: Path) -> None:
    write_food(root, rows_of({"train": 3, "val": 3}))


def write_imagenette(root: Path) -> None:
    for split in ("train", "val"):
        for c, name in enumerate(("n01440764", "n02102040")):
            folder = root / "imagenette2" / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                (folder / f"{i}.JPEG").write_bytes(png(10 * c + i))


def write_eurosat(root: Path) -> None:
    for name in ("Forest", "River"):
        folder = root / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for i in range(20):
            (folder / f"{i}.jpg").write_bytes(png(i))


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [("OxfordIIITPet", write_pets, {}), ("Food101", write_some_food, {}),
     ("Imagenette", write_imagenette, {}),
     ("EuroSAT", write_eurosat, {"validation": 0.3})],
)  # fmt: skip
def test_images_and_labels_are_those_of_torchvision(
    name: str, make: Callable[[Path], None], options: dict[str, Any], tmp_path: Path
) -> None:
    from torchvision import datasets

    choice = choose(f"torchvision.{name}", tmp_path, **options)
    assert str(tmp_path) in refused(choice)
    make(tmp_path)
    images = listed(choice)
    if options:
        assert len(images.train) + len(images.val) == 40
        return
    for arguments, items, labels in zip(
        TORCHVISION[name], (images.train, images.val), (images.train_labels, images.val_labels),
        strict=True,
    ):  # fmt: skip
        theirs = getattr(datasets, name)(str(tmp_path), **arguments)
        reader = images.reader(items)
        names = [name if isinstance(name, str) else ", ".join(name) for name in theirs.classes]
        assert images.classes == tuple(names[: images.num_classes])
        assert len(theirs) == len(items)
        for i, (image, label) in enumerate(theirs):
            assert np.array_equal(reader(i), image.convert("RGB"))
            assert label == labels[i]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_has_the_sets_and_their_splits(name: str, tmp_path: Path) -> None:
    """Without files, each complains of them, and not of the arguments."""
    assert hasattr(importlib.import_module("torchvision.datasets"), name)
    choice = choose(f"torchvision.{name}", tmp_path / "nowhere", validation=0.5)
    text = refused(choice)
    assert name in text
    assert not any(word in text for word in ("argument", "Unknown value", "KeyError"))


def test_an_array_of_torchvisions_is_read(tmp_path: Path) -> None:
    from scipy.io import savemat

    from torchvision.datasets import SVHN  # isort: skip

    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        pixels = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        file = tmp_path / SVHN.split_list[split][1]
        savemat(file, {"X": pixels, "y": np.arange(1, count + 1)[:, None] % 10 + 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SVHN, "_check_integrity", lambda _: True)
        images = load_dataset(choose("torchvision.SVHN", tmp_path))
        theirs = SVHN(str(tmp_path))
    assert isinstance(images, InMemoryDataset)
    assert np.array_equal(images.train, theirs.data)
    assert images.train_labels.tolist() == theirs.labels.tolist()


def test_an_unknown_set_is_named_with_the_closest() -> None:
    with pytest.raises(UsageError, match=r"Flowers101.*Flowers102"):
        load_preset("imagenet", ["data.name=torchvision.Flowers101"])
