"""How runs stand, by their files and by what a scheduler says (here: one that is made up)."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ablations.analysis.outcomes import read_outcomes
from ablations.commands import runs
from ablations.launching import scheduler
from ablations.launching.claim import announce, exclusive_launch
from ablations.launching.scheduler import Queued, Submission, explain
from ablations.launching.snapshot import snapshot
from ablations.launching.survey import State, goes_on, survey
from ablations.recipe import load_preset
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
from ablations.studies.selection import roadmap
from modernize.steps import STEPS

Say = Callable[[dict[str, Queued] | None], None]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = Study.join(
        tmp_path / "study",
        preset=load_preset("nano"),
        regime="nano",
        images={"name": "fashion-mnist", "train_images": 1, "val_images": 1, "sha256": "0"},
        variants=roadmap("nano", last="recipe"),
        seeds=1,
        order=[step.key for step in STEPS],
    )
    made.write()
    return made


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """Sets what the scheduler answers."""
    return lambda answer: monkeypatch.setattr(scheduler, "ask", lambda _study, _submissions: answer)


def first(study: Study) -> tuple[str, RunFolder]:
    _, run, folder = next(study.runs())
    folder.describe(run)
    return run.name, folder


def submit(study: Study) -> None:
    names = [run.name for _, run, _ in study.runs()]
    Submission("token", names, "7", "", None, None, time.time()).write(study.folder)


def stands(study: Study) -> State:
    return survey(study)[0].state


def test_without_a_scheduler(study: Study) -> None:
    assert [s.state for s in survey(study)] == [State.MISSING, State.MISSING]
    _, run, folder = next(study.runs())
    folder.prepare(run)
    folder.write_progress(epoch=1, epochs=5, fraction=0.25, seconds=30.0)
    assert survey(study)[0].state is State.RUNNING
    assert survey(study)[0].detail == "epoch 2 of 5, about 1 min 30 s left"
    folder.log.write_text("one\ntwo\n")
    folder.write_record(Record(Status.FAILED, "no memory"))
    state = survey(study)[0]
    assert (state.state, state.detail, state.log) == (State.FAILED, "no memory", folder.log)
    console = Console(record=True, width=200, file=io.StringIO())
    runs.show_status(console, study, None)
    shown = console.export_text()
    assert "    two" in shown
    assert "1 failed, 1 missing" in shown
    (folder.path / "record.json").write_text("{")
    assert stands(study) is State.UNREADABLE


def test_a_run_that_is_silent_for_long_is_running_as_long_as_its_process_lives(
    study: Study,
) -> None:
    _, run, folder = next(study.runs())
    folder.prepare(run)
    folder.write_progress(epoch=1, epochs=5, fraction=0.25, seconds=30.0)
    for name in ("owner.json", "progress.json"):
        os.utime(folder.path / name, (0, 0))
    assert stands(study) is State.RUNNING
    with folder.alive():
        assert stands(study) is State.RUNNING
    assert stands(study) is State.MISSING  # at once; it was stopped
    assert "missing" in read_outcomes(study)[run.key].states.values()


def test_what_a_launch_has_yet_to_do_is_queued(study: Study) -> None:
    runs_there = list(study.runs())
    _, failed, folder = runs_there[1]
    folder.describe(failed)
    folder.write_record(Record(Status.FAILED, "no memory"))
    with exclusive_launch(study.folder):
        assert [s.state for s in survey(study)] == [State.QUEUED, State.QUEUED]
        assert goes_on(study, [])
        announce(study.folder, [runs_there[0][1].name])
        assert [s.state for s in survey(study)] == [State.QUEUED, State.FAILED]
        assert goes_on(study, survey(study))
        assert not goes_on(study, [])
    assert [s.state for s in survey(study)] == [State.MISSING, State.FAILED]
    assert not goes_on(study, survey(study))


def test_with_a_scheduler(study: Study, say: Say) -> None:
    name, folder = first(study)
    submit(study)
    say({name: Queued("7_0", "PENDING", "Resources")})
    state = survey(study)[0]
    assert (state.state, state.detail, state.with_scheduler) == (State.QUEUED, "Resources", True)
    say({name: Queued("7_0", "RUNNING", "None")})
    assert stands(study) is State.RUNNING
    say({})
    assert stands(study) is State.LOST
    say(None)
    assert stands(study) is State.UNKNOWN
    assert survey(study)[0].with_scheduler
    with exclusive_launch(study.folder):  # a launch must not take it for one of its own
        assert survey(study)[0].with_scheduler
    say({})
    folder.note("cancelled", job="7_0")
    assert stands(study) is State.MISSING
    folder.write_record(Record(Status.FINISHED, top1=80.0))
    say({name: Queued("7_0", "COMPLETING", "None")})
    assert survey(study)[0].detail == "top-1 80.00 %"


def test_who_was_overtaken_writes_no_more(study: Study) -> None:
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
        with pytest.raises(RunOwnershipError, match="taken over"):
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
    assert explain(said).endswith(f" It is about the site's key {key}.")
    assert "error:" not in explain(said)
