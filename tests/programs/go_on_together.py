"""Two processes train a small run whole, and once more with a stop and a foreign checkpoint.

torchrun --nproc-per-node 2 tests/programs/go_on_together.py FOLDER
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_runs import CONTEXT, first_weights, make_run, make_small_loaders, stop_after, take_images

from ablations.records import RunFolder
from ablations.training import checkpoint, train
from ablations.training.device_context import process_group


def main() -> None:
    torch.set_num_threads(1)
    train.CHECK_UPDATES = 1  # so that they stop in the middle of an epoch
    root = Path(sys.argv[1])
    images = take_images()
    settings = ["micro_batch_size=32", "epochs=2", "warmup_epochs=0", "layer_decay=0.8"]
    run = make_run(images, *settings, "ema_decay=0.9", step="gelu", started=True)
    with process_group(local_rank=0) as (_, rank):
        context = dataclasses.replace(CONTEXT, process=rank, dtype=torch.float32)

        def go(name: str, keep_going: Callable[[], bool] = lambda: True) -> None:
            folder = RunFolder(root / name)
            if context.first:
                folder.prepare(run)
            dist.barrier()
            loaders = make_small_loaders(images, run, rank)
            train.train(run, folder, loaders, context, keep_going, start=first_weights(run))

        go("whole")
        told = stop_after(9)
        go("pieces", stop_after(3))  # in the middle of an epoch, whose loss is of both
        go("pieces", told if context.first else lambda: True)  # only one gets the signal
        if context.first:
            newest, *_ = checkpoint.find(root / "pieces")
            state = checkpoint.read(newest, 2**30)
            newest.unlink()
            checkpoint.save(root / "pieces", 12, {**state, "run": "another"})
        dist.barrier()
        go("pieces")


if __name__ == "__main__":
    main()
