"""ADE20K's layout and pairs of folders: labels, and faults that are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablations.data.dense import image_files
from ablations.data.dense.label_maps import find_label_maps
from ablations.data.images import DataError

ADE20K = ("images/training", "annotations/training", "images/validation", "annotations/validation")


def labels_of(number: int) -> np.ndarray:
    return (np.arange(40 * 50).reshape(40, 50) + number).astype(np.int64) % 151


def write(root: Path, folders: tuple[str, ...] = ADE20K, last: int = 150) -> Path:
    for images, maps in (folders[:2], folders[2:]):
        (root / images).mkdir(parents=True)
        (root / maps).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (50, 40), (i, 50, 0)).save(root / images / f"ADE_{i:03}.jpg")
            labels = labels_of(i).clip(max=last).astype(np.uint8)
            Image.fromarray(labels).save(root / maps / f"ADE_{i:03}.png")
    return root


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_label_maps(str(root))
    return str(caught.value)


def test_ade20k(tmp_path: Path) -> None:
    images = find_label_maps(str(write(tmp_path)))
    assert images.num_classes == 150
    assert len(images.train) == len(images.val) == 3
    given = labels_of(1)
    expected = np.where(given == 0, 255, given - 1)
    assert (images.val.target(1) == expected).all()
    assert images.val.pixels(1).shape == (40, 50, 3)
    assert images.train.path(2).endswith("images/training/ADE_002.jpg")


def test_names_of_ade20k(tmp_path: Path) -> None:
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    lines += [f"{i}\t0.1\t1\t1\t0\tname {i}, other" for i in range(1, 151)]
    (write(tmp_path) / "objectInfo150.txt").write_text("\n".join(lines) + "\n")
    classes = find_label_maps(str(tmp_path)).classes
    assert len(classes) == 150
    assert (classes[0], classes[-1]) == ("name 1, other", "name 150, other")


@pytest.mark.parametrize(
    "folders",
    [
        ("images/train", "annotations/train", "images/val", "annotations/val"),
        ("images/train", "labels/train", "images/val", "labels/val"),
        ("train/images", "train/masks", "val/images", "val/masks"),
        ("train/images", "train/labels", "test/images", "test/labels"),
    ],
)
def test_other_folders(tmp_path: Path, folders: tuple[str, ...]) -> None:
    write(tmp_path, folders, last=6)
    assert "classes.txt" in refused(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join("abcdefg"))
    images = find_label_maps(str(tmp_path))
    assert images.classes == tuple("abcdefg")
    assert (images.train.target(0) == labels_of(0).clip(max=6)).all()  # not reduced
    (tmp_path / "classes.txt").write_text("\n".join("abcdefgh"))
    assert find_label_maps(str(tmp_path)).digest != images.digest


def test_unknown_folders_are_named(tmp_path: Path) -> None:
    assert "a, b, c, d" in refused(write(tmp_path, ("a", "b", "c", "d")))


def test_palettes_are_read_as_labels(tmp_path: Path) -> None:
    coloured = Image.fromarray(labels_of(0).astype(np.uint8))
    coloured.putpalette([v for i in range(256) for v in (i * 7 % 256, 0, 255 - i)])
    write(tmp_path)
    coloured.save(tmp_path / "annotations/training/ADE_000.png")
    given = labels_of(0)
    target = find_label_maps(str(tmp_path)).train.target(0)
    assert (target == np.where(given == 0, 255, given - 1)).all()


def test_labels_above_the_number_of_classes_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    wrong = np.zeros((40, 50), np.uint8)
    wrong[3, 20] = 151
    wrong[5, 5] = 255  # ignored
    Image.fromarray(wrong).save(tmp_path / "annotations/validation/ADE_001.png")
    message = refused(tmp_path)
    for text in ("validation/ADE_001.png", "151", "x 20", "y 3", "150"):
        assert text in message


def test_label_maps_of_another_size_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    Image.new("L", (49, 40)).save(tmp_path / "annotations/training/ADE_002.png")
    message = refused(tmp_path)
    for text in ("training/ADE_002.png", "49 x 40", "50 x 40"):
        assert text in message


@pytest.mark.parametrize("mode", ["RGB", "I;16", "1", "LA"])
def test_label_maps_of_other_modes_are_named(tmp_path: Path, mode: str) -> None:
    write(tmp_path)
    Image.new(mode, (50, 40)).save(tmp_path / "annotations/training/ADE_002.png")
    message = refused(tmp_path)
    assert "ADE_002.png" in message
    assert mode in message


def test_missing_partners_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "annotations/training/ADE_001.png").unlink()
    (tmp_path / "images/validation/ADE_002.jpg").unlink()
    message = refused(tmp_path)
    assert "ADE_001" in message
    assert "ADE_002" in message


def test_broken_files_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "annotations/training/ADE_001.png").write_bytes(b"")
    assert "annotations/training/ADE_001.png" in refused(tmp_path)
    (tmp_path / "annotations/training/ADE_001.png").write_bytes(b"no image")
    assert "annotations/training/ADE_001.png" in refused(tmp_path)
    whole = (tmp_path / "annotations/training/ADE_000.png").read_bytes()
    (tmp_path / "annotations/training/ADE_001.png").write_bytes(whole[:-40])
    assert "annotations/training/ADE_001.png" in refused(tmp_path)


def test_faults_beyond_the_checked_images_are_found_when_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "CHECKED", 1)
    write(tmp_path)
    Image.new("L", (50, 40), 200).save(tmp_path / "annotations/training/ADE_002.png")
    images = find_label_maps(str(tmp_path))
    with pytest.raises(ValueError, match=r"ADE_002\.png.*200"):
        images.train.target(2)


def test_empty_folders_and_too_many_classes(tmp_path: Path) -> None:
    for folder in ADE20K:
        (tmp_path / folder).mkdir(parents=True)
    assert "images/training" in refused(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(map(str, range(300))))
    assert "300" in refused(tmp_path)
    assert "no-such" in refused(tmp_path / "no-such")
