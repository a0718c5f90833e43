"""Prints the page faults of an update of a network, before and after this process keeps memory."""

import resource

import torch
from torch import nn

from ablations.training.device_context import keep_freed_memory

ROUNDS = 10

network = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.Conv2d(64, 80, 1), nn.ReLU())
images = torch.randn(8, 3, 256, 256)  # feature maps of 32 MiB


def faults() -> int:
    """Returns the page faults of an update after some others."""
    count = 0
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        network(images).sum().backward()
        network.zero_grad()
        count = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return count


before = faults()
able = keep_freed_memory()
print(before, faults(), int(able))
