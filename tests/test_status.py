"""The status of runs, from their files and from the answers of a scheduler (here a fake one)."""

import io
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from reporting import write_study
from rich.console import Console

from ablations.analysis.outcomes import read_outcomes
from ablations.commands import runs
from ablations.launching.scheduler import explain
from ablations.launching.snapshot import snapshot
from ablations.records import (
    SNAPSHOT,
    Record,
    RunFolder,
    RunOwnershipError,
    Status,
    Study,
    commit_of,
    read_json,
)
from ablations.records import status as status_module
from ablations.records.lock import study_lock, write_pending
from ablations.records.squeue import SchedulerJob
from ablations.records.status import is_active, read_statuses
from ablations.records.submissions import Submission

Say = Callable[[dict[str, SchedulerJob] | None], None]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "study", {"resnet": [None], "recipe": [None]})


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """Sets what the scheduler answers."""
    return lambda answer: monkeypatch.setattr(
        status_module, "find_jobs", lambda _study, _submissions: answer
    )


def first(study: Study) -> tuple[str, RunFolder]:
    _, run, folder = next(study.runs())
    folder.write_config(run)
    return run.name, folder


def submit(study: Study) -> None:
    names = [run.name for _, run, _ in study.runs()]
    Submission("token", names, "7", "", None, None, time.time()).write(study.folder)


def stands(study: Study) -> Status:
    return read_statuses(study)[0].status


def test_the_documents_list_every_status() -> None:
    text = (Path(__file__).parent.parent / "docs" / "studies.md").read_text()
    section = text.partition("## Status of a run")[2]
    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == [str(s) for s in Status]


def test_without_a_scheduler(study: Study) -> None:
    assert [s.status for s in read_statuses(study)] == [Status.MISSING, Status.MISSING]
    _, run, folder = next(study.runs())
    folder.prepare(run)
    folder.write_progress(epoch=1, epochs=5, fraction=0.25, seconds=30.0)
    assert read_statuses(study)[0].status is Status.RUNNING
    assert read_statuses(study)[0].detail == "epoch 2 of 5, about 1 min 30 s left"
    folder.log.write_text("one\ntwo\n")
    folder.write_record(Record(Status.FAILED, "no memory"))
    state = read_statuses(study)[0]
    assert (state.status, state.detail, state.log) == (Status.FAILED, "no memory", folder.log)
    console = Console(record=True, width=200, file=io.StringIO())
    runs.show_status(console, study, None)
    shown = console.export_text()
    assert "    two" in shown
    assert "1 failed, 1 missing" in shown
    (folder.path / "record.json").write_text("{")
    assert stands(study) is Status.UNREADABLE


def test_a_run_is_running_as_long_as_its_process_is_alive(
    study: Study,
) -> None:
    _, run, folder = next(study.runs())
    folder.prepare(run)
    folder.write_progress(epoch=1, epochs=5, fraction=0.25, seconds=30.0)
    for name in ("owner.json", "progress.json"):
        os.utime(folder.path / name, (0, 0))
    assert stands(study) is Status.RUNNING
    with folder.heartbeat():
        assert stands(study) is Status.RUNNING
    assert stands(study) is Status.MISSING  # at once; it was stopped
    assert "missing" in read_outcomes(study)[run.key].statuses.values()


def test_pending_runs_of_a_launch_are_queued(study: Study) -> None:
    runs_there = list(study.runs())
    _, failed, folder = runs_there[1]
    folder.write_config(failed)
    folder.write_record(Record(Status.FAILED, "no memory"))
    with study_lock(study.folder):
        assert [s.status for s in read_statuses(study)] == [Status.QUEUED, Status.QUEUED]
        assert is_active(study, [])
        write_pending(study.folder, [runs_there[0][1].name])
        assert [s.status for s in read_statuses(study)] == [Status.QUEUED, Status.FAILED]
        assert is_active(study, read_statuses(study))
        assert not is_active(study, [])
    assert [s.status for s in read_statuses(study)] == [Status.MISSING, Status.FAILED]
    assert not is_active(study, read_statuses(study))


def test_with_a_scheduler(study: Study, say: Say) -> None:
    name, folder = first(study)
    submit(study)
    say({name: SchedulerJob("7_0", "PENDING", "Resources")})
    state = read_statuses(study)[0]
    assert (state.status, state.detail, state.with_scheduler) == (Status.QUEUED, "Resources", True)
    say({name: SchedulerJob("7_0", "RUNNING", "None")})
    assert stands(study) is Status.RUNNING
    say({})
    assert stands(study) is Status.LOST
    say(None)
    assert stands(study) is Status.UNKNOWN
    assert read_statuses(study)[0].with_scheduler
    with study_lock(study.folder):  # a launch must not train it
        assert read_statuses(study)[0].with_scheduler
    say({})
    folder.add_event("cancelled", job="7_0")
    assert stands(study) is Status.MISSING
    folder.write_record(Record(Status.FINISHED, metrics={"top1": 80.0}))
    say({name: SchedulerJob("7_0", "COMPLETING", "None")})
    assert read_statuses(study)[0].detail == "top-1 80.00 %"


def test_a_process_that_lost_a_run_writes_no_more(study: Study) -> None:
    _, run, _ = next(study.runs())
    mine, other = study.folder_of(run), study.folder_of(run)
    mine.prepare(run, job="7_0", restart=0)
    mine.write_metrics([{"epoch": 1}])
    other.prepare(run, job="7_0", restart=1)
    for write in (
        lambda: mine.write_metrics([]),
        lambda: mine.write_record(Record(Status.FAILED)),
        lambda: mine.write_progress(epoch=0),
        mine.check_owner,
    ):
        with pytest.raises(RunOwnershipError, match="another process"):
            write()
    other.write_record(Record(Status.FINISHED))
    assert mine.read_metrics() == [{"epoch": 1}]
    assert [line["restart"] for line in mine.read_history()] == [0, 1]


def test_the_program_is_copied_once_with_its_commit(study: Study) -> None:
    code = snapshot(study.folder)
    assert snapshot(study.folder) == code
    assert (code / "ablations" / "slurm_configs" / "example.yaml").is_file()
    assert (code / "modernize" / "steps.py").is_file()
    assert read_json(code / SNAPSHOT) == commit_of(code)
    assert not list(code.parent.glob(".code-*"))


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("sbatch: error: invalid partition specified: x\nsbatch: error: Batch job", "partition"),
        ("sbatch: error: Invalid qos specification", "qos"),
        ("sbatch: error: Requested time limit is invalid", "time_limit_minutes"),
        ("sbatch: error: Invalid job array specification", "max_array_size"),
    ],
)
def test_the_key_behind_a_refusal(said: str, key: str) -> None:
    assert f" key {key} " in explain(said)
    assert "error:" not in explain(said)
