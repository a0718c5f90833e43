"""A quick look at how fast networks train on this device: a few updates on random images."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ablations.devices import find_slots
from ablations.recipe import Compute, Recipe
from ablations.records import Run
from ablations.studies.estimates import PlanRow, Speed
from ablations.training.device_context import DeviceContext, make_device_context
from ablations.training.state import State, begin
from modernize.spec import NetSpec
from modernize.text import plural

MEASURED = 24  # networks; of a larger study the reference alone is measured
SECONDS = 1.0  # for each, after a first update that is not counted
CPU_PIXELS = 8 * 224 * 224  # at once on a CPU, where more would be no faster for each image


def measure_speed(
    rows: Sequence[PlanRow],
    reference: PlanRow,
    compute: Compute,
    image_size: int,
) -> Speed:
    """Measures networks on this device, without reading images.

    Args:
        rows: the networks.
        reference: the one that all others scale from where there are too many to measure.
        compute: how they are computed.
        image_size: height and width in pixels.
    """
    slot = find_slots(1)[0]
    torch.set_num_threads(slot.threads)
    context = make_device_context(slot.device, compute)
    several = len(rows) <= MEASURED
    seconds: dict[NetSpec, float] = {}
    for row in [reference, *(rows if several else ())]:
        if row.spec not in seconds:
            run = Run(row.key, row.spec, row.recipe, {}, 0)
            seconds[row.spec] = _seconds_per_image(begin(run, context), run, context, image_size)
    networks = "each network" if several else f"{reference.key} alone, the others by their FLOPs,"
    batch = _batch(reference.recipe, context, image_size)
    how = (
        f"a quick measurement of {networks} on {context.describe()}, "
        f"{plural(slot.threads, 'CPU thread')}, {plural(batch, 'image')} at a time, without "
        "loading images"
    )
    return Speed(seconds, (seconds[reference.spec], reference.cost.flops), how)


def _batch(recipe: Recipe, context: DeviceContext, image_size: int) -> int:
    if context.device.type != "cpu":
        return recipe.micro_batch_size
    return min(recipe.micro_batch_size, max(CPU_PIXELS // image_size**2, 2))  # BatchNorm needs 2


def _seconds_per_image(state: State, run: Run, context: DeviceContext, image_size: int) -> float:
    """Returns the time of a usual update for each of its images; the first one does not count."""
    spec, batch = run.spec, _batch(run.recipe, context, image_size)
    images = torch.rand(batch, spec.in_channels, image_size, image_size, device=context.device)
    if context.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=context.device) % spec.num_classes
    state.network.train()
    _update(state, context, images, labels)
    took: list[float] = []
    while sum(took) < SECONDS:
        took.append(_update(state, context, images, labels))
    return statistics.median(took) / batch  # what else the machine does disturbs a few of them


def _update(state: State, context: DeviceContext, images: Tensor, labels: Tensor) -> float:
    """Takes one step of the optimizer, and returns the seconds it took."""
    start = time.perf_counter()
    with context.autocast():
        logits = state.network(images)
    loss = F.cross_entropy(logits.float(), labels)
    state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if context.device.type == "cuda":
        torch.cuda.synchronize(context.device)
    return time.perf_counter() - start
