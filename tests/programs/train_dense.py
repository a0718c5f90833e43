"""One or more processes train a small run of detection or segmentation.

Every process but the first has another folder, in which it writes nothing.

torchrun --nproc-per-node N tests/programs/train_dense.py PRESET FOLDER SETTING...
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[1]))
from dense_runs import go

from ablations.heads import SEGMENTERS
from ablations.training.device_context import process_group
from modernize.heads import UPERNET_NANO


def main() -> None:
    torch.set_num_threads(1)
    # Random numbers of dropout depend on the size of the micro-batches.
    SEGMENTERS["upernet-plain"] = UPERNET_NANO.replace(dropout=0.0)  # type: ignore[index]
    preset, folder, *settings = sys.argv[1:]
    with process_group(local_rank=0) as (_, process):
        there = Path(folder) if process.rank == 0 else Path(folder, f"rank-{process.rank}")
        go(preset, there, *settings, process=process)
        dist.barrier()


if __name__ == "__main__":
    main()
