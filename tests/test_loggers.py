"""Loggers get the numbers of each epoch, continue a stopped run, and cannot stop one."""

import json
import sys
import types
from pathlib import Path

import pytest
from reporting import write_study

from ablations.fit import LOGGERS
from ablations.training import loggers
from ablations.training.loggers import IDS, Loggers

ROW = {"epoch": 1, "top1": 50.0, "train_loss": 1.5, "val_loss": 1.25, "data_wait": None}
SCALARS = {"top1": 50.0, "train_loss": 1.5, "val_loss": 1.25}


class FakeWandB(types.ModuleType):
    """Records what it is called with."""

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.logged, self.codes = [], [], []

    def init(self, **options):
        self.runs.append(options)
        return types.SimpleNamespace(
            id=options["id"] or "new",
            log=lambda scalars, step: self.logged.append((step, scalars)),
            finish=lambda exit_code: self.codes.append(exit_code),
        )


@pytest.fixture
def run_and_folder(tmp_path):
    study = write_study(tmp_path / "mine", {"resnet": [80.0]})
    _, run, folder = next(study.runs())
    return run, folder.path


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_all_names_of_the_option_are_loggers():
    assert set(loggers._KINDS) == set(LOGGERS)


def test_numbers_go_to_wandb_and_a_continued_run_is_the_same_run(run_and_folder, wandb):
    run, folder = run_and_folder
    for epoch, ended in ((1, False), (2, True)):
        log = Loggers(["wandb"], run, folder)
        log.write({**ROW, "epoch": epoch})
        log.close(ended=ended)
    assert wandb.logged == [(1, SCALARS), (2, SCALARS)]
    assert [options["id"] for options in wandb.runs] == [None, "new"]
    assert {options["resume"] for options in wandb.runs} == {"allow"}
    assert wandb.runs[0]["group"] == "mine"
    assert wandb.runs[0]["name"] == run.name
    assert wandb.runs[0]["config"]["recipe"]["optimizer"] == "sgd"
    assert wandb.codes == [1, 0]


def test_a_logger_that_fails_is_left_out(run_and_folder, wandb, capsys):
    run, folder = run_and_folder

    def fail(**_):
        raise ConnectionError("no route to host")

    wandb.init = fail
    log = Loggers(["wandb", "tensorboard"], run, folder)
    for epoch in (1, 2):
        log.write({**ROW, "epoch": epoch})
    log.close(ended=True)
    told = capsys.readouterr().out
    assert told.count("wandb") == told.count("no route to host") == 1
    assert list((folder / "tensorboard").iterdir())
    assert wandb.logged == []


def test_a_logger_that_fails_later_is_left_out(run_and_folder, wandb, capsys):
    run, folder = run_and_folder
    log = Loggers(["wandb"], run, folder)
    log.write(ROW)
    (folder / IDS).unlink()
    wandb_run = log._opened["wandb"]._run
    wandb_run.log = wandb_run.finish = None  # so that a call of them is a TypeError
    log.write({**ROW, "epoch": 2})
    log.write({**ROW, "epoch": 3})
    log.close(ended=True)
    assert capsys.readouterr().out.count("TypeError") == 1
    assert [step for step, _ in wandb.logged] == [1]


def test_numbers_go_to_mlflow_and_a_continued_run_is_the_same_run(run_and_folder, monkeypatch):
    run, folder = run_and_folder
    calls = []

    class Client:
        def __getattr__(self, name):
            return lambda *values, **options: calls.append((name, *values, *options.values()))

        def get_experiment_by_name(self, name):
            return types.SimpleNamespace(experiment_id=f"id of {name}")

        def create_run(self, experiment, run_name):
            calls.append(("create_run", experiment, run_name))
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    fake = types.ModuleType("mlflow")
    fake.MlflowClient = Client
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    for epoch, ended in ((1, False), (2, True)):
        log = Loggers(["mlflow"], run, folder)
        log.write({**ROW, "epoch": epoch})
        log.close(ended=ended)
    created = [call for call in calls if call[0] == "create_run"]
    assert created == [("create_run", "id of mine", run.name)]
    logged = [call[1:] for call in calls if call[0] == "log_metric"]
    assert logged == [("r1", name, v, epoch) for epoch in (1, 2) for name, v in SCALARS.items()]
    assert ("log_param", "r1", "recipe.optimizer", "sgd") in calls
    assert [call[1:] for call in calls if call[0] == "set_terminated"] == [
        ("r1", "KILLED"), ("r1", "FINISHED"),
    ]  # fmt: skip


@pytest.mark.integration
def test_the_real_mlflow(run_and_folder, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(None)
    run, folder = run_and_folder
    for epoch, ended in ((1, False), (2, True)):
        log = Loggers(["mlflow"], run, folder)
        log.write({**ROW, "epoch": epoch})
        log.close(ended=ended)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mine")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == run.name
    assert found.info.status == "FINISHED"
    assert found.data.metrics == SCALARS
    assert found.data.params["recipe.optimizer"] == "sgd"
    history = client.get_metric_history(found.info.run_id, "val_loss")
    assert [metric.step for metric in history] == [1, 2]


@pytest.mark.integration
def test_the_real_wandb(run_and_folder, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run, folder = run_and_folder
    log = Loggers(["wandb"], run, folder)
    log.write(ROW)
    log.close(ended=True)
    assert json.loads((folder / IDS).read_text())["wandb"]
    (offline,) = Path(folder / "wandb").glob("offline-run-*")
    assert list(offline.glob("*.wandb"))
