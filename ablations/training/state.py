"""The state of a run: network, optimizer, moving average, position and metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ablations.recipe import Recipe
from ablations.records import Run
from ablations.tasks.registry import make_task
from ablations.terminal import echo
from ablations.training.device_context import DeviceContext
from ablations.training.step import make_scaler
from ablations.training.sync_batch_norm import synchronise
from modernize.weights import Weights


@dataclasses.dataclass
class TrainingState:
    """All that a run needs to resume.

    It has no random states: all random numbers come from seeds that the run's seed and the position
    in the epoch decide.
    """

    run: str  # its name, which its content decides
    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None
    loss_sum: Tensor  # of this process, over the updates of the epoch so far
    epoch: int = 0
    update: int = 0  # number of updates done in this epoch
    evaluated: int = 0  # validation images of the last epoch
    classes: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # of that evaluation
    seconds: float = 0.0  # of all attempts
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    speed: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    conditions: dict[str, Any] = dataclasses.field(default_factory=dict)
    changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # of the conditions

    def to_dict(self, context: DeviceContext) -> dict[str, Any]:
        """Returns the content of a checkpoint; all processes of the run call this."""
        loss_sums = torch.zeros(
            context.process.world_size, dtype=self.loss_sum.dtype, device=context.device
        )
        loss_sums[context.process.rank] = self.loss_sum
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "loss_sums": context.sum(loss_sums).cpu().double(),
            **{name: getattr(self, name) for name in PLAIN},
        }

    def load(self, values: dict[str, Any], context: DeviceContext) -> None:
        """Restores the content of a checkpoint, which must be of this run, and complete."""
        self.network.load_state_dict(values["network"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": values["optimizer"], "param_groups": groups})
        self.scaler = make_scaler(context)
        if values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        if self.ema:
            self.ema.load_state_dict(values["ema"])
        sums: Tensor = values["loss_sums"]
        mine = (
            sums[context.process.rank] if len(sums) == context.process.world_size else sums.mean()
        )
        self.loss_sum = mine.to(self.loss_sum)
        for name in PLAIN:
            setattr(self, name, values[name])


PLAIN = (
    *("run", "epoch", "update", "evaluated", "classes", "seconds"),
    *("metrics", "speed", "conditions", "changes"),
)


def initial_state(run: Run, context: DeviceContext, start: Weights | None = None) -> TrainingState:
    """Returns a run's state before its first update.

    Args:
        run: its seed decides the fresh weights.
        context: of this process.
        start: the weights that it starts from; None: fresh ones.
    """
    torch.manual_seed(run.seed)
    task = make_task(run.task)
    network: Any = task.build(run.spec)
    if start is not None and (note := task.start(network, start, run.recipe)) and context.first:
        echo(note)
    decay: Any = run.recipe.layer_decay  # a run has the one of its size
    scales = task.scales(network, decay or 1.0)
    network = context.put(network)
    if run.recipe.sync_batch_norm and context.process.world_size > 1:
        network = synchronise(network, context.device)
    ema = None
    if run.recipe.ema_decay is not None:
        average: Any = get_ema_multi_avg_fn  # untyped
        ema = AveragedModel(network, multi_avg_fn=average(run.recipe.ema_decay), use_buffers=True)
    precise = torch.float if context.device.type == "mps" else torch.double  # mps has no double
    return TrainingState(
        run=run.name,
        network=network,
        optimizer=make_optimizer(network, run.recipe, scales),
        scaler=make_scaler(context),
        ema=ema,
        loss_sum=torch.zeros((), dtype=precise, device=context.device),
    )


def make_optimizer(
    network: nn.Module, recipe: Recipe, scales: Mapping[str, float]
) -> torch.optim.Optimizer:
    """Returns the recipe's optimizer; weights of fewer than two dimensions have no weight decay.

    Each group of parameters has its factor of the learning rate as ``lr_scale``, from ``scales``.
    """
    members: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for decays in (True, False):
        for name, parameter in network.named_parameters():
            if (parameter.ndim >= 2) == decays:
                members.setdefault((decays, scales[name]), []).append(parameter)
    groups = [
        {"params": params, "weight_decay": decays * recipe.weight_decay, "lr_scale": scale}
        for (decays, scale), params in members.items()
    ]
    rate: Any = recipe.learning_rate
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum or 0.0)
    first, second = recipe.betas or (0.9, 0.999)
    return torch.optim.AdamW(
        groups, lr=rate, betas=(first, second), eps=recipe.epsilon or 1e-8, fused=True
    )
