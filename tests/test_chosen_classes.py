"""``data.classes``: only the images of some classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablations.data.datasets import load_dataset
from ablations.data.images import ListedImages
from ablations.recipe import load_preset
from modernize.errors import UnknownNameError


def load(*settings: str, preset: str = "nano", source: str | None = None) -> Any:
    return load_dataset(load_preset(preset, settings, source).data)


def test_images_in_memory_keep_the_order_of_their_classes() -> None:
    whole, some = load(), load("data.classes=[6, 2, 4]")
    assert some.num_classes == 3
    for split in ("train", "val"):
        labels = getattr(whole, f"{split}_labels")
        chosen = np.isin(labels, [2, 4, 6])
        assert np.array_equal(getattr(some, split), getattr(whole, split)[chosen])
        assert np.array_equal(getattr(some, f"{split}_labels"), labels[chosen] // 2 - 1)
    assert some.identity() == load("data.classes=[2, 4, 6]").identity() != whole.identity()
    few = load("data.classes=[2, 4, 6]", "data.limit=90")
    assert (len(few.train), len(few.val), few.num_classes) == (90, 90, 3)


def test_images_in_folders_are_chosen_by_name(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number, name in enumerate(("ant", "bee", "cat")):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / split / name / "1.png")
    some = load("data.classes=[cat, ant]", preset="imagenet-100", source=str(tmp_path))
    assert isinstance(some, ListedImages)
    assert some.classes == ("ant", "cat")
    assert some.val_labels.tolist() == [0, 1]
    assert some.reader(some.train) is not None
    with pytest.raises(UnknownNameError, match=r"'cow'.*ant, bee, cat"):
        load("data.classes=[cat, cow]", preset="imagenet-100", source=str(tmp_path))
