"""What a launch decides and changes, it decides and changes while it holds the study's lock."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from ablations.launching import scheduler
from ablations.launching.experiment import Experiment
from ablations.records import Record, Status, Study

TINY = ["--set", "epochs=1", "--set", "warmup_epochs=0", "--set", "batch_size=1000",
        "--set", "micro_batch_size=1000"]  # fmt: skip
Launch = Callable[..., str]


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture
def experiments(few_images: Path, tmp_path: Path) -> Callable[..., Experiment]:
    """Plans the main job for some steps, and does not launch it."""
    from ablations.commands.launch import design

    def plan(only: str, seeds: int = 1) -> Experiment:
        return design(
            name="study", skip_bad_images=False, loggers=(), results=tmp_path,
            study="roadmap", first=None, last=None, only=tuple(only.split(",")),
            seeds=seeds, preset=None, regime=None, data=str(few_images), settings=tuple(TINY[1::2]),
        )  # fmt: skip

    return plan


def finish(experiment: Experiment) -> None:
    for p in experiment.needed:
        p.folder.prepare(p.run)
        p.folder.write_record(Record(Status.FINISHED, metrics={"top1": 80.0}))


@pytest.mark.parametrize("executor", ["local", "debug", "slurm"])
def test_a_refused_launch_changes_nothing(
    executor: str, launch: Launch, experiments: Callable[..., Experiment], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(scheduler, "find_slurm", lambda: "")
    with experiments("ln").locked() as first:
        finish(first)
    with FileLock(tmp_path / "study" / ".lock"):
        before = snapshot(tmp_path)
        told = launch("--name", "study", "--executor", executor, "--seeds", "3", status=2)
    assert "another process" in told
    assert str(tmp_path / "study") in told
    assert snapshot(tmp_path) == before


def test_runs_of_other_launches_are_skipped(
    experiments: Callable[..., Experiment],
) -> None:
    planned = [experiments("ln,gelu"), experiments("resnet"), experiments("ln", seeds=2)]
    with experiments("ln").locked() as first:
        finish(first)
    for experiment in planned:
        with experiment.locked() as claimed:
            wanted = {(p.run.key, p.run.seed) for p in experiment.planned} - {("ln", 0)}
            assert {(p.run.key, p.run.seed) for p in claimed.needed} == wanted
            records = [p.folder.read_record() for p in claimed.planned if p.run.key == "ln"]
            assert all(r and r.metrics["top1"] == 80.0 for r in records[:1])
    study = Study.open(planned[0].study.folder)
    assert [v.key for v in study.variants] == ["resnet", "gelu", "ln"]
    assert study.seeds == 2


@pytest.mark.integration
def test_a_record_that_cannot_be_written_is_reported(
    launch: Launch, experiments: Callable[..., Experiment], tmp_path: Path
) -> None:
    """A file has the name of the run's folder: neither log nor record can be written."""
    study = tmp_path / "study"
    [planned] = experiments("ln").planned
    planned.folder.path.parent.mkdir(parents=True)
    planned.folder.path.write_text("")
    told = launch("--name", "study", "--only", "ln", status=1)
    assert "ln, seed 0: FAILED: cannot write" in told
    assert "record" in told
    assert "1 of 1 run failed" in told
    assert ",failed,seed 0 failed," in (study / "summary.csv").read_text()


@pytest.mark.integration
def test_an_error_after_the_runs_hides_no_failure(launch: Launch, tmp_path: Path) -> None:
    study = tmp_path / "study"
    for name in ("summary.csv", "roadmap.png"):
        (study / name).mkdir(parents=True)
    told = launch("--name", "study", "--only", "ln", status=1)  # trained, and not collected
    assert "top-1" in told
    assert "summary.csv" in told
    [record] = study.glob("runs/*/record.json")
    assert json.loads(record.read_text())["status"] in ("finished", "collapsed")
    (record.parent / "record.json").rename(record.parent / "kept")
    (record.parent / "log.txt").unlink()
    (record.parent / "log.txt").mkdir()
    told = launch("--name", "study", "--only", "ln", status=1)
    assert "1 of 1 run failed" in told
    assert "summary.csv" in told


def test_only_needed_runs_must_fit_the_machine(
    launch: Launch, experiments: Callable[..., Experiment], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(scheduler, "find_slurm", lambda: "")
    with experiments("ln").locked() as claimed:
        finish(claimed)
    (tmp_path / "slurm.yaml").write_text("tasks_per_node: 3\n")
    there = [
        "--name",
        "study",
        "--executor",
        "slurm",
        "--slurm-config",
        str(tmp_path / "slurm.yaml"),
    ]
    assert "0 of 1 run" in launch(*there, "--dry-run", "--only", "ln")
    assert "gelu: 3 processes" in launch(*there, "--dry-run", "--only", "gelu,ln", status=2)
