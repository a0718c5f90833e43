"""Loggers: a run's numbers of each epoch for TensorBoard, Weights & Biases and MLflow.

All get the same numbers under the same names. A logger that fails is left out, and the run goes on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ablations.records import Run, read_json, write_json
from ablations.terminal import echo

PROJECT = "convnext-roadmap"
IDS = "loggers.json"  # in the run's folder: logger -> id of the run there, to continue it


class Logger(Protocol):
    """One service that a run's numbers go to."""

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Writes the numbers of one epoch, counted from 1."""

    def close(self, ended: bool) -> None:
        """Writes what is buffered; ``ended``: the run was trained to its end."""


class Loggers:
    """The loggers of one run; each is opened with the first numbers.

    Args:
        names: of the loggers.
        run: the run.
        folder: of its files, ``results/<study>/runs/<run>``.
    """

    def __init__(self, names: Sequence[str], run: Run, folder: Path) -> None:
        self._names, self._run, self._folder = list(names), run, folder
        self._opened: dict[str, Logger] = {}

    def write(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of an epoch to all loggers; ``row`` has its number, ``epoch``."""
        scalars = {name: v for name, v in row.items() if name != "epoch" and v is not None}
        for name in list(self._names):
            with self._guarded(name):
                if name not in self._opened:
                    self._opened[name] = _KINDS[name](self._run, self._folder, row["epoch"])
                self._opened[name].write(row["epoch"], scalars)

    def close(self, *, ended: bool) -> None:
        """Closes all loggers; ``ended``: the run was trained to its end."""
        for name, logger in list(self._opened.items()):
            with self._guarded(name):
                logger.close(ended)
        self._opened = {}

    @contextlib.contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """Leaves out a logger that fails, with a note in the run's log."""
        try:
            yield
        except Exception as error:  # a service must not stop a run
            self._names.remove(name)
            self._opened.pop(name, None)
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            echo(f"Note: the logger {name} failed ({reason}). The run continues without it.")


class _TensorBoard:
    def __init__(self, run: Run, folder: Path, epoch: int) -> None:  # noqa: ARG002
        from torch.utils.tensorboard import SummaryWriter

        kind: Any = SummaryWriter  # untyped
        self._writer = kind(str(folder / "tensorboard"), purge_step=epoch)

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self, ended: bool) -> None:  # noqa: ARG002
        self._writer.close()


class _WandB:
    def __init__(self, run: Run, folder: Path, epoch: int) -> None:  # noqa: ARG002
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=_study(folder),
            name=run.name,
            id=_read_id(folder, "wandb"),
            resume="allow",
            dir=str(folder),
            config=run.content(),
        )
        _keep_id(folder, "wandb", self._run.id)

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        self._run.log(dict(scalars), step=epoch)

    def close(self, ended: bool) -> None:
        self._run.finish(exit_code=0 if ended else 1)


class _MLflow:
    def __init__(self, run: Run, folder: Path, epoch: int) -> None:  # noqa: ARG002
        import mlflow

        self._client = mlflow.MlflowClient()
        self._id = _read_id(folder, "mlflow") or self._create(run, folder)
        self._client.update_run(self._id, status="RUNNING")

    def _create(self, run: Run, folder: Path) -> str:
        study = _study(folder)
        with contextlib.suppress(Exception):  # it exists, or another job creates it now
            self._client.create_experiment(study)
        experiment = self._client.get_experiment_by_name(study)
        created = self._client.create_run(experiment.experiment_id, run_name=run.name)
        _keep_id(folder, "mlflow", created.info.run_id)
        for group, values in run.content().items():
            for name, value in values.items() if isinstance(values, dict) else [("", values)]:
                self._client.log_param(created.info.run_id, f"{group}.{name}".rstrip("."), value)
        return str(created.info.run_id)

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._client.log_metric(self._id, name, value, step=epoch)

    def close(self, ended: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if ended else "KILLED")


_KINDS: Mapping[str, Callable[[Run, Path, int], Logger]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "mlflow": _MLflow,
}


def _study(folder: Path) -> str:
    """Returns the name of the study of a run's folder."""
    return folder.absolute().parents[1].name


def _read_id(folder: Path, logger: str) -> str | None:
    """Returns the id under which an earlier part of the run was logged."""
    return (read_json(folder / IDS) or {}).get(logger)


def _keep_id(folder: Path, logger: str, value: str) -> None:
    write_json(folder / IDS, {**(read_json(folder / IDS) or {}), logger: value})
