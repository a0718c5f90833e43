"""Resumes a run from its newest usable checkpoint; without one, the run starts.

A checkpoint is checked completely before it is used. An unusable one is reported, with the reason,
and renamed. Number of threads and precision decide the last digits of a result; they remain those
of the start of the run. If they cannot, the change is printed and recorded.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ablations.data.sampling import Sampling
from ablations.metrics import EMA, TASKS
from ablations.records import Run, RunFolder
from ablations.terminal import echo
from ablations.training import checkpoint
from ablations.training.checkpoint import UnusableError
from ablations.training.device_context import DeviceContext, supports
from ablations.training.state import PLAIN, TrainingState, initial_state
from modernize.text import plural
from modernize.weights import Weights

OTHER_BYTES = 2**26  # of a checkpoint, besides its tensors
COPIES = 8  # of the size of the network, at most: moments, moving average
MAX_THREADS_PER_CORE = 4  # a larger number of threads is not restored
TYPES = {str(t).removeprefix("torch."): t for t in (torch.float32, torch.bfloat16, torch.float16)}


def resume_run(
    run: Run,
    folder: RunFolder,
    context: DeviceContext,
    sampling: Sampling,
    start: Weights | None = None,
) -> tuple[DeviceContext, TrainingState]:
    """Returns a run's state, and the context with the precision of the run's start.

    All processes of the run call this; the first one chooses the checkpoint. The number of CPU
    threads is set to that of the run's start.

    Args:
        run: the run.
        folder: of its files; prepared for it.
        context: of this process.
        sampling: of its training images.
        start: the weights that it starts from; None: fresh ones.
    """
    state = initial_state(run, context, start)
    tensors = [*state.network.parameters(), *state.network.buffers()]
    max_bytes = COPIES * sum(t.numel() * t.element_size() for t in tensors) + OTHER_BYTES

    def check(found: Any, done: int) -> None:
        if fault := next(_faults(found, done, run, state, sampling), None):
            raise UnusableError(fault)

    chosen = None
    if context.first:
        folder.check_owner()
        checkpoint.remove_leftovers(folder.path)
        chosen = checkpoint.load(folder.path, max_bytes, check)
    done = -1 if chosen is None else _updates(chosen, sampling)
    number = torch.tensor(done, device=context.device)
    context.broadcast(number)
    if not context.first and number >= 0:
        chosen = checkpoint.read(checkpoint.path_of(folder.path, int(number)), max_bytes)
    if chosen is None:
        state.conditions = conditions(context)
        return context, state
    context = _restore_conditions(context, chosen)
    state.load(chosen, context)
    _note_changes(state, context)
    if context.first:
        echo(f"resuming after {plural(state.epoch, 'epoch')} and {plural(state.update, 'update')}")
    return context, state


def conditions(context: DeviceContext) -> dict[str, Any]:
    """Returns the conditions that decide the last digits of a result, besides the run itself."""
    return {
        "precision": str(context.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "processes": context.process.world_size,
        "device": context.name(),
        "torch": str(torch.__version__),
    }


def _restore_conditions(context: DeviceContext, found: Mapping[str, Any]) -> DeviceContext:
    """Returns the context with a checkpoint's precision; sets the number of threads, too."""
    begun, dtype = found["conditions"], TYPES[found["conditions"]["precision"]]
    cores = os.cpu_count() or 1
    if begun["threads"] <= MAX_THREADS_PER_CORE * cores:
        torch.set_num_threads(begun["threads"])
    return dataclasses.replace(context, dtype=dtype) if supports(context.device, dtype) else context


def _note_changes(state: TrainingState, context: DeviceContext) -> None:
    """Adds to a state the conditions that changed since its checkpoint, and prints them."""
    before, state.conditions = state.conditions, conditions(context)
    for what, now in state.conditions.items():
        if before.get(what) != now:
            change = {"what": what, "from": before.get(what), "to": now}
            state.changes = [
                *state.changes,
                {"epoch": state.epoch + 1, "update": state.update, **change},
            ]
            if context.first:
                echo(
                    f"Note: {what} was {before.get(what)} and is {now} from here on; the last "
                    "digits of the result may differ from those of a run that was not stopped."
                )


def _updates(found: Mapping[str, Any], sampling: Sampling) -> int:
    return int(found["epoch"] * sampling.updates + found["update"])


def _faults(
    found: Any, done: int, run: Run, state: TrainingState, sampling: Sampling
) -> Iterator[str]:
    """Yields the faults of a checkpoint. Later checks rely on the success of earlier ones.

    Args:
        found: its content.
        done: updates that its file name states.
        run: that it must belong to.
        state: of the run at its start.
        sampling: of the run's training images.
    """
    if not isinstance(found, dict):
        yield f"it holds {_kind(found)}, not a run's state"
    if found.get("run") != run.name:
        yield f"it is of the run {found['run']!r}" if "run" in found else "it names no run"
    expected = {name: getattr(state, name) for name in PLAIN}
    expected |= {"network": state.network.state_dict(), "ema": None}
    if state.ema:
        expected["ema"] = state.ema.state_dict()
    whole = {**expected, "optimizer": {}, "scaler": {}, "loss_sums": Tensor()}
    yield from _difference(dict.fromkeys(found), dict.fromkeys(whole), "it")
    expected["seconds"] = 0.0
    for name, value in expected.items():
        if name not in ("metrics", "speed", "conditions", "changes"):
            yield from _difference(found[name], value, name)
    yield from _position_faults(found, done, run, sampling)
    yield from _condition_faults(found)
    prefixes = ["", EMA] if state.ema else [""]
    names = [f"{prefix}{name}" for prefix in prefixes for name in TASKS[run.task_name].keys]
    yield from _list_faults(found, names, _evaluated(found["epoch"], run, sampling))
    moments = found["optimizer"]
    skipped = found["scaler"] or run.spec.custom_layers  # fp16 skips steps; a layer may be unused
    expected_moments = {
        number: value
        for number, value in _moments(state.optimizer).items()
        if not skipped or not isinstance(moments, dict) or number in moments
    }
    yield from _difference(moments, expected_moments, "optimizer")
    scale = torch.amp.GradScaler("cpu", enabled=found["conditions"]["precision"] == "float16")
    yield from _difference(found["scaler"], scale.state_dict(), "scaler")


def _position_faults(
    found: Mapping[str, Any], done: int, run: Run, sampling: Sampling
) -> Iterator[str]:
    epoch, update = found["epoch"], found["update"]
    epochs = run.recipe.epochs_begun(sampling.updates)
    inside = 0 <= epoch < epochs and 0 <= update < sampling.updates
    if not inside and (epoch, update) != (epochs, 0):
        yield (
            f"it is of epoch {epoch}, update {update}, but the run has {epochs} epochs of "
            f"{sampling.updates} updates"
        )
    if _updates(found, sampling) != done:
        yield f"its name states {done} updates, but it is of {_updates(found, sampling)}"
    if not (found["seconds"] >= 0 and math.isfinite(found["seconds"])):
        yield f"seconds is {found['seconds']}"
    if not (found["evaluated"] > 0 or not _evaluated(epoch, run, sampling)):
        yield f"evaluated is {found['evaluated']}"


def _condition_faults(found: Mapping[str, Any]) -> Iterator[str]:
    pattern = {"precision": "", "threads": 0, "processes": 0, "device": "", "torch": ""}
    yield from _difference(found["conditions"], pattern, "conditions")
    begun = found["conditions"]
    if begun["precision"] not in TYPES:
        yield f"conditions.precision is {begun['precision']!r}"
    if not (begun["threads"] > 0 and begun["processes"] > 0):
        yield f"conditions: {begun['threads']} threads, {begun['processes']} processes"
    sums = torch.zeros(begun["processes"], dtype=torch.double)
    yield from _difference(found["loss_sums"], sums, "loss_sums")


def _evaluated(epoch: int, run: Run, sampling: Sampling) -> list[int]:
    """Returns the epochs up to this one, from 1 on, after which a run is evaluated."""
    epochs = run.recipe.epochs_begun(sampling.updates) if run.images["val_images"] else 0
    return [n for n in range(1, min(epoch, epochs) + 1) if run.recipe.evaluates(n, epochs)]


def _list_faults(
    found: Mapping[str, Any], metrics: Sequence[str], evaluated: Sequence[int]
) -> Iterator[str]:
    """Yields the faults of a checkpoint's lists, which have a row for each epoch."""
    for name in ("metrics", "speed", "changes"):
        rows = found[name]
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            yield f"{name} is no list of rows"
        epochs = [row.get("epoch") for row in rows]
        if name != "changes" and epochs != [*range(1, found["epoch"] + 1)]:
            yield f"{name} has rows of the epochs {epochs}, but it is of epoch {found['epoch']}"
    for row in found["metrics"]:
        names = ["train_loss", "learning_rate", *(metrics if row["epoch"] in evaluated else ())]
        yield from _difference(row, {"epoch": 0, **dict.fromkeys(names, 0.0)}, "metrics")
        if not all(math.isfinite(row[name]) for name in names):
            yield f"metrics of epoch {row['epoch']} has infinite or NaN values"


def _moments(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Returns the state of an optimizer after its first update, by the number of a parameter."""
    names = ["exp_avg", "exp_avg_sq"]
    more = {"step": torch.zeros(())}
    if isinstance(optimizer, torch.optim.SGD):
        names, more = ["momentum_buffer"], {}
        if not optimizer.defaults["momentum"]:
            return {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {i: dict.fromkeys(names, p.detach()) | more for i, p in enumerate(parameters)}


def _difference(found: Any, expected: Any, where: str) -> Iterator[str]:
    """Yields differences in structure from an expected value: names, types, shapes of tensors."""
    if isinstance(expected, Tensor):
        if _shape(found) != _shape(expected):
            yield f"{where} is {_kind(found)}, not {_kind(expected)}"
    elif isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            yield f"{where} is {_kind(found)}, not {_kind(expected)}"
        if lacks := [str(name) for name in expected if name not in found]:
            yield f"{where} lacks {', '.join(lacks[:3])}{' and others' * (len(lacks) > 3)}"
        if unknown := [str(name) for name in found if name not in expected]:
            others = " and others" * (len(unknown) > 3)
            yield f"{where} has unknown {', '.join(unknown[:3])}{others}"
        for name, value in expected.items():
            yield from _difference(found[name], value, f"{where}.{name}")
    elif type(found) is not type(expected):
        yield f"{where} is {_kind(found)}, not {_kind(expected)}"


def _shape(value: Any) -> Any:
    is_tensor = isinstance(value, Tensor) and not value.is_meta and value.layout is torch.strided
    return (value.dtype, value.shape) if is_tensor else None


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return "nothing" if value is None else f"a {type(value).__name__}"
