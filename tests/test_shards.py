"""WebDataset shards: damage, splits, the kept list, and webdataset's own samples."""

import tarfile
from pathlib import Path

import pytest
from data_kinds import Row, choose, listed, refused, write, write_shards


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
