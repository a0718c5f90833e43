"""Checkpoints: whole or not at all, two kept, damage noticed, and nothing run from them."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ablations.training import checkpoint

CPU = torch.device("cpu")


def state(number: int) -> dict[str, Any]:
    return {"number": number, "weights": torch.full((100,), float(number))}


def loaded(folder: Path) -> Any:
    found = checkpoint.load(folder, CPU)
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


@pytest.mark.parametrize("damage", ["torn", "empty", "altered", "other", "headless"])
def test_a_damaged_one_is_named_and_the_one_before_it_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    checkpoint.save(tmp_path, 2, state(2))
    newest = checkpoint.find(tmp_path)[0]
    raw = bytearray(newest.read_bytes())
    if damage == "altered":
        raw[len(raw) // 2] ^= 1
    content = {
        "torn": raw[: len(raw) // 2],
        "empty": b"",
        "altered": raw,
        "other": b"no checkpoint",
        "headless": raw[65:],
    }[damage]
    newest.write_bytes(content)
    assert loaded(tmp_path) == 1
    assert f"{newest} is damaged" in capsys.readouterr().out
    checkpoint.find(tmp_path)[1].write_bytes(b"")
    assert loaded(tmp_path) is None


def test_a_hostile_file_runs_no_code(tmp_path: Path) -> None:
    import hashlib

    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.write_text, (tmp_path / "owned", "x"))

    buffer = io.BytesIO()
    torch.save({"network": Hostile()}, buffer)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    (tmp_path / "checkpoint-000000001.pt").write_bytes(digest + b"\n" + content)
    assert checkpoint.load(tmp_path, CPU) is None
    assert not (tmp_path / "owned").exists()


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
