"""Trains one run, from initial weights or its last checkpoint, and writes its record."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ablations import units
from ablations.data.loaders import Loaders
from ablations.data.sampling import MicroBatch
from ablations.metrics import EMA
from ablations.records import Record, Run, RunFolder, provenance
from ablations.tasks.registry import make_task
from ablations.tasks.task import Evaluation
from ablations.terminal import echo
from ablations.training import checkpoint
from ablations.training.device_context import DeviceContext
from ablations.training.loggers import Loggers
from ablations.training.outcome import final_record
from ablations.training.resume import resume_run
from ablations.training.state import TrainingState
from ablations.training.step import TrainingStep
from modernize.weights import Weights

CHECK_UPDATES = 20  # updates between two checks of losses, of signals and for a checkpoint
PROGRESS_SECONDS = 0.5  # between two reports of progress
CHECKPOINT_SECONDS = 60.0  # between two checkpoints, or more, so that ...
CHECKPOINT_FRACTION = 0.01  # ... they take at most this fraction of the time


class DivergedError(Exception):
    """A loss, a weight or an output became infinite or NaN; the message says which and when."""


class StoppedError(Exception):
    """The run was asked to stop; a later launch resumes it from its last checkpoint."""


def train(
    run: Run,
    folder: RunFolder,
    loaders: Loaders,
    context: DeviceContext,
    keep_going: Callable[[], bool] = lambda: True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    loggers: Sequence[str] = (),
    start: Weights | None = None,
) -> Record | None:
    """Trains one run to its end and writes its record; all its processes call this.

    A run that has a checkpoint resumes from it, with the same result. If a condition changed that
    decides the last digits, the record's provenance lists it under ``changes``.

    Args:
        run: what to train.
        folder: of its files; prepared for this run.
        loaders: of this process's part of the images.
        context: this process's device, rank and precision.
        keep_going: called regularly; if it returns False, the run is saved and training stops.
        checkpoint_seconds: the least time between two checkpoints; each epoch ends with one, too.
        loggers: where process 0 writes the metrics, too; of :data:`~ablations.fit.LOGGERS`.
        start: the weights that the run starts from; None: fresh ones.

    Returns:
        The record, or None if it was stopped.
    """
    threads = torch.get_num_threads()
    try:
        context, state = resume_run(run, folder, context, loaders.train.sampling, start)
        trainer = _Trainer(
            run, folder, loaders, context, state, keep_going, checkpoint_seconds, loggers
        )
        return trainer.train()
    finally:
        torch.set_num_threads(threads)  # a resumed run keeps its own number


class _Trainer:
    """One process's part in training one run."""

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        loaders: Loaders,
        context: DeviceContext,
        state: TrainingState,
        keep_going: Callable[[], bool],
        checkpoint_seconds: float,
        loggers: Sequence[str],
    ) -> None:
        self.run, self.recipe, self.folder, self.state = run, run.recipe, folder, state
        self.task = make_task(run.task)
        self.loaders, self.sampling, self.context = loaders, loaders.train.sampling, context
        self.epochs = self.recipe.epochs_begun(self.sampling.updates)
        self.keep_going, self.checkpoint_seconds = keep_going, checkpoint_seconds
        self.loggers = Loggers(loggers, run, folder.path)
        self.seconds_before = state.seconds  # of earlier attempts
        self.start = self.last_saved = time.perf_counter()
        self.last_progress = 0.0
        self.save_seconds = 0.0  # that the last checkpoint took
        self.losses: list[Tensor] = []  # the terms of each update since the last check
        self.terms: list[str] = []  # their names
        self.rate: dict[str, float | None] = {"images_per_second": None, "data_wait": None}
        model: nn.Module = state.network
        if context.process.world_size > 1:
            model = DistributedDataParallel(
                model, device_ids=[context.device] if context.device.type == "cuda" else None
            )
        self.model: Any = torch.compile(model) if context.compile else model
        self.step = TrainingStep(
            self.model, state.optimizer, state.scaler, context, self.task.losses
        )

    def train(self) -> Record | None:
        """Trains the rest of the run; returns its record, or None if it was stopped."""
        state, context = self.state, self.context
        if context.first:  # the files may have more epochs than the checkpoint
            self.folder.write_metrics(state.metrics)
            self.folder.write_speed(state.speed)
        started = time.time()
        # Read now: the program's files may change during the run.
        software = provenance(context.describe(), torch.get_num_threads())
        diverged = ""
        try:
            self.run_all_epochs()
        except StoppedError:
            self.loggers.close(ended=False)
            return None
        except DivergedError as error:
            diverged = str(error)
        record = dataclasses.replace(
            final_record(state.metrics, self.task.metrics, self._chance, diverged),
            classes=tuple(state.classes),
            seconds=self.seconds(),
            provenance=software
            | {
                "processes": context.process.world_size,
                "precision": state.conditions["precision"],
                **({"start": self.run.start} if self.run.start else {}),
                **({"changes": state.changes} if state.changes else {}),
                "bad_images": self.loaders.bad_images,
                "started": started,
                "ended": time.time(),
            },
        )
        if context.first:
            self.folder.check_owner()
            if not diverged:
                self._save_weights()
                self._save_examples()
            self.folder.write_record(record)
            self.loggers.close(ended=not diverged)
            checkpoint.remove(self.folder.path)
        return record

    def seconds(self) -> float:
        """Returns the time spent on the run, over all attempts."""
        return self.seconds_before + time.perf_counter() - self.start

    def run_all_epochs(self) -> None:
        """Trains the rest of the run.

        Raises:
            DivergedError: for a loss, a weight or an output that is infinite or NaN.
            StoppedError: if the run was asked to stop.
        """
        while self.state.epoch < self.epochs:
            self._epoch()
            self._finish_epoch()

    def _epoch(self) -> None:
        """Trains the rest of an epoch."""
        state = self.state
        state.network.train()
        self.loaders.train.data_wait = 0.0
        here = self.sampling.updates_in(state.epoch)
        start, updates = time.perf_counter(), here - state.update
        stream = self.loaders.train.epoch(state.epoch, state.update)
        for _, micro_batches in itertools.groupby(stream, key=lambda item: item[0].update):
            self._update(micro_batches)
            state.update += 1
            last = state.update == here
            if state.update % CHECK_UPDATES == 0 or last or self.context.process.world_size == 1:
                self._check_signals(last)
        took = time.perf_counter() - start
        if updates:
            self.rate = {
                "images_per_second": updates * self.recipe.batch_size / took,
                "data_wait": self.loaders.train.data_wait / took,
            }

    def _chance(self, values: Mapping[str, Any]) -> str:
        return self.task.chance(values, self.state.evaluated, self.loaders.majority)

    def _update(self, micro_batches: Iterator[tuple[MicroBatch, Tensor, Any]]) -> None:
        """Does one update of the weights, from one or more micro-batches."""
        state, count = self.state, self.sampling.accumulation
        iteration = state.epoch * self.sampling.updates + state.update
        rate = self.recipe.learning_rate_at(iteration, self.sampling.updates)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        terms: dict[str, Tensor] = {}
        for turn, (batch, images, targets) in enumerate(micro_batches, start=1):
            torch.manual_seed(batch.seed)  # for stochastic depth and sampling
            x, target = self.loaders.mix(images, targets, batch.seed)
            accumulates = turn < count and self.context.process.world_size > 1
            with self.model.no_sync() if accumulates else contextlib.nullcontext():
                parts = self.step.backward(x, target, count)
            for name, part in parts.items():
                terms[name] = terms.get(name, 0) + part.to(state.loss_sum)
        self.step.update()
        if state.ema:
            state.ema.update_parameters(state.network)
        self.terms = list(terms)
        self.losses.append(torch.stack(list(terms.values())))
        state.loss_sum += self.losses[-1].sum()

    def _check_signals(self, last: bool) -> None:
        """Checks the losses, reports progress, saves if it is time, and stops if asked to."""
        state, now = self.state, time.perf_counter()
        done = state.epoch * self.sampling.updates + state.update
        due = self.context.first and now - self.last_saved > max(
            self.checkpoint_seconds, self.save_seconds / CHECKPOINT_FRACTION
        )
        report = now - self.last_progress > PROGRESS_SECONDS
        asked = torch.tensor([not self.keep_going(), due], device=self.context.device).int()
        stopping, due = (self.context.sum(asked) > 0).tolist()
        # Clocks differ: several processes, which must do the same, check every time.
        if report or due or last or stopping or self.context.process.world_size > 1:
            self._check_losses(done)
        if report and self.context.first:
            self.last_progress = now
            self.folder.write_progress(
                epoch=state.epoch,
                epochs=self.epochs,
                fraction=done / self.recipe.updates(self.sampling.updates),
                seconds=self.seconds(),
            )
        if stopping:
            self._save()
            raise StoppedError
        if due and not last:
            self._save()

    def _check_losses(self, done: int) -> None:
        """Raises DivergedError for the first loss since the last check that is infinite or NaN."""
        if not self.losses:
            return
        losses = self.context.sum(torch.stack(self.losses))
        self.losses = []
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            update, term = bad[0].tolist()
            at = done - len(losses) + update
            rate = self.recipe.learning_rate_at(at, self.sampling.updates)
            raise DivergedError(
                f"the {self.terms[term]} became {losses[update, term].item()} at iteration {at} "
                f"(epoch {at // self.sampling.updates + 1}), learning rate {rate:.3g}"
            )

    def _finish_epoch(self) -> None:
        """Evaluates the network if it is time, and writes the results of the epoch."""
        state = self.state
        networks = {"": state.network, **({EMA: state.ema.module} if state.ema else {})}
        for network in networks.values():
            for buffer in network.buffers():  # of BatchNorm, which differ between processes
                self.context.broadcast(buffer)
        loss = self.context.sum(state.loss_sum.clone()) / self.context.process.world_size
        updates = self.sampling.updates_in(state.epoch)
        iteration = state.epoch * self.sampling.updates + updates - 1
        row = {
            "epoch": state.epoch + 1,
            "train_loss": loss.item() / updates,
            "learning_rate": self.recipe.learning_rate_at(iteration, self.sampling.updates),
        }
        for prefix, network in networks.items():
            found = self._evaluate(network)
            if found is not None:
                row |= {f"{prefix}{name}": value for name, value in found.values.items()}
                state.evaluated = found.images
                if not prefix:
                    state.classes = [dict(row) for row in found.classes]
        if self.context.first:
            self._print(row)
        state.metrics.append(row)
        memory = self.context.peak_memory()
        state.speed.append({"epoch": state.epoch + 1, **self.rate, "memory_mib": memory})
        state.epoch, state.update = state.epoch + 1, 0
        state.loss_sum = torch.zeros_like(state.loss_sum)
        if self.context.first:
            self.folder.write_metrics(state.metrics)
            self.folder.write_speed(state.speed)
            self.loggers.write({**state.metrics[-1], **state.speed[-1]})
        self._save()

    def _evaluate(self, network: nn.Module) -> Evaluation | None:
        """Returns the metrics of a network; None if it is not evaluated after this epoch.

        Raises DivergedError if its weights or its outputs are not finite.

        No loss shows the last update, because a loss is computed before its update.
        """
        epoch = self.state.epoch + 1
        weights = {name: w for name, w in network.state_dict().items() if w.is_floating_point()}
        finite = torch.stack([w.isfinite().all() for w in weights.values()])
        if not finite.all():
            name = list(weights)[int(finite.int().argmin())]
            raise DivergedError(f"{name} became infinite or NaN by the end of epoch {epoch}")
        if not (self.run.images["val_images"] and self.recipe.evaluates(epoch, self.epochs)):
            return None
        found = self.task.evaluate(network, self.loaders.validation, self.context)
        if found.not_finite:
            raise DivergedError(
                f"the outputs for {units.integer(found.not_finite)} of "
                f"{units.integer(found.images)} validation images are infinite or NaN at the "
                f"end of epoch {epoch}"
            )
        return found

    def _print(self, row: dict[str, Any]) -> None:
        """Prints the results of an epoch; the run's log keeps the line."""
        rate, measured = self.rate["images_per_second"], self.task.metrics
        values = [metric.name(row.get(metric.key)) for metric in measured.metrics]
        if average := measured.headline.name(row.get(measured.headline.ema)):
            values.append(f"EMA {average}")
        parts = [
            f"epoch {row['epoch']} of {self.epochs}: loss {units.fixed(row['train_loss'], 4)}",
            *filter(None, values),
            *([units.rate(rate)] if rate else []),
        ]
        echo(", ".join(parts))

    def _save(self) -> None:
        """Writes a checkpoint; all processes call this."""
        self.state.seconds = self.seconds()
        self.last_saved = time.perf_counter()
        values = self.state.to_dict(self.context)
        if self.context.first:
            self.folder.check_owner()
            done = self.state.epoch * self.sampling.updates + self.state.update
            checkpoint.save(self.folder.path, done, values)
            self.save_seconds = time.perf_counter() - self.last_saved

    def _save_weights(self) -> None:
        ema = self.state.ema.module.state_dict() if self.state.ema else None
        network, spec = self.state.network.state_dict(), self.run.spec.to_dict()
        weights = {"network": network, "ema": ema, "spec": spec, "run": self.run.name}
        if self.run.task:
            weights["task"] = dict(self.run.task)
        if self.loaders.single is not None:
            weights["images"] = self.loaders.single.model_dump(mode="json")
        checkpoint.save_weights(self.folder.path, weights)

    def _save_examples(self) -> None:
        """Writes some validation images with the predictions of the network."""
        if self.task.pictures and self.run.images["val_images"]:
            network, loader = self.state.network, self.loaders.validation
            examples = self.task.pictures.examples(network, loader, self.context)
            self.folder.write_examples(examples)
