"""The embedded images, other folders, and folders that are not what they should be."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ablations.batches import Batches
from ablations.data import EMBEDDED, FILES, ON_DISK, DataError, Images, load_images
from ablations.recipe import DataChoice, load_preset
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


def make_batches(images: Images, *settings: str, size: int = 32) -> Batches:
    recipe = load_preset("nano", settings).recipes.enhanced
    return Batches(images, size, recipe, torch.device("cpu"))


def small(count: int = 40) -> Images:
    """Images that differ in every pixel, so that a wrong crop or flip shows."""
    pixels = np.arange(count * 28 * 28, dtype=np.int64) % 251
    train = pixels.astype(np.uint8).reshape(count, 1, 28, 28)
    labels = np.arange(count) % 10
    return Images("small", train, labels, train[:7], labels[:7], "0")


def test_validation_serves_every_image_once_padded_and_normalised() -> None:
    images = small()
    batches = make_batches(images)
    x, labels = (torch.cat(parts) for parts in zip(*batches.validation(size=3), strict=True))
    assert x.shape == (7, 1, 32, 32)
    assert labels.tolist() == images.val_labels.tolist()
    pixels = torch.from_numpy(images.train).double() / 255
    expected = (torch.from_numpy(images.val).double() / 255 - pixels.mean()) / pixels.std()
    assert torch.allclose(x[:, :, 2:-2, 2:-2].double(), expected, atol=1e-5)


def test_an_epoch_serves_each_image_at_most_once_and_seed_alone_decides_it() -> None:
    batches = make_batches(small(), "batch_size=16", "flip=0.0", "crop_padding=0")

    def epoch(seed: int) -> list[torch.Tensor]:
        return [x for x, _ in batches.epoch(torch.Generator().manual_seed(seed))]

    first, again, other = epoch(1), epoch(1), epoch(2)
    assert [len(x) for x in first] == [16, 16]  # 40 images: the incomplete batch is left out
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert len(torch.cat(first).flatten(1).unique(dim=0)) == 32


def test_augmentation_is_a_crop_of_the_padded_image_flipped_or_not() -> None:
    images = small()
    batches = make_batches(images, "batch_size=40", "crop_padding=2", "flip=0.5")
    plain = torch.nn.functional.pad(torch.from_numpy(images.train), (2, 2, 2, 2))
    padded = torch.nn.functional.pad(plain, (2, 2, 2, 2))
    candidates = {}
    for top in range(5):
        for left in range(5):
            window = padded[:, :, top : top + 32, left : left + 32]
            candidates[top, left, False] = window
            candidates[top, left, True] = window.flip(3)
    seen = set()
    indices = torch.arange(40)
    x = batches._augment(plain[indices], torch.Generator().manual_seed(0))
    for i in range(40):
        matches = [key for key, window in candidates.items() if torch.equal(window[i], x[i])]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) > 15
    assert {flipped for *_, flipped in seen} == {False, True}


def test_larger_and_smaller_networks_see_padded_or_cropped_images(images: Images) -> None:
    for size in (32, 64):
        x, _ = next(iter(make_batches(images, size=size).validation(2)))
        assert x.shape == (2, 1, size, size)
