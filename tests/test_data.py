"""The embedded images, other folders, and folders that are not what they should be."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from ablations.data import EMBEDDED, FILES, ON_DISK, DataError, Images, load_images
from ablations.recipe import DataChoice
from modernize.torchvision_ops import make_torchvision_importable


def choice(source: str | Path = "embedded", size: int = 32) -> DataChoice:
    return DataChoice(name="fashion-mnist", source=str(source), image_size=size)


@pytest.fixture(scope="module")
def images() -> Images:
    return load_images(choice())


def test_the_embedded_subset_is_what_it_says(images: Images) -> None:
    assert images.train.shape == (10_000, 1, 28, 28)
    assert images.val.shape == (2_000, 1, 28, 28)
    assert images.num_classes == 10
    assert min(np.bincount(images.train_labels)) > 900
    assert sum(path.stat().st_size for path in EMBEDDED.glob("*.gz")) < 5.5e6


def test_torchvision_reads_the_same(images: Images, tmp_path: Path) -> None:
    make_torchvision_importable()
    from torchvision.datasets import FashionMNIST

    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES:
        (raw / name).write_bytes(gzip.decompress((EMBEDDED / f"{name}.gz").read_bytes()))
    for train, ours, labels in (
        (True, images.train, images.train_labels),
        (False, images.val, images.val_labels),
    ):
        theirs = FashionMNIST(str(tmp_path), train=train)
        assert np.array_equal(theirs.data.numpy(), ours[:, 0])
        assert np.array_equal(theirs.targets.numpy(), labels)
    # Plain files in a folder of the user's are the same images, by their content.
    assert load_images(choice(raw)).identity() == images.identity()


@pytest.mark.skipif(not ON_DISK[0].is_dir(), reason="the full set is not on this machine")
def test_the_subset_is_the_head_of_the_full_set(images: Images) -> None:
    full = load_images(choice("on-disk"))
    assert full.train.shape == (60_000, 1, 28, 28)
    assert np.array_equal(full.train[:10_000], images.train)
    assert np.array_equal(full.val[:2_000], images.val)
    assert full.digest != images.digest


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Fashion-MNIST images in .*train-images.*--data"):
        load_images(choice(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        load_images(choice(tmp_path / "nowhere"))


@pytest.mark.parametrize("fault", ["missing", "cut", "cut-gzip", "other", "labels"])
def test_a_damaged_folder_names_the_file(tmp_path: Path, fault: str) -> None:
    for path in EMBEDDED.glob("*.gz"):
        shutil.copy(path, tmp_path)
    victim = tmp_path / "t10k-labels-idx1-ubyte.gz"
    raw = gzip.decompress(victim.read_bytes())
    if fault == "missing":
        victim.unlink()
    elif fault == "cut":
        victim.write_bytes(gzip.compress(raw[:-1]))
    elif fault == "cut-gzip":
        victim.write_bytes(victim.read_bytes()[:-20])
    elif fault == "other":
        victim.write_bytes(b"not gzip at all")
    else:
        head = bytearray(raw[:-1])
        head[4:8] = (len(raw) - 9).to_bytes(4, "big")
        victim.write_bytes(gzip.compress(bytes(head)))
    expected = "2000 images but 1999 labels" if fault == "labels" else "t10k-labels-idx1-ubyte"
    with pytest.raises(DataError, match=expected):
        load_images(choice(tmp_path))
