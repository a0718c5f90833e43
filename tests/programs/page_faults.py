"""Prints the page faults of an update of a network, before and after this process keeps memory."""

import resource
import statistics

import torch
from torch import nn

from ablations.training.device_context import keep_freed_memory

ROUNDS = 10

network = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.Conv2d(64, 80, 1), nn.ReLU())
images = torch.randn(8, 3, 256, 256)  # feature maps of 32 MiB


def faults() -> int:
    """Returns the median page faults of an update.

    The median, because the kept memory still grows at times: a block that was freed may have been
    split when the next update asks for it.
    """
    counts = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        network(images).sum().backward()
        network.zero_grad()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return int(statistics.median(counts))


before = faults()
able = keep_freed_memory()
print(before, faults(), int(able))
