"""Prints the page faults of using 40 MB again: before and after this process keeps its memory."""

import resource

import torch

from ablations.place import keep_freed_memory


def faults() -> int:
    """Returns the page faults of filling 40 MB, the second time that this is done."""
    count = 0
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10_000_000)
        count = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return count


before = faults()
able = keep_freed_memory()
print(before, faults(), int(able))
