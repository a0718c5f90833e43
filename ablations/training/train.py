"""One run, from fresh weights or its last checkpoint to its record."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ablations import units
from ablations.data.loaders import Loaders
from ablations.data.mixing import Mixing
from ablations.data.sampling import MicroBatch
from ablations.records import Record, Run, RunFolder, provenance
from ablations.terminal import echo
from ablations.training import checkpoint
from ablations.training.device_context import DeviceContext
from ablations.training.evaluation import Accuracy, evaluate
from ablations.training.resume import resume_run
from ablations.training.state import TrainingState
from ablations.training.step import TrainingStep
from ablations.training.verdict import Chance, judge

CHECK_UPDATES = 20  # how often all processes look whether the loss is finite, and whether to stop
PROGRESS_SECONDS = 0.5  # how often a run says where it stands
CHECKPOINT_SECONDS = 60.0  # how often a checkpoint is written, and then only ...
CHECKPOINT_SHARE = 0.01  # ... as often as takes up to this share of the time


class DivergedError(Exception):
    """A loss, a weight or an output became infinite or no number; the message says where."""


class StoppedError(Exception):
    """The run was told to stop; it goes on from its last checkpoint another time."""


def train(
    run: Run,
    folder: RunFolder,
    loaders: Loaders,
    context: DeviceContext,
    keep_going: Callable[[], bool] = lambda: True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    tensorboard: bool = False,
) -> Record | None:
    """Trains one run to its end and writes its record; all processes that share it call this.

    A run that has a checkpoint goes on from there, with the same result. What changed meanwhile of
    what decides its last digits is in the record's provenance, under ``changes``.

    Args:
        run: what to train.
        folder: where its files go; prepared for this run.
        loaders: of this process's part of the run's images.
        context: where this process computes.
        keep_going: asked now and then; once it says no, a checkpoint is written and training stops.
        checkpoint_seconds: at least so long between checkpoints, but for the one of an epoch's end.
        tensorboard: whether the metrics are written for TensorBoard, too.

    Returns:
        The record, or None where it was stopped.
    """
    threads = torch.get_num_threads()
    try:
        context, state = resume_run(run, folder, context, loaders.train.sampling)
        trainer = _Trainer(run, folder, loaders, context, keep_going, checkpoint_seconds, state)
        trainer.tensorboard = tensorboard
        return _train(trainer)
    finally:
        torch.set_num_threads(threads)  # one that goes on has a number of its own


def _train(trainer: _Trainer) -> Record | None:
    """Trains what is left of a run, and writes its record."""
    run, folder, state = trainer.run, trainer.folder, trainer.state
    context, loaders = trainer.context, trainer.loaders
    if (
        context.first
    ):  # a killed process, or a checkpoint that cannot be used, may leave more epochs
        folder.write_metrics(state.metrics)
        folder.write_speed(state.speed)
    started = time.time()
    # Of the program as it is now: files may change while it runs.
    made_with = provenance(context.describe(), torch.get_num_threads())
    try:
        diverged = ""
        trainer.run_all_epochs()
    except StoppedError:
        return None
    except DivergedError as error:
        diverged = str(error)
    record = dataclasses.replace(
        judge(state.metrics, Chance(state.evaluated, loaders.majority), diverged),
        seconds=trainer.seconds(),
        provenance=made_with
        | {
            "processes": context.rank.world_size,
            "precision": state.conditions["precision"],
            **({"changes": state.changes} if state.changes else {}),
            "bad_images": loaders.bad_images,
            "started": started,
            "ended": time.time(),
        },
    )
    if context.first:
        folder.check_owner()
        if not diverged:
            ema = state.ema.module.state_dict() if state.ema else None
            network = state.network.state_dict()
            spec = run.spec.to_dict()
            weights = {"network": network, "ema": ema, "spec": spec, "run": run.name}
            checkpoint.save_weights(folder.path, weights)
        folder.write_record(record)
        checkpoint.remove(folder.path)
    return record


class _Trainer:
    """One process's part in training one run."""

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        loaders: Loaders,
        context: DeviceContext,
        keep_going: Callable[[], bool],
        checkpoint_seconds: float,
        state: TrainingState,
    ) -> None:
        self.run, self.recipe, self.folder = run, run.recipe, folder
        self.loaders, self.sampling, self.context = loaders, loaders.train.sampling, context
        self.keep_going, self.checkpoint_seconds = keep_going, checkpoint_seconds
        self.mixing = Mixing(run.recipe, loaders.num_classes)
        self.state = state
        self.before = self.state.seconds
        self.clock = self.last_saved = time.perf_counter()
        self.tensorboard = False
        self.save_seconds = 0.0  # what a checkpoint takes
        self.said = 0.0
        self.losses: list[Tensor] = []  # since they were last checked
        self.rate: dict[str, float | None] = {"images_per_second": None, "data_wait": None}
        model: nn.Module = self.state.network
        if context.rank.world_size > 1:
            model = DistributedDataParallel(
                model, device_ids=[context.device] if context.device.type == "cuda" else None
            )
        self.model: Any = torch.compile(model) if context.compile else model
        self.step = TrainingStep(self.model, state.optimizer, state.scaler, context)

    def seconds(self) -> float:
        """Returns the time spent on the run, over all attempts."""
        return self.before + time.perf_counter() - self.clock

    def run_all_epochs(self) -> None:
        """Trains what is left.

        Raises:
            DivergedError: naming the first loss that was no finite number.
            StoppedError: where it was told to stop.
        """
        state = self.state
        while state.epoch < self.recipe.epochs:
            self._epoch()
            self._finish_epoch()

    def _epoch(self) -> None:
        """Trains what is left of an epoch."""
        state = self.state
        state.network.train()
        self.loaders.train.data_wait = 0.0
        start, updates = time.perf_counter(), self.sampling.updates - state.update
        stream = self.loaders.train.epoch(state.epoch, state.update)
        for _, micro_batches in itertools.groupby(stream, key=lambda item: item[0].update):
            self._update(micro_batches)
            state.update += 1
            last = state.update == self.sampling.updates
            if state.update % CHECK_UPDATES == 0 or last or self.context.rank.world_size == 1:
                self._check_signals(last)
        took = time.perf_counter() - start
        if updates:
            self.rate = {
                "images_per_second": updates * self.recipe.batch_size / took,
                "data_wait": self.loaders.train.data_wait / took,
            }

    def _update(self, micro_batches: Iterator[tuple[MicroBatch, Tensor, Tensor]]) -> None:
        """Takes one step of the optimizer."""
        state, count = self.state, self.sampling.accumulation
        iteration = state.epoch * self.sampling.updates + state.update
        rate = self.recipe.learning_rate_at(iteration, self.sampling.updates)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros_like(state.loss_sum)
        for turn, (batch, images, labels) in enumerate(micro_batches, start=1):
            torch.manual_seed(batch.seed)  # what stochastic depth draws from
            x, target = self.mixing(images, labels, batch.seed)
            wait = self.model.no_sync if turn < count and self.context.rank.world_size > 1 else None
            with wait() if wait else contextlib.nullcontext():
                total += self.step.backward(x, target, count)
        self.step.update()
        if state.ema:
            state.ema.update_parameters(state.network)
        state.loss_sum += total
        self.losses.append(total)

    def _check_signals(self, last: bool) -> None:
        """Checks the losses, says where the run stands, saves, and stops if told to."""
        state, now = self.state, time.perf_counter()
        done = state.epoch * self.sampling.updates + state.update
        due = self.context.first and now - self.last_saved > max(
            self.checkpoint_seconds, self.save_seconds / CHECKPOINT_SHARE
        )
        speak = now - self.said > PROGRESS_SECONDS
        asked = torch.tensor([not self.keep_going(), due], device=self.context.device).int()
        stopping, due = (self.context.sum(asked) > 0).tolist()
        # Time tells each process another thing, so together they look whenever they come by.
        if speak or due or last or stopping or self.context.rank.world_size > 1:
            self._check_losses(done)
        if speak and self.context.first:
            self.said = now
            self.folder.write_progress(
                epoch=state.epoch,
                epochs=self.recipe.epochs,
                fraction=done / (self.recipe.epochs * self.sampling.updates),
                seconds=self.seconds(),
            )
        if stopping:
            self._save()
            raise StoppedError
        if due and not last:
            self._save()

    def _check_losses(self, done: int) -> None:
        """Raises DivergedError for the first loss since the last look that is no finite number."""
        if not self.losses:
            return
        losses = self.context.sum(torch.stack(self.losses))
        self.losses = []
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            at = done - len(losses) + int(bad[0])
            rate = self.recipe.learning_rate_at(at, self.sampling.updates)
            raise DivergedError(
                f"the loss became {losses[bad[0]].item()} at iteration {at} "
                f"(epoch {at // self.sampling.updates + 1}), learning rate {rate:.3g}"
            )

    def _finish_epoch(self) -> None:
        """Evaluates, and writes what the epoch came to."""
        state = self.state
        for buffer in state.network.buffers():  # BatchNorm's, which each process has its own of
            self.context.broadcast(buffer)
        loss = self.context.sum(state.loss_sum.clone()) / self.context.rank.world_size
        iteration = (state.epoch + 1) * self.sampling.updates - 1
        row = {
            "epoch": state.epoch + 1,
            "train_loss": loss.item() / self.sampling.updates,
            "learning_rate": self.recipe.learning_rate_at(iteration, self.sampling.updates),
        }
        reached = self._evaluate(state.network)
        row |= {"top1": reached.top1, "top5": reached.top5}
        if state.ema:
            averaged = self._evaluate(state.ema.module)
            row |= {"ema_top1": averaged.top1, "ema_top5": averaged.top5}
        state.evaluated = reached.images
        if self.context.first:
            self._say(row)
        state.metrics.append(row)
        memory = self.context.peak_memory()
        state.speed.append({"epoch": state.epoch + 1, **self.rate, "memory_mib": memory})
        state.epoch, state.update = state.epoch + 1, 0
        state.loss_sum = torch.zeros_like(state.loss_sum)
        if self.context.first:
            self.folder.write_metrics(state.metrics)
            self.folder.write_speed(state.speed)
            if self.tensorboard:
                write_tensorboard(self.folder.path, state.metrics, state.speed)
        self._save()

    def _evaluate(self, network: nn.Module) -> Accuracy:
        """Returns a network's accuracy; raises DivergedError if it or its outputs are not finite.

        A loss is of the weights before its update, so that the last update shows in none.
        """
        epoch = self.state.epoch + 1
        weights = {name: w for name, w in network.state_dict().items() if w.is_floating_point()}
        finite = torch.stack([w.isfinite().all() for w in weights.values()])
        if not finite.all():
            name = list(weights)[int(finite.int().argmin())]
            raise DivergedError(f"{name} became infinite or no number by the end of epoch {epoch}")
        reached = evaluate(network, self.loaders.validation, self.context)
        if reached.not_finite:
            raise DivergedError(
                f"the outputs for {reached.not_finite:,} of {reached.images:,} validation images "
                f"are infinite or no numbers at the end of epoch {epoch}"
            )
        return reached

    def _say(self, row: dict[str, Any]) -> None:
        """Prints an epoch's line; the run's log keeps it."""
        rate = self.rate["images_per_second"]
        echo(
            f"epoch {row['epoch']} of {self.recipe.epochs}: loss {row['train_loss']:.4f}, "
            f"top-1 {row['top1']:.2f} %, top-5 {row['top5']:.2f} %"
            + (f", {units.rate(rate)}" if rate else ""),
        )

    def _save(self) -> None:
        self.state.seconds = self.seconds()
        self.last_saved = time.perf_counter()
        values = self.state.to_dict(self.context)
        if self.context.first:
            self.folder.check_owner()
            done = self.state.epoch * self.sampling.updates + self.state.update
            checkpoint.save(self.folder.path, done, values)
            self.save_seconds = time.perf_counter() - self.last_saved


def write_tensorboard(
    folder: Path, metrics: list[dict[str, Any]], speed: list[dict[str, Any]]
) -> None:
    """Writes the last epoch's numbers for TensorBoard, which the extra ``tensorboard`` installs."""
    from torch.utils.tensorboard import SummaryWriter

    kind: Any = SummaryWriter  # untyped
    with kind(str(folder / "tensorboard"), purge_step=metrics[-1]["epoch"]) as writer:
        for name, value in {**metrics[-1], **speed[-1]}.items():
            if name != "epoch" and value is not None:
                writer.add_scalar(name, value, metrics[-1]["epoch"])
