"""Data as people have it: CSV lists, Hugging Face, WebDataset, torchvision's sets, custom files."""

import csv
import importlib
import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import call
from PIL import Image
from small_runs import stop_after

from ablations.commands.launch import design
from ablations.data import extras
from ablations.data.content_digest import digest_content
from ablations.data.datasets import load_dataset
from ablations.data.images import DataError, Dataset, InMemoryDataset, ListedImages
from ablations.data.loaders import make_loaders
from ablations.data.sampling import Sampling
from ablations.data_sets import KINDS, TORCHVISION
from ablations.launching.experiment import Experiment
from ablations.recipe import DataChoice, load_preset
from ablations.records import WEIGHTS, Run, RunFolder
from ablations.studies.estimates import find_images
from ablations.training.device_context import make_device_context
from ablations.training.train import train
from modernize import spec_of
from modernize.errors import UsageError

CLASSES = ("ant", "bee", "cat")
Row = tuple[str, str, bytes]  # split, class, the content of a PNG file


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Images of three classes, class after class, in the order of a folder."""
    splits = (("train", 6), ("val", 2))
    found = [(split, c, png(1000 * count + 100 * c + i))
             for split, count in splits for c in range(3) for i in range(count)]  # fmt: skip
    return [(split, CLASSES[c], content) for split, c, content in found]


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


WRITERS: dict[str, tuple[Callable[[Path, list[Row]], None], str]] = {
    "image-folder": (write_folder, "."),
    "csv": (write_csv, "images.csv"),
    "webdataset": (write_shards, "."),
    "huggingface": (write_huggingface, "."),
    "custom": (write_custom, "animals.py"),
}
ON_DISK = [kind for kind in KINDS if kind in WRITERS]


def choose(kind: str, source: Path, **options: Any) -> DataChoice:
    return DataChoice(name=kind, source=str(source), image_size=32, resize=36, **options)


def write(kind: str, root: Path, rows: list[Row]) -> DataChoice:
    if kind == "webdataset":
        pytest.importorskip("webdataset")
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
    preset = load_preset("imagenet-100", ["batch_size=4", "micro_batch_size=4"])
    compute = preset.compute.model_copy(update={"workers": workers})
    sampling = Sampling(len(images.train), 4, 4, seed=3)
    recipe = preset.recipes.enhanced
    loaders = make_loaders(images, choice, recipe, sampling, torch.device("cpu"), compute)
    batches = [*loaders.train.epoch(1, first_update=1), *loaders.validation]
    loaders.close()
    return batches


@pytest.mark.parametrize("kind", ON_DISK)
def test_all_kinds_have_the_same_images(kind: str, rows: list[Row], tmp_path: Path) -> None:
    choice = write(kind, tmp_path / "set", rows)
    images = listed(choice)
    assert images.classes == CLASSES
    for split, items, labels in (
        ("train", images.train, images.train_labels),
        ("val", images.val, images.val_labels),
    ):
        own = [row for row in rows if row[0] == split]
        reader = pickle.loads(pickle.dumps(images.reader(items)))  # noqa: S301
        assert len(reader) == len(own)
        assert [CLASSES[label] for label in labels] == [name for _, name, _ in own]
        for i, (_, _, content) in enumerate(own):
            assert np.array_equal(reader(i), Image.open(io.BytesIO(content)))
            assert kind == "custom" or reader.contents(i) == content
            assert str(i) in reader.path(i) or f"{i:03}" in reader.path(i) or split == "val"
    assert find_images(choice, named=True).count == 18
    before = digest_content(images)
    assert before == digest_content(listed(choice))


@pytest.mark.integration
@pytest.mark.parametrize("kind", ON_DISK)
def test_all_kinds_train_on_the_same_batches(kind: str, rows: list[Row], tmp_path: Path) -> None:
    """Those of a folder, bit by bit, from the middle of an epoch, for any number of workers."""
    folder = write("image-folder", tmp_path / "folder", rows)
    expected = epoch(load_dataset(folder), folder, 0)
    choice = write(kind, tmp_path / "set", rows)
    for workers in (0, 2):
        batches = epoch(load_dataset(choice), choice, workers)
        assert len(batches) == len(expected)
        for ours, theirs in zip(batches, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours[-2:], theirs[-2:], strict=True))


@pytest.mark.parametrize("kind", ON_DISK)
def test_the_identity_is_that_of_the_content(kind: str, rows: list[Row], tmp_path: Path) -> None:
    images = listed(write(kind, tmp_path / "one", rows))
    if kind != "custom":  # its code has the folder
        assert images.identity() == listed(write(kind, tmp_path / "two", rows)).identity()
    other = [*rows[1:6], ("train", "bee", rows[0][2]), *rows[6:]]  # one with another label
    changed = listed(write(kind, tmp_path / "three", other))
    assert changed.identity() != images.identity()


@pytest.mark.parametrize("kind", ON_DISK)
def test_validation_images_are_held_out(kind: str, rows: list[Row], tmp_path: Path) -> None:
    choice = write(kind, tmp_path / "set", rows).model_copy(update={"validation": 0.5})
    images = listed(choice)
    assert len(images.train) + len(images.val) == 18
    assert set(images.train_labels) == set(images.val_labels) == {0, 1, 2}
    assert not {*images.train.tolist()} & {*images.val.tolist()}
    assert any("0.5" in note for note in images.notes)
    whole = listed(choice.model_copy(update={"validation": None}))
    assert images.identity() != whole.identity()


def test_held_out_images_stay_held_out_if_others_come(rows: list[Row], tmp_path: Path) -> None:
    choice = write("image-folder", tmp_path, rows).model_copy(update={"validation": 0.5})
    before = listed(choice)
    for name in CLASSES:
        for i in range(500, 560):
            (tmp_path / "train" / name / f"{i}.png").write_bytes(png(i))
    after = listed(choice)
    assert {*before.val.tolist()} < {*after.val.tolist()}
    assert {*before.train.tolist()} < {*after.train.tolist()}
    assert 0.35 < len(after.val) / (len(after.val) + len(after.train)) < 0.65


def test_a_class_that_would_be_empty_is_named(rows: list[Row], tmp_path: Path) -> None:
    choice = write("image-folder", tmp_path, rows)
    low = refused(choice.model_copy(update={"validation": 0.001}))
    assert all(name in low for name in (*CLASSES, "validation", "0.001"))
    high = refused(choice.model_copy(update={"validation": 0.999}))
    assert all(name in high for name in (*CLASSES, "training", "0.999"))
    least = low.rpartition("from ")[2].partition(" ")[0]
    listed(choice.model_copy(update={"validation": float(least)}))
    (tmp_path / "train" / "dog").mkdir()
    (tmp_path / "train" / "dog" / "1.png").write_bytes(png(1))
    assert "dog" in refused(choice.model_copy(update={"validation": 0.5}))


def test_images_in_memory_are_held_out_by_their_content() -> None:
    choice = DataChoice(name="fashion-mnist", source="embedded", image_size=32)
    whole, images = (
        load_dataset(c) for c in (choice, choice.model_copy(update={"validation": 0.1}))
    )
    assert isinstance(images, InMemoryDataset)
    assert len(images.train) + len(images.val) == len(whole.train)
    assert 900 < len(images.val) < 1100
    assert images.identity() != whole.identity()
    assert images.majority < 0.15


def test_a_test_folder_is_used_and_said(rows: list[Row], tmp_path: Path) -> None:
    choice = write("image-folder", tmp_path, rows)
    (tmp_path / "val").rename(tmp_path / "test")
    images = listed(choice)
    assert len(images.val) == 6
    assert any("test" in note for note in images.notes)


@pytest.mark.parametrize("kind", ["csv", "huggingface", "webdataset", "custom", "image-folder"])
def test_a_set_that_is_missing_is_named(kind: str, tmp_path: Path) -> None:
    choice = choose(kind, tmp_path / "nowhere")
    assert "nowhere" in refused(choice)
    if kind != "image-folder":
        with pytest.raises(UsageError, match="nowhere"):
            find_images(choice)


@pytest.mark.parametrize(
    ("kind", "package"), [("huggingface", "datasets"), ("webdataset", "webdataset")]
)
def test_a_missing_library_is_one_message(
    kind: str, package: str, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(extras.importlib, "import_module", fail)
    write_shards(tmp_path, rows)
    text = refused(choose(kind, tmp_path))
    assert package in text
    assert f"[{kind}]" in text


# CSV


def test_all_faults_of_a_csv_file_are_named_by_line(rows: list[Row], tmp_path: Path) -> None:
    choice = write("csv", tmp_path, rows)
    file = tmp_path / "images.csv"
    lines = file.read_text().splitlines()
    (tmp_path / "files" / "train" / "bee" / "007.png").unlink()
    lines[20] = lines[20].replace(",ant,", ",wolf,")
    lines += [lines[3], "files/x.png,,train,me", "files/y.png,ant,holiday,me"]
    file.write_text("\n".join(lines))
    text = refused(choice)
    for part in ("007.png, line 9", "wolf", "line 21", "line 26", "line 4", "line 27", "line 28",
                 "holiday"):  # fmt: skip
        assert part in text


def test_csv_files_for_each_split(rows: list[Row], tmp_path: Path) -> None:
    whole = listed(write("csv", tmp_path, rows))
    lines = (tmp_path / "images.csv").read_text().splitlines()
    for name, split in (("train", "train"), ("test", "val")):
        own = [",".join(line.split(",")[:2]) for line in lines if f",{split}," in line]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label", *own]))
    images = listed(choose("csv", tmp_path))
    assert images.identity() == whole.identity()
    assert any("test" in note for note in images.notes)
    (tmp_path / "test.csv").unlink()
    assert "data.validation" in refused(choose("csv", tmp_path))


def test_labels_that_are_numbers_are_in_their_order(rows: list[Row], tmp_path: Path) -> None:
    numbers = {"ant": "10", "bee": "9", "cat": "0"}
    choice = write("csv", tmp_path, [(split, numbers[name], data) for split, name, data in rows])
    assert listed(choice).classes == ("0", "9", "10")


@pytest.mark.parametrize(
    "text", ["", "file,class\na.png,ant\n", "path,label\n\xff,ant\n", 'path,label\n"a']
)
def test_a_file_that_is_no_list_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "images.csv"
    file.write_bytes(text.encode("latin-1"))
    assert str(file) in refused(choose("csv", file))


# WebDataset


def test_a_shard_that_is_cut_off_is_named(rows: list[Row], tmp_path: Path) -> None:
    choice = write("webdataset", tmp_path, rows)
    shard = tmp_path / "toy-train-000001.tar"
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        last = tar.getmembers()[-3]  # a sample's first member: before it, the archive is complete
    for length in (len(whole) - 1024 - 10_000, last.offset, last.offset + 100, 700, 100, 0):
        shard.write_bytes(whole[:length])
        assert shard.name in refused(choice)
    shard.write_bytes(b"no archive at all" * 1000)
    assert shard.name in refused(choice)
    shard.unlink()
    shard.symlink_to("nowhere.tar")
    assert shard.name in refused(choice)


def test_shards_may_be_in_a_folder_for_each_split(rows: list[Row], tmp_path: Path) -> None:
    before = listed(write("webdataset", tmp_path, rows))
    for path in tmp_path.glob("*.tar"):
        folder = tmp_path / path.name.split("-")[1]
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    assert listed(choose("webdataset", tmp_path)).identity() == before.identity()


def test_shards_are_listed_once(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second time from the user's cache, unless a shard has changed or the cache is damaged."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    choice = write("webdataset", tmp_path / "set", rows)
    before = listed(choice)
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", None)
        assert listed(choice).identity() == before.identity()
    for path in (tmp_path / "cache").rglob("shards/*.json"):
        path.write_text("[[1]]")
    assert listed(choice).identity() == before.identity()
    write_shards(tmp_path / "set", [*rows[:3], rows[20], *rows[4:]])  # a training image less
    assert len(listed(choice).train) == 17


def test_samples_that_are_not_complete_are_named(rows: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write_shards(tmp_path, [*rows, ("train", "", b"x")])
    text = refused(choose("webdataset", tmp_path))
    assert "024 has no label" in text
    (tmp_path / "other.tar").write_bytes(b"")
    assert "other.tar" in refused(choose("webdataset", tmp_path))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_samples_are_those_of_the_webdataset_library(rows: list[Row], tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    images = listed(write("webdataset", tmp_path, rows))
    shards = [str(path) for path in sorted(tmp_path.glob("*-train-*.tar"))]
    theirs = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    reader = images.reader(images.train)
    assert [sample["__key__"] for sample in theirs] == [reader.path(i)[-3:] for i in range(18)]
    assert [sample["png"] for sample in theirs] == [reader.contents(i) for i in range(18)]
    assert [sample["cls"].decode() for sample in theirs] == [
        images.classes[label] for label in images.train_labels
    ]


# Hugging Face


def test_columns_that_are_not_clear_are_named(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    one.save_to_disk(tmp_path / "one")
    assert "no images" in refused(choose("huggingface", tmp_path / "one"))
    (tmp_path / "two").mkdir()
    assert str(tmp_path / "two") in refused(choose("huggingface", tmp_path / "two"))


def test_one_set_of_files_with_numbers_as_labels(rows: list[Row], tmp_path: Path) -> None:
    """Images stay in their files, and there is no split for validation."""
    datasets = pytest.importorskip("datasets")
    write_folder(tmp_path / "files", rows)
    paths = [str(path) for path in sorted((tmp_path / "files").glob("train/*/*.png"))]
    columns = {"picture": paths, "label": [10 * (i // 6) for i in range(18)]}
    one = datasets.Dataset.from_dict(columns).cast_column("picture", datasets.Image())
    one.save_to_disk(tmp_path / "set")
    choice = choose("huggingface", tmp_path / "set")
    assert "data.validation" in refused(choice)
    images = listed(choice.model_copy(update={"validation": 0.5}))
    assert images.classes == ("0", "10", "20")
    reader = images.reader(images.train)
    assert np.asarray(reader(0)).shape == (40, 48, 3)


# Custom files


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("import nothing_like_this", "nothing_like_this"),
        ("def train(): return [(0, 0)]", "CLASSES"),
        ("CLASSES = ['a', 'b']", "train"),
        ("CLASSES = ['a', 'a']\ndef train(): return []", "twice"),
        ("CLASSES = ['a', 'b']\ndef train(): return []\nval = train", "0 images"),
        ("CLASSES = ['a', 'b']\ndef train(): return [(0, 2)]\nval = train", "2 of image 0"),
        ("CLASSES = ['a', 'b']\ndef train(): return [('x', 1)]\nval = train", "str"),
        ("CLASSES = ['a', 'b']\ndef train(): return 1 / 0\nval = train", "line 2"),
    ],
)
def test_a_file_that_defines_no_set_is_refused(code: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(code)
    text = refused(choose("custom", file))
    assert str(file) in text or "mine.py" in text
    assert named in text


DRAWING = """
import random
import numpy as np

CLASSES = ["a", "b"]

class Noise:
    labels = [i % 2 for i in range(20)]

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return np.full((40, 40, 3), random.randrange(256), np.uint8), self.labels[i]

def train():
    return Noise()

val = train
"""


@pytest.mark.integration
def test_random_numbers_of_a_custom_set_are_seeded_by_place(tmp_path: Path) -> None:
    (tmp_path / "noise.py").write_text(DRAWING)
    choice = choose("custom", tmp_path / "noise.py")
    images = load_dataset(choice)
    first, second = (
        [batch for batch in epoch(images, choice, workers) if len(batch) == 3] for workers in (0, 2)
    )
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))


def test_a_study_keeps_a_copy_of_the_file_and_trains_with_it(
    rows: list[Row], tmp_path: Path
) -> None:
    choice = write("custom", tmp_path / "set", rows)

    def plan() -> Experiment:
        return design(
            name="mine", skip_bad_images=False, loggers=(), results=tmp_path,
            study="roadmap", first=None, last=None, only=("ln",), seeds=1, preset="imagenet-100",
            regime="nano", data=choice.source, check_images=True, start=None, start_ema=False,
            settings=("data.name=custom", "batch_size=8", "micro_batch_size=4", "epochs=1",
                      "warmup_epochs=0"),
        )  # fmt: skip

    with plan().locked() as experiment:
        [job] = experiment.jobs()
    copy = Path(job.data.source)
    assert copy.parent == tmp_path / "mine" / "data"
    assert copy.read_bytes() == Path(choice.source).read_bytes()
    assert load_dataset(job.data).identity() == job.run.images
    name = job.run.name
    Path(choice.source).write_text(copy.read_text() + "# changed")
    with pytest.raises(UsageError, match="sha256"):
        plan()
    assert load_dataset(job.data).identity() == job.run.images  # of the jobs that are queued
    shutil.rmtree(tmp_path / "mine")
    assert plan().planned[0].run.name != name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ON_DISK)
def test_a_run_that_was_stopped_equals_one_on_a_folder(
    kind: str, rows: list[Row], tmp_path: Path
) -> None:
    """The same weights to the last bit, stopped within an epoch, with other workers."""
    settings = ("batch_size=4", "micro_batch_size=4", "epochs=2", "warmup_epochs=0")
    preset = load_preset("imagenet-100", [*settings, "ema_decay=0.9", "drop_path=0.1"])
    recipe = preset.recipes.enhanced
    spec = spec_of("ln", "nano", num_classes=3, depths=[1, 1, 1, 1], width=8)
    context = make_device_context("cpu", preset.compute.model_copy(update={"precision": "fp32"}))

    def train_once(choice: DataChoice, folder: Path, workers: int, stop: int | None = None) -> Any:
        images = load_dataset(choice)
        run = Run("ln", recipe.apply_to(spec), recipe, images.identity(), 0)
        compute = preset.compute.model_copy(update={"workers": workers})
        sampling = Sampling(len(images.train), 4, 4, seed=0)
        loaders = make_loaders(images, choice, recipe, sampling, torch.device("cpu"), compute)
        more = {} if stop is None else {"keep_going": stop_after(stop)}
        RunFolder(folder).prepare(run)
        try:
            return train(run, RunFolder(folder), loaders, context, **more)
        finally:
            loaders.close()

    expected = write("image-folder", tmp_path / "folder", rows)
    assert train_once(expected, tmp_path / "whole", workers=0) is not None
    choice = write(kind, tmp_path / "set", rows)
    assert train_once(choice, tmp_path / "stopped", workers=2, stop=6) is None  # of 2 x 4 updates
    assert train_once(choice, tmp_path / "stopped", workers=1) is not None
    one, other = (torch.load(tmp_path / name / WEIGHTS, weights_only=True)
                  for name in ("whole", "stopped"))  # fmt: skip
    assert all(torch.equal(value, other[part][name])
               for part in ("network", "ema") for name, value in one[part].items())  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["custom", "webdataset"])
def test_from_the_command_line_to_an_evaluation(kind: str, rows: list[Row], tmp_path: Path) -> None:
    choice = write(kind, tmp_path / "set", rows)
    settings = (f"data.name={kind}", "batch_size=8", "micro_batch_size=4", "epochs=1",
                "warmup_epochs=0", "data.image_size=32", "data.resize=36",
                "compute.workers=1")  # fmt: skip
    arguments = [word for setting in settings for word in ("--set", setting)]
    told = call(
        "--preset", "imagenet-100", "--regime", "nano", "--only", "ln", "--name", "mine",
        *arguments, "--data", choice.source, "--results", tmp_path,
    )  # fmt: skip
    assert "18 training images and 6 validation images" in told
    asked = ("evaluate", "mine", "--step", "ln", "--results", tmp_path)
    if kind == "custom":  # to evaluate is to run the file: the user must name it
        assert "--data" in call(*asked, status=2)
    record = json.loads(next(tmp_path.glob("mine/runs/*/record.json")).read_text())
    assert f"{record['top1']:.3f}" in call(*asked, "--data", choice.source)


# torchvision's sets


def write_pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    for name, count in (("trainval", 6), ("test", 4)):
        lines = [f"Race_{i % 2}_{name}{i} {i % 2 + 1} 1 1" for i in range(count)]
        (base / "annotations" / f"{name}.txt").write_text("\n".join(lines))
        for line in lines:
            (base / "images" / f"{line.split()[0]}.jpg").write_bytes(png(len(line)))


def write_food(root: Path) -> None:
    base = root / "food-101"
    (base / "meta").mkdir(parents=True)
    files = {split: {c: [f"{c}/{split}{i}" for i in range(3)] for c in ("pie", "soup")}
             for split in ("train", "test")}  # fmt: skip
    for split, classes in files.items():
        (base / "meta" / f"{split}.json").write_text(str(classes).replace("'", '"'))
        for path in (path for paths in classes.values() for path in paths):
            (base / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            (base / "images" / f"{path}.jpg").write_bytes(png(len(path)))


def write_eurosat(root: Path) -> None:
    for name in ("Forest", "River"):
        folder = root / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for i in range(20):
            (folder / f"{i}.jpg").write_bytes(png(i))


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [("OxfordIIITPet", write_pets, {}), ("Food101", write_food, {}),
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
