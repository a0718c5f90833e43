"""One run, from fresh weights or its last checkpoint to its record."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ablations import checkpoint
from ablations.batches import Batches
from ablations.data import Images
from ablations.recipe import Recipe
from ablations.records import Record, Run, RunFolder, Status, provenance
from modernize.network import Network

CHANCE_FACTOR = 1.5  # a final top-1 up to this many times chance is called collapsed
PROGRESS_SECONDS = 0.5  # how often a run says where it stands


class DivergedError(Exception):
    """The loss became infinite or no number; the message names iteration and learning rate."""


@dataclasses.dataclass
class State:
    """What a run goes on from: everything that changes from epoch to epoch."""

    network: Network
    optimizer: torch.optim.Optimizer
    metrics: list[dict[str, Any]]  # of each epoch trained
    seconds: float = 0.0  # of all attempts

    def to_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint holds."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "metrics": self.metrics,
            "seconds": self.seconds,
        }

    def load(self, values: dict[str, Any]) -> None:
        """Takes over what a checkpoint held."""
        self.network.load_state_dict(values["network"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.metrics, self.seconds = values["metrics"], values["seconds"]


def train(
    run: Run,
    folder: RunFolder,
    images: Images,
    image_size: int,
    device: torch.device,
    keep_going: Callable[[], bool] = lambda: True,
) -> Record | None:
    """Trains one run to its end and writes its record.

    Every epoch ends with a checkpoint; a run that has one goes on from there, with the same result.

    Args:
        run: what to train.
        folder: where its files go; prepared for this run.
        images: what its ``run.images`` names.
        image_size: height and width in pixels that the network sees.
        device: where to train.
        keep_going: asked after every update; once it says no, training stops.

    Returns:
        The record, or None where it was stopped.
    """
    started = time.time()
    batches = Batches(images, image_size, run.recipe, device)
    state = begin(run, device)
    if (saved := checkpoint.load(folder.checkpoint, device)) is not None:
        state.load(saved)
    before = state.seconds
    clock = time.perf_counter()
    try:
        for epoch in range(len(state.metrics), run.recipe.epochs):
            if not _train_epoch(run, state, batches, folder, epoch, keep_going):
                return None
            state.metrics[-1] |= evaluate(state.network, batches)
            state.seconds = before + time.perf_counter() - clock
            folder.write_metrics(state.metrics)
            checkpoint.save(folder.checkpoint, state.to_dict())
        record = judge(state.metrics, images.num_classes)
    except DivergedError as error:
        record = judge(state.metrics, images.num_classes, diverged=str(error))
    record = dataclasses.replace(
        record,
        seconds=before + time.perf_counter() - clock,
        provenance=provenance(_describe(device), torch.get_num_threads())
        | {"started": started, "ended": time.time()},
    )
    folder.write_record(record)
    folder.checkpoint.unlink(missing_ok=True)
    return record


def begin(run: Run, device: torch.device) -> State:
    """Returns a run's state before its first epoch; the seed alone decides the weights."""
    torch.manual_seed(run.seed)
    network = Network(run.spec).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
    return State(network, make_optimizer(network, run.recipe), [])


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns the recipe's optimizer; weights of fewer than two dimensions have no weight decay."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.momentum is not None:
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    first, second = recipe.betas or (0.9, 0.999)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(first, second), fused=True)


def _train_epoch(
    run: Run,
    state: State,
    batches: Batches,
    folder: RunFolder,
    epoch: int,
    keep_going: Callable[[], bool],
) -> bool:
    """Trains one epoch and adds its metrics; returns False where it was told to stop."""
    recipe = run.recipe
    # Drawn anew for each epoch, so that a run that goes on draws what it would have drawn.
    seed = (run.seed << 32) + epoch + 1
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    criterion = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    state.network.train()
    losses: list[Tensor] = []
    said = 0.0
    for step, (x, labels) in enumerate(batches.epoch(generator)):
        iteration = epoch * batches.per_epoch + step
        rate = recipe.learning_rate_at(iteration, batches.per_epoch)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        loss = criterion(state.network(x), labels)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        losses.append(loss.detach())
        if (now := time.monotonic()) - said > PROGRESS_SECONDS:
            said = now
            _check(losses, iteration, recipe, batches.per_epoch)
            folder.write_progress(
                epoch=epoch,
                epochs=recipe.epochs,
                fraction=(iteration + 1) / (recipe.epochs * batches.per_epoch),
                loss=loss.item(),
            )
        if not keep_going():
            return False
    _check(losses, (epoch + 1) * batches.per_epoch - 1, recipe, batches.per_epoch)
    state.metrics.append(
        {
            "epoch": epoch + 1,
            "train_loss": float(torch.stack(losses).mean()),
            "learning_rate": rate,
        }
    )
    return True


def _check(losses: list[Tensor], iteration: int, recipe: Recipe, per_epoch: int) -> None:
    """Raises DivergedError for the first loss so far that is no finite number."""
    values = torch.stack(losses)
    bad = (~values.isfinite()).nonzero()
    if len(bad):
        first = int(bad[0])
        at = iteration - len(losses) + 1 + first
        raise DivergedError(
            f"the loss became {float(values[first])} at iteration {at} "
            f"(epoch {at // per_epoch + 1}), learning rate "
            f"{recipe.learning_rate_at(at, per_epoch):.3g}"
        )


@torch.no_grad()
def evaluate(network: Network, batches: Batches) -> dict[str, float]:
    """Returns top-1 and top-5 over all validation images, in percent."""
    network.eval()
    right = torch.zeros(2, dtype=torch.long, device=batches.device)
    total = 0
    for x, labels in batches.validation():
        logits = network(x)
        ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        right += torch.stack([ranked[:, 0].sum(), ranked.any(1).sum()])
        total += len(labels)
    top1, top5 = (100 * right.double().cpu() / total).tolist()
    return {"top1": top1, "top5": top5}


def judge(metrics: list[dict[str, Any]], num_classes: int, diverged: str = "") -> Record:
    """Returns how a run with these metrics ended: finished, collapsed or diverged."""
    if not metrics:
        return Record(Status.DIVERGED, diverged)
    last = metrics[-1]
    best = max(metrics, key=lambda row: row["top1"])
    status, reason = Status.FINISHED, ""
    limit = CHANCE_FACTOR * 100 / num_classes
    if diverged:
        status, reason = Status.DIVERGED, diverged
    elif last["top1"] <= limit:
        status = Status.COLLAPSED
        reason = f"top-1 of {last['top1']:.2f} % is at chance (up to {limit:.2f} %)"
    return Record(
        status,
        reason,
        top1=last["top1"],
        top5=last["top5"],
        top1_best=best["top1"],
        best_epoch=best["epoch"],
        epochs=len(metrics),
        train_loss=last["train_loss"] if math.isfinite(last["train_loss"]) else None,
    )


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(device)
