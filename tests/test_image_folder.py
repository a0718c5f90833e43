"""Folders of images as they are found: everything in them that is no image of a class is said."""

import hashlib
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ablations.choices import DataChoice
from ablations.data.datasets import load_dataset
from ablations.data.image_folder import SUFFIXES, list_validation
from ablations.data.images import DataError, ListedImages
from ablations.recipe import load_preset
from ablations.studies.estimates import SETS, find_images
from modernize.errors import UsageError

GOOD = ("train/a/1.jpg", "train/a/2.jpg", "train/b/1.png", "val/a/1.jpg", "val/b/1.jpg")


def write(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def list_folder(root: str, *, skip_bad_images: bool = False) -> ListedImages:
    choice = DataChoice(name="image-folder", source=root, image_size=32)
    images = load_dataset(choice, skip_bad_images=skip_bad_images)
    assert isinstance(images, ListedImages)
    return images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "images", *GOOD)


def said(root: Path, **options: Any) -> str:
    """What is said of a folder: the notes, or the error."""
    try:
        return "\n".join(list_folder(str(root), **options).notes)
    except DataError as error:
        return str(error)


def refused(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        list_folder(str(root), **options)
    return str(error.value)


def test_a_good_folder_is_named_by_its_files_and_needs_no_note(root: Path) -> None:
    digest = hashlib.sha256()
    for split in ("train", "val"):
        files = [path.removeprefix(f"{split}/") for path in GOOD if path.startswith(split)]
        digest.update(b"%d\n" % len(files))
        for name in files:
            digest.update(f"{name}\0{len(split) + 1 + len(name)}\n".encode())
    images = list_folder(str(root))
    assert images.digest == digest.hexdigest()[:16]
    assert images.notes == ()


def test_class_folders_without_train(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As people have ImageNet-22K: the same images and identity as in ``train``."""

    def load(source: Path | str, validation: float | None) -> ListedImages:
        choice = DataChoice(
            name="image-folder", source=str(source), image_size=32, validation=validation
        )
        images = load_dataset(choice)
        assert isinstance(images, ListedImages)
        return images

    flat = root / "train"
    write(flat, *(f"{name}/more{i}.jpg" for name in "ab" for i in range(8)))
    for fraction in (0.0, 0.6):
        images, usual = load(flat, fraction), load(root, fraction)
        assert images.identity() == usual.identity()
        assert images.classes == ("a", "b")
        for items in (images.train, images.val):
            reader = images.reader(items)
            assert all(Path(reader.path(i)).is_file() for i in range(len(items)))
    monkeypatch.chdir(flat)
    assert load(".", 0).reader(images.train).contents(0)
    with pytest.raises(DataError, match=r"train.*data\.validation"):
        load(flat, None)
    with pytest.raises(DataError, match="images/train, images/val"):
        load(root.parent, 0)  # one folder too high
    (root / "train").rename(root / "cat")
    with pytest.raises(DataError, match=r"no folder train.*\bval\b"):
        load(root, 0)


def test_classes_without_an_image_are_refused_all_at_once(root: Path) -> None:
    for i in range(7):
        (root / "train" / f"empty{i}").mkdir()
    write(root, "train/only/1.tif", "train/only/2.gif")
    text = refused(root)
    assert "8 class folders without an image" in text
    assert "empty0, empty1, empty2, empty3, empty4 and 3 more" in text
    assert all(f".{suffix}" in text for suffix in SUFFIXES)


def test_other_faults_are_in_the_same_message(root: Path) -> None:
    (root / "train" / "empty").mkdir()
    write(root, "val/unknown/1.jpg")
    (root / "train" / "a" / "gone.jpg").symlink_to("nowhere")
    text = refused(root)
    assert all(name in text for name in ("empty", "unknown", "gone.jpg"))


@pytest.mark.parametrize(
    "name", ["lost+found", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN",
             "System Volume Information"],
)  # fmt: skip
def test_folders_of_the_system_are_no_classes_and_hold_no_images(root: Path, name: str) -> None:
    before = list_folder(str(root))
    for place in ("train", "val", "train/a"):
        write(root, f"{place}/{name}/1.jpg")
    images = list_folder(str(root))
    assert images.classes == ("a", "b")
    assert images.identity() == before.identity()
    assert sum(name in note for note in images.notes) == 2  # training's and validation's


def test_files_of_other_kinds_are_counted(root: Path) -> None:
    write(root, "train/a/x.TIF", "train/a/y.tif", "train/b/z.gif", "train/b/README")
    notes = said(root)
    assert all(text in notes for text in ("4 files", "2 .tif", "1 .gif", "1 without", ".webp"))


def test_images_of_no_class_are_said(root: Path) -> None:
    write(root, "train/x.jpg", "train/y.jpg", "train/list.txt")
    notes = said(root)
    assert "2 images" in notes
    assert "x.jpg, y.jpg" in notes
    assert "list.txt" not in notes


def test_validation_images_that_are_not_sorted_into_classes(root: Path) -> None:
    for name in "ab":
        (root / "val" / name / "1.jpg").unlink()
        (root / "val" / name).rmdir()
    write(root, *(f"val/ILSVRC2012_val_{i:08}.JPEG" for i in range(1, 8)))
    text = refused(root)
    assert "7 images" in text
    assert "ILSVRC2012_val_00000001.JPEG" in text


def test_classes_that_validation_lacks_are_said(root: Path) -> None:
    (root / "val" / "b" / "1.jpg").unlink()
    assert "1 of 2 classes" in said(root)
    images = list_validation(root / "val", ["a", "b", "c"])
    assert "1 of 3 classes; none of b, c" in " ".join(images.notes)


def test_what_is_no_file_is_named_at_once_and_can_be_passed_over(root: Path) -> None:
    digest = list_folder(str(root)).digest
    for i in range(7):
        (root / "train" / "a" / f"gone{i}.jpg").symlink_to("nowhere")
    (root / "train" / "b" / "itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(root / "train" / "b" / "pipe.png")
    (root / "val" / "a" / "empty.jpg").touch()
    text = refused(root)
    assert "9 missing or special files (a/gone0.jpg, " in text
    assert "and 4 more" in text
    assert "1 empty file (a/empty.jpg)" in text
    assert "--skip-bad-images" in text
    images = list_folder(str(root), skip_bad_images=True)
    assert len(images.train) == 3 + 9
    assert images.digest != digest
    assert "gone0.jpg" in " ".join(images.notes)
    with pytest.raises(DataError, match=r"empty\.jpg"):
        list_validation(root / "val", 2)
    assert len(list_validation(root / "val", 2, skip_bad_images=True).val) == 3


LOOPS = {
    "to its class": ("train/a/loop", "."),
    "to the split": ("train/a/deep/loop", "../.."),
    "to the root of all files": ("train/a/loop", "/"),
    "to a folder listed already": ("train/a/again", "deep"),
    "a class to the images": ("train/loop", ".."),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_links_that_lead_round_in_a_circle_are_refused(root: Path, loop: str) -> None:
    place, target = LOOPS[loop]
    write(root, "train/a/deep/1.jpg")
    (root / place).symlink_to(target)
    assert place.rpartition("/")[2] in refused(root)


def test_doubling_links_end(root: Path) -> None:
    folders = [root / "train" / "a" / "0", *(root / f"elsewhere{i}" for i in range(1, 40))]
    for folder, following in itertools.pairwise(folders):
        folder.mkdir(exist_ok=True)
        following.mkdir()
        for name in ("x", "y"):
            (folder / name).symlink_to(following)
    assert "listed already" in refused(root)


@pytest.mark.integration
def test_very_deep_folders_are_listed(root: Path) -> None:
    folders = [str(root / "train" / "a")]
    while len(folders) < sys.getrecursionlimit() + 50:
        folders.append(f"{folders[-1]}/d")
        os.mkdir(folders[-1])  # noqa: PTH102  # pathlib and os.makedirs call themselves
    image = Path(folders[-1], "1.jpg")
    image.write_text("any")
    try:
        assert len(list_folder(str(root)).train) == 4
    finally:  # pytest's own removal calls itself, too
        image.unlink()
        for folder in reversed(folders[1:]):
            os.rmdir(folder)  # noqa: PTH106


def test_a_class_whose_link_leads_nowhere_is_named(root: Path) -> None:
    (root / "train" / "c").symlink_to("nowhere")
    assert str(root / "train" / "c") in refused(root)


def test_folders_that_must_not_be_read_are_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "train/c/1.jpg", "val/c/1.jpg")
    scandir = os.scandir

    def guarded(path: Any) -> Any:  # the tests may be run by root, who may read everything
        if Path(path).name in ("b", "c"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    text = refused(root)
    assert "2 folders" in text
    assert all(f"{root / 'train' / name}: Permission denied" in text for name in "bc")


def test_a_plan_counts_the_images_that_are_named_or_refuses(root: Path, tmp_path: Path) -> None:
    data = load_preset("imagenet").data
    data = data.model_copy(update={"source": str(root)})
    assert (find_images(data).count, find_images(data).classes) == (3, 2)
    (root / "val" / "a" / "gone.jpg").symlink_to("nowhere")
    assert "gone.jpg" in find_images(data).note
    (root / "train" / "empty").mkdir()
    with pytest.raises(UsageError, match="empty"):
        find_images(data)
    missing = data.model_copy(update={"source": str(tmp_path / "typo")})
    assert find_images(missing).count == SETS["image-folder"][1]
    with pytest.raises(UsageError, match="typo"):
        find_images(missing, named=True)
