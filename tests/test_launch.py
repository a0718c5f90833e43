"""The local queue: bounded, isolated, stoppable."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import pytest
from command_line import PATIENCE

from ablations import devices
from ablations.data.datasets import load_dataset
from ablations.data.images import DataError
from ablations.data.sampling import Rank
from ablations.devices import Slot, find_slots
from ablations.launching import executors, local_queue
from ablations.launching.distributed import Distributed
from ablations.launching.job import Job
from ablations.launching.local_queue import run_queue
from ablations.launching.torchrun import TorchrunEnvironment
from ablations.processes import STOP_SIGNALS
from ablations.recipe import load_preset
from ablations.records import Record, Run, RunFolder, Status
from ablations.records.lock import study_lock
from ablations.training import device_context
from modernize import spec_of
from modernize.errors import UsageError

MakeJob = Callable[..., Job]
SLOTS = [Slot("cpu", 1), Slot("cpu", 1)]


@pytest.fixture
def make_job(few_images: Path, tmp_path: Path) -> MakeJob:
    """Makes jobs that take about a second, each in its own folder."""
    settings = ["batch_size=100", "micro_batch_size=100", "epochs=2"]
    preset = load_preset("nano", [*settings, f"data.source={few_images}"])
    identity = load_dataset(preset.data).identity()
    spec = spec_of("patchify", "nano", in_channels=1, num_classes=10, depths=[1, 1], width=8)

    def make(seed: int = 0, epochs: int = 2, source: Path = few_images) -> Job:
        recipe = preset.recipes.enhanced.model_copy(update={"epochs": epochs})
        run = Run("patchify", recipe.apply_to(spec), recipe, identity, seed)
        data = preset.data.model_copy(update={"source": str(source)})
        return Job(run, tmp_path / run.name, data, preset.compute)

    return make


@pytest.mark.integration
def test_at_most_one_run_per_slot_and_a_record_of_each(make_job: MakeJob) -> None:
    jobs = [make_job(seed) for seed in range(4)]
    most, ended = 0, []
    for tick in run_queue(jobs[0].folder.parent, jobs, SLOTS):
        most = max(most, len(tick.running))
        ended += tick.ended
    assert most == 2
    assert {job.run.seed for job, _ in ended} == {0, 1, 2, 3}
    assert {record.status for _, record in ended} == {Status.FINISHED}
    for job, record in ended:
        assert RunFolder(job.folder).read_record() == record
        assert record.provenance["threads"] == 1


@pytest.mark.integration
def test_a_failed_run_does_not_stop_the_others(make_job: MakeJob, tmp_path: Path) -> None:
    broken = make_job(0, source=tmp_path / "nowhere-\udcff")  # a name that is not UTF-8
    other_images = dataclasses.replace(
        make_job(1), run=dataclasses.replace(make_job(1).run, images={})
    )
    good = make_job(2)
    records = {job.run.seed: r for t in run_queue(tmp_path, [broken, other_images, good], SLOTS[:1])
               for job, r in t.ended}  # fmt: skip
    assert records[0].status is Status.FAILED
    assert "no Fashion-MNIST images" in records[0].reason
    assert "nowhere-\udcff" in records[0].reason
    assert RunFolder(broken.folder).read_record() == records[0]
    log = RunFolder(broken.folder).log.read_text()
    assert "Traceback" in log
    assert r"nowhere-\udcff" in log
    assert "images changed" in records[1].reason
    assert records[2].status is Status.FINISHED


def test_a_failure_in_one_of_several_processes_is_recorded(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reason is kept: later failures only report that a process is gone."""
    job = dataclasses.replace(make_job(0), run=dataclasses.replace(make_job(0).run, images={}))
    folder = RunFolder(job.folder)
    folder.write_config(job.run)
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    executor = Distributed(TorchrunEnvironment(1, 2, 1, 2))
    monkeypatch.setattr(
        device_context, "process_group", lambda _rank: contextlib.nullcontext(("cpu", Rank(1, 2)))
    )
    for reason in (None, "the first to fail"):
        if reason:
            folder.write_record(Record(Status.FAILED, reason))
        with executor.join(), pytest.raises(DataError, match="images changed"):
            list(executor.launch(folder.path.parent, [job]))
        record = folder.read_record()
        assert record is not None
        assert record.status is Status.FAILED
        assert (reason or "images changed") in record.reason
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.integration
def test_a_killed_process_is_a_failed_run(make_job: MakeJob) -> None:
    job = make_job(0, epochs=500)
    records = []
    for tick in run_queue(job.folder.parent, [job], SLOTS[:1]):
        records += [record for _, record in tick.ended]
        if tick.running and RunFolder(job.folder).read_progress():
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
    assert [r.status for r in records] == [Status.FAILED]
    assert "signal 9" in records[0].reason


@pytest.mark.integration
def test_closing_the_queue_stops_its_runs_and_they_continue_later(make_job: MakeJob) -> None:
    job = make_job(0, epochs=12)
    folder = RunFolder(job.folder)
    queue = run_queue(job.folder.parent, [job], SLOTS[:1])
    for _ in queue:
        if len(folder.read_metrics()) >= 2:
            break
    queue.close()  # what Ctrl-C comes to
    assert not multiprocessing.active_children()
    assert folder.read_record() is None
    before = folder.read_metrics()
    assert 2 <= len(before) < 12
    for _ in run_queue(job.folder.parent, [job], SLOTS[:1]):
        pass
    record = folder.read_record()
    assert record is not None
    assert record.status is Status.FINISHED
    assert folder.read_metrics()[: len(before)] == before
    assert len(folder.read_metrics()) == 12


@pytest.mark.integration
def test_runs_outlive_the_process_that_starts_them(make_job: MakeJob) -> None:
    """It is killed while a run trains, and again before another starts."""
    jobs = [make_job(0), make_job(1)]
    ended, killed = [], set()
    for tick in run_queue(jobs[0].folder.parent, jobs, SLOTS[:1]):
        ended += [record.status for _, record in tick.ended]
        for job in tick.running:
            if job.run.seed not in killed and RunFolder(job.folder).read_progress():
                killed.add(job.run.seed)
                os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    assert len(killed) == 2
    assert ended == [Status.FINISHED, Status.FINISHED]


def _orphan(job: Job) -> None:
    for _ in run_queue(job.folder.parent, [job], SLOTS[:1]):
        pass


@pytest.mark.integration
def test_no_run_outlives_a_killed_queue(make_job: MakeJob) -> None:
    job = make_job(0, epochs=500)
    folder = RunFolder(job.folder)
    parent = multiprocessing.get_context("spawn").Process(target=_orphan, args=(job,))
    parent.start()
    deadline = time.monotonic() + PATIENCE
    while folder.read_progress() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert folder.read_progress() is not None
    parent.kill()
    parent.join()
    time.sleep(2)
    said = folder.read_progress()
    time.sleep(2)
    assert folder.read_progress() == said
    assert folder.read_record() is None


def test_the_option_has_every_executor() -> None:
    from ablations.commands import launch

    assert ("auto", *executors.EXECUTORS) == launch.EXECUTORS


def test_two_processes_do_not_train_one_study(tmp_path: Path) -> None:
    with (
        study_lock(tmp_path),
        pytest.raises(UsageError, match="another process is training"),
        study_lock(tmp_path),
    ):
        pass
    with study_lock(tmp_path):
        pass


def test_cores_are_divided_among_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert find_slots(17) == [Slot("cpu", 1)] * 4
    assert find_slots(17, jobs=2) == [Slot("cpu", 2)] * 2
    assert find_slots(1) == [Slot("cpu", 4)]
    assert find_slots(0) == [Slot("cpu", 4)]
    with pytest.raises(UsageError, match="at least 1"):
        find_slots(17, jobs=0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert find_slots(17) == [Slot("mps", 4)]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert find_slots(17) == [Slot("cuda:0", 2), Slot("cuda:1", 2)]


def test_a_process_whose_launch_is_gone_does_not_take_a_run(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch was killed before its first run started, and another launch started that run."""
    job = make_job()
    mine = RunFolder(job.folder)
    mine.prepare(job.run)
    gone = types.SimpleNamespace(is_alive=lambda: False)
    monkeypatch.setattr(local_queue.multiprocessing, "parent_process", lambda: gone)
    for name in ("signal", "pthread_sigmask"):  # which are this process's
        monkeypatch.setattr(local_queue.signal, name, lambda *_: None)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    receiver, sender = multiprocessing.Pipe(duplex=False)
    local_queue._train_run(job, SLOTS[0], sender)
    mine.check_owner()
    assert [line["event"] for line in mine.read_history()] == ["started"]
    assert not receiver.poll()
