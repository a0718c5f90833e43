"""Image files that were replaced by others of equal size under the same names."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.commands.launch import design
from ablations.launching.experiment import Experiment
from ablations.records import Record, Status
from modernize.errors import UsageError

THEN = 1_700_000_000  # seconds since 1970, when the images were made
VICTIM = "train/dog/1.png"
Plan = Callable[..., Experiment]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                file = folder / split / name / f"{number}.png"
                file.write_bytes(f"{split} {name} {number}".encode())
                os.utime(file, (THEN, THEN))
    return folder


@pytest.fixture
def plan(images: Path, tmp_path: Path) -> Plan:
    """Plans a study of one step on the images; one that is begun is also finished."""

    def run(*, begin: bool = False, check: bool = False) -> Experiment:
        experiment = design(
            name="study", skip_bad_images=False, loggers=(), results=tmp_path,
            study="roadmap", first=None, last=None, only=("ln",), seeds=1, preset="imagenet-100",
            regime="nano", data=str(images), check_images=check, start=None, start_ema=False,
            settings=("batch_size=8", "micro_batch_size=4", "epochs=1", "warmup_epochs=0"),
        )  # fmt: skip
        if begin:
            with experiment.locked() as claimed:
                for p in claimed.needed:
                    p.folder.prepare(p.run)
                    p.folder.write_record(Record(Status.FINISHED, metrics={"top1": 80.0}))
        return experiment

    return run


def replace(images: Path, time: float = THEN + 60) -> None:
    file = images / VICTIM
    file.write_bytes(b"?" * file.stat().st_size)
    os.utime(file, (time, time))


def recorded(tmp_path: Path) -> dict[str, str]:
    files: dict[str, str] = json.loads((tmp_path / "study" / "study.json").read_text())["files"]
    return files


def test_untouched_images_need_no_word(plan: Plan) -> None:
    assert not plan(begin=True).notes
    assert not plan(begin=True).notes


def test_another_modification_time_is_noticed(plan: Plan, images: Path, tmp_path: Path) -> None:
    plan(begin=True)
    begun = recorded(tmp_path)
    replace(images)
    for _ in range(2):  # again, until somebody looks
        experiment = plan(begin=True)
        [note] = experiment.notes
        assert VICTIM.partition("/")[2] in note
        assert "--check-images" in note
        assert not experiment.needed  # what is finished stays so
        assert recorded(tmp_path) == begun
    [note] = plan(begin=True, check=True).notes  # there is nothing to compare with
    assert "digest" in note
    assert not plan().notes


@pytest.mark.parametrize("time", [THEN, THEN + 60])
def test_other_contents_are_refused(plan: Plan, images: Path, tmp_path: Path, time: float) -> None:
    plan(begin=True, check=True)
    before = recorded(tmp_path)
    assert len(plan().notes) == 0
    replace(images, time)
    assert len(plan().notes) == (time != THEN)
    with pytest.raises(UsageError) as raised:
        plan(check=True)
    assert before["contents"] in str(raised.value)
    assert "--name" in str(raised.value)
    assert recorded(tmp_path) == before


@pytest.mark.parametrize("checked", [False, True])
def test_copied_images_are_the_same_images(plan: Plan, images: Path, checked: bool) -> None:
    """A copy has other times, and may call its folder for validation otherwise."""
    plan(begin=True, check=checked)
    shutil.copytree(images, images.parent / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(images)
    (images.parent / "copy").rename(images)
    (images / "val").rename(images / "validation")
    assert len(plan().notes) == 1
    if checked:
        [note] = plan(begin=True, check=True).notes
        assert "same contents" in note
        assert not plan().notes


def test_a_study_that_has_no_times_takes_them_on(plan: Plan, images: Path, tmp_path: Path) -> None:
    plan(begin=True)
    path = tmp_path / "study" / "study.json"
    older = json.loads(path.read_text())
    del older["files"]
    path.write_text(json.dumps(older))
    replace(images)
    assert not plan(begin=True).notes
    assert recorded(tmp_path).keys() == {"times"}


def test_the_identity_of_images_does_not_know_times(plan: Plan, images: Path) -> None:
    first = plan().planned[0].run.name
    replace(images)
    assert plan().planned[0].run.name == first
    assert plan(check=True).planned[0].run.name == first
