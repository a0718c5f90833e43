"""Measures how fast networks train on this device: a few updates on random images."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from ablations.devices import find_slots
from ablations.recipe import Preset, Recipe
from ablations.records import Run
from ablations.studies.estimates import PlanRow, Speed
from ablations.tasks.registry import make_task
from ablations.training.device_context import DeviceContext, make_device_context
from ablations.training.state import initial_state
from ablations.training.step import TrainingStep, seconds_per_iteration
from modernize.spec import NetSpec
from modernize.text import plural

MEASURED = 24  # networks; in a larger study only the reference is measured
SECONDS = 1.0  # timed for each network, after two updates that do not count
CPU_PIXELS = 8 * 224 * 224  # in a batch on a CPU, where larger batches are no faster per image


def measure_speed(
    rows: Sequence[PlanRow],
    reference: PlanRow,
    preset: Preset,
) -> Speed:
    """Measures networks on this device, without reading images.

    Args:
        rows: the networks.
        reference: the one that all others scale from if there are too many to measure.
        preset: task, size of the images, precision, memory format and compiler.
    """
    slot = find_slots(1)[0]
    torch.set_num_threads(slot.threads)
    context = make_device_context(slot.device, preset.compute)
    image_size, task = preset.data.image_size, preset.task_choice
    several = len(rows) <= MEASURED
    seconds: dict[NetSpec, float] = {}
    for row in [reference, *(rows if several else ())]:
        if row.spec not in seconds:
            run = Run(row.key, row.spec, row.recipe, {}, 0, task=task)
            seconds[row.spec] = _seconds_per_image(run, context, image_size)
    networks = "each network" if several else f"{reference.key} alone, the others by their FLOPs,"
    batch = _batch(reference.recipe, context, image_size)
    how = (
        f"a quick measurement of {networks} on {context.describe()}, "
        f"{plural(slot.threads, 'CPU thread')}, {plural(batch, 'image')} at a time, without "
        "loading images"
    )
    base = seconds[reference.spec], reference.cost.flops
    return Speed(seconds, base, how, shared=context.device.type == "cpu")


def _batch(recipe: Recipe, context: DeviceContext, image_size: int) -> int:
    if context.device.type != "cpu":
        return recipe.micro_batch_size
    return min(recipe.micro_batch_size, max(CPU_PIXELS // image_size**2, 2))  # BatchNorm needs 2


def _seconds_per_image(run: Run, context: DeviceContext, image_size: int) -> float:
    """Returns the mean time of an update, divided by its images."""
    spec, batch = run.spec, _batch(run.recipe, context, image_size)
    images = torch.rand(batch, spec.in_channels, image_size, image_size, device=context.device)
    if context.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    task = make_task(run.task)
    state = initial_state(run, context)
    state.network.train()
    step = TrainingStep(state.network, state.optimizer, state.scaler, context, task.losses)
    seconds = seconds_per_iteration(
        functools.partial(step, images, task.example(spec.num_classes, images)),
        SECONDS,
        context.synchronize,
        at_least=1,
    )
    return seconds / batch
