"""What the scheduler is asked, and what its answers mean: with commands that are made up here."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.records.squeue import find_jobs
from ablations.records.submissions import Submission

Answer = Callable[[str, str], None]

# Answers as squeue does: the filters of SQUEUE_* variables and of options hide what they exclude.
SQUEUE = """
[ -z "$SQUEUE_USERS$SQUEUE_STATES" ] || exit 0
case "$*" in *--user*) exit 0;; esac
case "$*" in *--jobs=7*) echo "one|7|0|RUNNING|None"; echo "one|7|1|PENDING|Resources";; esac
case "$*" in *--name=two*) echo "two|9|N/A|PENDING|Priority";; esac
"""
PRIVATE = "echo 'PrivateData             = accounts,jobs'"


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Makes a command that runs a script."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in {"LOGNAME": "nobody", "SQUEUE_USERS": "me", "SQUEUE_STATES": "R"}.items():
        monkeypatch.setenv(name, value)

    def make(command: str, script: str) -> None:
        (tmp_path / command).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / command).chmod(0o755)

    return make


def submit(study: Path, token: str, runs: list[str], jobs: str | None) -> Submission:
    made = Submission(token, runs, jobs, "", None, None, time.time())
    made.write(study)
    return made


def test_every_user_finds_the_jobs(answer: Answer, tmp_path: Path) -> None:
    """By number, or by name if the submission was killed before it knew the number."""
    answer("squeue", SQUEUE)
    numbered = submit(tmp_path, "one", ["a", "b"], "7")
    found = find_jobs(tmp_path, [numbered, submit(tmp_path, "two", ["c"], None)])
    assert found is not None
    assert {run: (job.job, job.waits) for run, job in found.items()} == {
        "a": ("7_0", False),
        "b": ("7_1", True),
        "c": ("9", True),
    }
    again = find_jobs(tmp_path, [numbered, submit(tmp_path, "two", ["a"], None)])
    assert again is not None
    assert again["a"].job == "9"  # the later one


@pytest.mark.parametrize(
    ("squeue", "scontrol", "user", "known"),
    [
        ("", PRIVATE, 0, True),  # it ended
        ("", PRIVATE, 12345, False),  # or it is hidden from this user
        ("", "echo 'PrivateData = none'", 12345, True),
        ("", "exit 1", 12345, False),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", PRIVATE, 0, True),
        ("echo 'slurm_load_jobs error: Unable to contact' >&2; exit 1", PRIVATE, 0, False),
        ("printf 'one|7|0|RUNNING|\\377\\n'", PRIVATE, 12345, True),
    ],
)
def test_no_answer_does_not_mean_that_a_job_ended(
    answer: Answer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    squeue: str,
    scontrol: str,
    user: int,
    known: bool,
) -> None:
    answer("squeue", squeue)
    answer("scontrol", scontrol)
    submission = submit(tmp_path, "one", ["a"], "7")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert (find_jobs(tmp_path, [submission]) is not None) == known
