"""Two processes train on each data set of a folder, and write the images that each of them saw.

torchrun --nproc-per-node 2 tests/programs/kinds_together.py FOLDER

Each image has one colour, by which it is recognised. Without torchrun, one process does the same.
"""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ablations.choices import DataChoice
from ablations.data.datasets import load_dataset
from ablations.data.loaders import make_loaders
from ablations.data.sampling import Rank, Sampling
from ablations.recipe import load_preset
from ablations.records import Run, RunFolder
from ablations.training import train
from ablations.training.device_context import make_device_context, process_group
from modernize import spec_of

PRESET = load_preset(
    "imagenet-100",
    ["batch_size=8", "micro_batch_size=4", "epochs=2", "warmup_epochs=0", "rand_augment=null",
     "random_erasing=0", "drop_path=0", "ema_decay=null", "mixup=0", "cutmix=0",
     "enhanced.optimizer=sgd", "enhanced.momentum=0.9",
     "enhanced.betas=null", "enhanced.epsilon=null", "enhanced.learning_rate=0.01",
     "compute.precision=fp32", "compute.workers=0"],
)  # fmt: skip


class Recorded:
    """A loader that notes the colour of each image, in a list for each epoch."""

    def __init__(self, loader: Any, choice: DataChoice) -> None:
        self.loader, self.choice = loader, choice
        self.seen: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        yield from self._noting(self.loader)

    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[Any]:
        yield from self._noting(self.loader.epoch(epoch, first_update))

    def _noting(self, batches: Any) -> Iterator[Any]:
        self.seen.append([])
        for batch in batches:
            self.seen[-1] += self._colours(batch[-2])
            yield batch

    def _colours(self, images: Tensor) -> list[int]:
        assert self.choice.mean
        assert self.choice.std
        red = 255 * (images[:, 0, 0, 0] * self.choice.std[0] + self.choice.mean[0])
        return [int(value) for value in red.round().tolist()]


def main() -> None:
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        rank = Rank()
        if "RANK" in os.environ:
            _, rank = stack.enter_context(process_group(local_rank=0))
        context = make_device_context("cpu", PRESET.compute)
        context = dataclasses.replace(context, process=rank)
        recipe = PRESET.recipes.enhanced
        spec = spec_of("ln", "nano", num_classes=3, depths=[1, 1, 1, 1], width=8)
        for file in sorted(Path(sys.argv[1]).glob("*.json")):
            choice = DataChoice.model_validate_json(file.read_text())
            choice = choice.model_copy(update={"mean": PRESET.data.mean, "std": PRESET.data.std})
            images = load_dataset(choice)
            run = Run("ln", recipe.apply_to(spec), recipe, images.identity(), 0)
            folder = RunFolder(file.with_suffix(f".of{rank.world_size}"))
            if context.first:
                folder.prepare(run)
            if rank.world_size > 1:
                dist.barrier()
            sampling = Sampling(len(images.train), 8, 4, 0, rank)
            loaders = make_loaders(images, choice, recipe, sampling, context.device, PRESET.compute)
            parts = Recorded(loaders.train, choice), Recorded(loaders.validation, choice)
            loaders.train, loaders.validation = parts
            train.train(run, folder, loaders, context)
            seen = json.dumps([part.seen for part in parts])
            (folder.path / f"seen-{rank.rank}.json").write_text(seen)


if __name__ == "__main__":
    main()
