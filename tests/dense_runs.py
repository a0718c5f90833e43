"""Runs of detection and segmentation that are small enough for a test."""

from pathlib import Path
from typing import Any

from ablations.data.sampling import Rank, Sampling
from ablations.recipe import Preset, load_preset
from ablations.records import Record, Run, RunFolder
from ablations.tasks.registry import make_task
from ablations.training import train
from ablations.training.device_context import make_device_context
from modernize import spec_of

SETTINGS = ("batch_size=4", "micro_batch_size=2", "epochs=2", "data.limit=16")


def make(preset: str, *settings: str) -> tuple[Preset, Run, Any]:
    """A run of a small network on a few scenes, and the scenes."""
    found = load_preset(preset, [*SETTINGS, *settings])
    images = make_task(found.task_choice).load(found.data)
    recipe = found.recipes.enhanced
    small: dict[str, Any] = {"depths": [1, 1, 1, 1], "width": 8}
    spec = spec_of("ln", "nano", in_channels=3, num_classes=images.num_classes, **small)
    task = found.task_choice
    return found, Run("ln", recipe.apply_to(spec), recipe, images.identity(), 0, task=task), images


def go(
    preset: str, folder: Path, *settings: str, process: Rank | None = None, **options: Any
) -> Record | None:
    """Trains such a run in a folder, in this process and the others; None if it was stopped."""
    found, run, images = make(preset, *settings)
    context = make_device_context("cpu", found.compute, process)
    recipe = run.recipe
    sampling = Sampling.of(recipe, len(images.train), run.seed, context.process)
    loaders = make_task(run.task).loaders(
        images, found.data, recipe, sampling, context.device, found.compute
    )
    run_folder = RunFolder(folder)
    if context.first:
        run_folder.prepare(run)
    return train.train(run, run_folder, loaders, context, **options)
