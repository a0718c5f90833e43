"""Checkpoints: whole or not at all, two kept, damage noticed, and nothing run from them."""

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from ablations.records import WEIGHTS
from ablations.training import checkpoint

MOST = 2**20


def state(number: int) -> dict[str, Any]:
    return {"number": number, "weights": torch.full((100,), float(number))}


def loaded(folder: Path) -> Any:
    found = checkpoint.load(folder, MOST)
    return None if found is None else found["number"]


def test_the_newest_is_read_and_two_are_kept(tmp_path: Path) -> None:
    assert loaded(tmp_path) is None
    for number in range(1, 5):
        checkpoint.save(tmp_path, number * 7, state(number))
        assert loaded(tmp_path) == number
    assert [p.name for p in checkpoint.find(tmp_path)] == [
        "checkpoint-000000028.pt",
        "checkpoint-000000021.pt",
    ]
    checkpoint.remove(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage",
    ["torn", "empty", "altered", "other", "headless", "huge", "folder", "pipe", "dangling"],
)
def test_a_damaged_one_is_named_and_set_aside_and_the_one_before_it_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    checkpoint.save(tmp_path, 2, state(2))
    newest = checkpoint.find(tmp_path)[0]
    raw = bytearray(newest.read_bytes())
    if damage == "altered":
        raw[len(raw) // 2] ^= 1
    newest.unlink()
    content = {
        "torn": raw[: len(raw) // 2],
        "empty": b"",
        "altered": raw,
        "other": b"no checkpoint",
        "headless": raw[65:],
        "huge": raw + bytes(MOST),
    }.get(damage)
    if content is not None:
        newest.write_bytes(content)
    elif damage == "folder":
        (newest / "inside").mkdir(parents=True)
    elif damage == "pipe":
        os.mkfifo(newest)
    else:
        newest.symlink_to(tmp_path / "nothing")
    assert loaded(tmp_path) == 1
    aside = newest.with_name(f"{newest.name}.unusable")
    said = capsys.readouterr().out
    assert str(newest) in said
    assert aside.name in said
    assert not os.path.lexists(newest)
    assert os.path.lexists(aside)
    assert loaded(tmp_path) == 1
    assert not capsys.readouterr().out  # it is tried once
    checkpoint.find(tmp_path)[0].write_bytes(b"")
    assert loaded(tmp_path) is None


def test_names_that_are_no_checkpoints_are_in_nobodys_way(tmp_path: Path) -> None:
    for name in ("checkpoint-999999999.pt", "checkpoint-latest.pt"):
        (tmp_path / name).mkdir()
    for number in range(1, 4):
        checkpoint.save(tmp_path, number, state(number))
    assert len(checkpoint.find(tmp_path)) == checkpoint.KEPT
    assert loaded(tmp_path) == 3
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {
        "checkpoint-999999999.pt.unusable",
        "checkpoint-latest.pt.unusable",
    }
    for _ in range(2):  # each is kept
        (tmp_path / "checkpoint-latest.pt").touch()
        assert loaded(tmp_path) == 3
    assert len(list(tmp_path.glob("checkpoint-latest.pt.unusable*"))) == 3


def test_one_that_is_not_fit_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        checkpoint.save(tmp_path, number, state(number))

    def check(found: Any, update: int) -> None:
        assert found["number"] == update
        raise checkpoint.UnusableError(f"number {update}")

    assert checkpoint.load(tmp_path, MOST, check) is None
    said = capsys.readouterr().out
    assert "number 3" in said
    assert "number 2" in said
    assert not checkpoint.find(tmp_path)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    for name in (".checkpoint-000000002.pt.17", f".{WEIGHTS}.17"):
        (tmp_path / name).touch()
    checkpoint.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000000001.pt"]


def test_a_hostile_file_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.write_text, (tmp_path / "owned", "x"))

    buffer = io.BytesIO()
    torch.save({"network": Hostile()}, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    (tmp_path / "checkpoint-000000001.pt").write_bytes(digest + b"\n" + content)
    assert checkpoint.load(tmp_path, MOST) is None
    assert not (tmp_path / "owned").exists()


def test_a_compressed_file_is_not_unpacked(tmp_path: Path) -> None:
    buffer, packed = io.BytesIO(), io.BytesIO()
    torch.save({"number": torch.zeros(2**20)}, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as z:
        for name in whole.namelist():
            z.writestr(name, whole.read(name))
    content = packed.getvalue()
    assert len(content) < MOST / 10
    digest = hashlib.sha256(content).hexdigest().encode()
    (tmp_path / "checkpoint-000000001.pt").write_bytes(digest + b"\n" + content)
    assert checkpoint.load(tmp_path, MOST) is None


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_one_before(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, 1, state(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    owner = os if call == "fsync" else Path
    monkeypatch.setattr(owner, call, full)
    with pytest.raises(checkpoint.CheckpointError, match=r"cannot write.*No space left.*last good"):
        checkpoint.save(tmp_path, 2, state(2))
    monkeypatch.undo()
    assert loaded(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000000001.pt"]
