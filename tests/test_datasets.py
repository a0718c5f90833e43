"""The embedded images, other folders, and folders that are not what they should be."""

import gzip
import math
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations.choices import DataChoice
from ablations.data.datasets import load_dataset
from ablations.data.fashion_mnist import EMBEDDED, FILES, ON_DISK
from ablations.data.images import DataError, InMemoryDataset, ListedImages


def choice(source: str | Path = "embedded", size: int = 32) -> DataChoice:
    return DataChoice(name="fashion-mnist", source=str(source), image_size=size)


@pytest.fixture(scope="module")
def images() -> InMemoryDataset:
    return load_dataset(choice())


def test_the_embedded_subset_is_what_it_says(images: InMemoryDataset) -> None:
    assert images.train.shape == (10_000, 1, 28, 28)
    assert images.val.shape == (2_000, 1, 28, 28)
    assert images.num_classes == 10
    assert min(np.bincount(images.train_labels)) > 900
    assert sum(path.stat().st_size for path in EMBEDDED.glob("*.gz")) < 5.5e6


@pytest.mark.integration
def test_torchvision_reads_the_same(images: InMemoryDataset, tmp_path: Path) -> None:
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
    assert load_dataset(choice(raw)).identity() == images.identity()


@pytest.mark.skipif(not ON_DISK[0].is_dir(), reason="the full set is not on this machine")
def test_the_subset_is_the_head_of_the_full_set(images: InMemoryDataset) -> None:
    full = load_dataset(choice("on-disk"))
    assert full.train.shape == (60_000, 1, 28, 28)
    assert np.array_equal(full.train[:10_000], images.train)
    assert np.array_equal(full.val[:2_000], images.val)
    assert full.digest != images.digest


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no Fashion-MNIST images in .*train-images.*--data"):
        load_dataset(choice(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        load_dataset(choice(tmp_path / "nowhere"))


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
        load_dataset(choice(tmp_path))


BOMB = """
import resource, sys
from ablations.data.datasets import load_dataset
from ablations.data.images import DataError
from ablations.choices import DataChoice
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
try:
    load_dataset(DataChoice(name="fashion-mnist", source=sys.argv[1], image_size=32))
except DataError as error:
    print(error)
"""


@pytest.mark.integration
@pytest.mark.parametrize("claimed", [(60_000, 28, 28), (2**31, 28, 28), (0, 28, 28), (1, 1, 1)])
def test_no_more_is_unpacked_than_a_file_claims(
    tmp_path: Path, claimed: tuple[int, int, int]
) -> None:
    for path in EMBEDDED.glob("*.gz"):
        shutil.copy(path, tmp_path)
    victim = tmp_path / "train-images-idx3-ubyte.gz"
    header = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in claimed)
    zeros = gzip.compress(bytes(2**20))
    victim.write_bytes(gzip.compress(header) + 1500 * zeros)  # MiB; the limit of memory is below
    command = [sys.executable, "-c", BOMB, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert victim.name in done.stdout
    assert f"{math.prod(claimed):,}" in done.stdout


def test_labels_of_validation_are_those_of_training(tmp_path: Path) -> None:
    for path in EMBEDDED.glob("*.gz"):
        shutil.copy(path, tmp_path)
    victim = tmp_path / "t10k-labels-idx1-ubyte.gz"
    raw = gzip.decompress(victim.read_bytes())
    victim.write_bytes(gzip.compress(raw[:-1] + bytes([77])))
    with pytest.raises(DataError, match="label is 77"):
        load_dataset(choice(tmp_path))


# CIFAR


def write_cifar(root: Path, dataset: str, per_file: int = 3) -> tuple[np.ndarray, list[int]]:
    """Writes a few images as CIFAR's authors did; returns those for training, and their labels."""
    rng = np.random.default_rng(0)
    small = dataset == "cifar10"
    files = [f"data_batch_{i}" for i in range(1, 6)] if small else ["train"]
    folder = root / ("cifar-10-batches-py" if small else "cifar-100-python")
    folder.mkdir(parents=True)
    pixels, labels = [], []
    for name in [*files, "test_batch" if small else "test"]:
        data = rng.integers(0, 256, (per_file, 3 * 32 * 32), dtype=np.uint8)
        numbers = rng.integers(0, 10 if small else 100, per_file).tolist()
        key = "labels" if small else "fine_labels"
        (folder / name).write_bytes(pickle.dumps({"data": data, key: numbers}))
        if name in files:
            pixels.append(data)
            labels += numbers
    key, meta = ("label_names", "batches.meta") if small else ("fine_label_names", "meta")
    (folder / meta).write_bytes(pickle.dumps({key: [f"class {i}" for i in range(10)]}))
    return np.concatenate(pixels).reshape(-1, 3, 32, 32), labels


@pytest.fixture
def any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision wants CIFAR's own checksums, which the few images written here cannot have."""
    from torchvision.datasets import CIFAR10, cifar

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: Path(self.root).is_dir())
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)


def cifar(name: Any, source: str | Path) -> DataChoice:
    return DataChoice(name=name, source=str(source), image_size=32)


@pytest.mark.usefixtures("any_checksum")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_either_folder(tmp_path: Path, name: str) -> None:
    pixels, labels = write_cifar(tmp_path, name)
    images = load_dataset(cifar(name, tmp_path))
    assert isinstance(images, InMemoryDataset)
    assert images.train.dtype == np.uint8
    assert np.array_equal(images.train, pixels)
    assert images.train_labels.tolist() == labels
    assert images.train_labels.dtype == images.val_labels.dtype == np.int64
    assert images.val.shape == (3, 3, 32, 32)
    assert images.channels == 3
    (inner,) = tmp_path.iterdir()
    again = load_dataset(cifar(name, inner))
    assert again.identity() == images.identity()
    assert images.identity()["train_images"] == len(labels)


def test_cifar_that_is_not_there_or_not_cifar(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder: .*cifar-10-batches-py.*--data"):
        load_dataset(cifar("cifar10", tmp_path))
    with pytest.raises(DataError, match=r"cifar-10-batches-py.*source=download"):
        load_dataset(cifar("cifar10", "on-disk"))
    write_cifar(tmp_path, "cifar10")  # its checksums are wrong
    with pytest.raises(DataError, match=r"not cifar10.*corrupted.*data\.source=download"):
        load_dataset(cifar("cifar10", tmp_path))


def test_a_download_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    def no_connection(self: Any) -> None:
        assert Path(self.root).is_dir()
        raise OSError("no route to host")

    monkeypatch.setattr(CIFAR10, "download", no_connection)
    with pytest.raises(DataError, match=r"cannot be downloaded to .*no route to host.*--data"):
        load_dataset(cifar("cifar10", "download"))


@pytest.mark.usefixtures("any_checksum")
def test_a_download_goes_to_the_users_cache_and_is_found_there_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision.datasets import CIFAR10

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fetch(self: Any) -> None:
        if not (Path(self.root) / self.base_folder).is_dir():
            write_cifar(Path(self.root), "cifar10")

    monkeypatch.setattr(CIFAR10, "download", fetch)
    images = load_dataset(cifar("cifar10", "download"))
    assert (tmp_path / "convnext-roadmap" / "data" / "cifar-10-batches-py").is_dir()
    assert load_dataset(cifar("cifar10", "on-disk")).identity() == images.identity()


# Folders of images, which are listed only: their content may be anything here


def folder(source: Path) -> ListedImages:
    images = load_dataset(DataChoice(name="image-folder", source=str(source), image_size=32))
    assert isinstance(images, ListedImages)
    return images


def write_files(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


TREE = (
    "train/n02/b.JPEG",
    "train/n02/a.jpg",
    "train/n02/deep/c.PNG",
    "train/n10/d.webp",
    "val/n10/e.Bmp",
    "val/n02/f.jpeg",
)
OTHERS = ("train/list.txt", "train/n02/notes.txt", "train/n10/._d.webp", "train/.cache/x/a.jpg")


def test_a_folder_is_listed_by_class(tmp_path: Path) -> None:
    images = folder(write_files(tmp_path, *TREE, *OTHERS))
    assert images.classes == ("n02", "n10")
    assert (images.num_classes, images.channels) == (2, 3)
    assert images.train.tolist() == [
        b"train/n02/a.jpg",
        b"train/n02/b.JPEG",
        b"train/n02/deep/c.PNG",
        b"train/n10/d.webp",
    ]
    assert images.train_labels.tolist() == [0, 0, 0, 1]
    assert images.val.tolist() == [b"val/n02/f.jpeg", b"val/n10/e.Bmp"]
    assert images.val_labels.tolist() == [0, 1]
    assert images.train_labels.dtype == np.int64
    assert images.identity().keys() == load_dataset(choice()).identity().keys()


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        folder(write_files(tmp_path, "train/cat/a.jpg", "val/cat/b.jpg"))
    assert str(tmp_path) in str(raised.value)


def test_a_folder_is_named_by_paths_and_sizes_wherever_it_is(tmp_path: Path) -> None:
    one = folder(write_files(tmp_path / "one", *TREE))
    moved = write_files(tmp_path / "two", *(p.replace("val/", "validation/") for p in TREE))
    for path in moved.rglob("*.*"):  # the same sizes, whatever the path
        path.write_bytes(b"." * (tmp_path / "one").joinpath(
            *path.relative_to(moved).as_posix().replace("validation/", "val/").split("/")
        ).stat().st_size)  # fmt: skip
    assert folder(moved).identity() == one.identity()
    assert folder(moved).val[0] == b"validation/n02/f.jpeg"
    (tmp_path / "one" / TREE[0]).write_text("longer than before")
    assert folder(tmp_path / "one").digest != one.digest
    (tmp_path / "one" / TREE[0]).unlink()
    assert folder(tmp_path / "one").digest not in (one.digest, folder(moved).digest)


def test_a_folder_with_names_that_are_no_unicode(tmp_path: Path) -> None:
    write_files(tmp_path, *TREE, "train/n02/ä.jpg")
    (tmp_path / "train" / "n02" / "\udcff.jpg").write_text("any")
    names = folder(tmp_path).train.tolist()
    assert b"train/n02/\xff.jpg" in names
    assert "train/n02/ä.jpg".encode() in names


def test_a_folder_that_is_not_one_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; --data must name"):
        folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no folder train;"):
        folder(tmp_path)
    (tmp_path / "train" / "n02").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no images in the class folders of .*train: .*jpg"):
        folder(tmp_path)
    write_files(tmp_path, "train/n02/a.jpg")
    with pytest.raises(DataError, match=r"val, validation or test.*data\.validation"):
        folder(tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"no images in the class folders of .*val:"):
        folder(tmp_path)
    write_files(tmp_path, *(f"val/x{i}/a.jpg" for i in range(7)))
    with pytest.raises(DataError, match=r"7 classes that .* lacks: x0, x1, x2, x3, x4 and 2 more"):
        folder(tmp_path)
