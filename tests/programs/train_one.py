"""Trains one small run in a folder, with a checkpoint after every update, and says when it begins.

python tests/programs/train_one.py FOLDER IMAGES EPOCHS
"""

import sys
from pathlib import Path

import torch

from ablations.data.datasets import Images, load_images
from ablations.data.in_memory_loader import Batches
from ablations.data.mixing import Mixing
from ablations.data.sampling import Sampling
from ablations.recipe import load_preset
from ablations.records import Run, RunFolder
from ablations.training import train
from ablations.training.device_context import make_device_context
from modernize import spec_of


def main() -> None:
    folder, source, epochs = sys.argv[1:]
    torch.set_num_threads(1)
    train.CHECKPOINT_SHARE = float("inf")  # whatever they cost
    preset = load_preset(
        "nano",
        [f"data.source={source}", f"epochs={epochs}", "batch_size=200", "micro_batch_size=100",
         "mixup=0.8", "cutmix=1.0", "drop_path=0.2", "enhanced.ema_decay=0.9"],
    )  # fmt: skip
    images = load_images(preset.data)
    if not isinstance(images, Images):
        raise SystemExit("these images are kept in memory")
    spec = spec_of("downsample", "nano", in_channels=1, num_classes=10, width=8)
    recipe = preset.recipes.enhanced
    run = Run("downsample", recipe.apply_to(spec), recipe, images.identity(), seed=3)
    run_folder = RunFolder(Path(folder))
    run_folder.prepare(run)
    context = make_device_context("cpu", preset.compute)
    sampling = Sampling(len(images.train), recipe.batch_size, recipe.micro_batch_size, run.seed)
    batches = Batches(images, preset.data, recipe, sampling, context.device)
    Mixing(recipe, images.num_classes)  # imports what takes long
    print("begins", flush=True)
    train.train(run, run_folder, batches, images.num_classes, context, checkpoint_seconds=0)


if __name__ == "__main__":
    main()
