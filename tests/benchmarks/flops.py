"""Counts the roadmap of both regimes, the plain way and ours, side by side.

    python tests/benchmarks/flops.py [--repeats N] [--regimes resnet50 resnet200]

The plain way is the loop anyone would write first: build the network of each step, and ask fvcore
for its total. Ours is modernize.cost.count, without the cache on disk and with nothing remembered
from the round before. The two take turns, step by step, so that whatever else the machine does
meets both. Last comes a fresh process that asks for all rows again, from the disk.
"""

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that it also runs where the project is not installed

from modernize import REGIMES, STEPS, build, cost, spec_of  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # importing fvcore scripts a loss, which torch deprecates
    from fvcore.nn import FlopCountAnalysis

ASK_FOR_ALL = """
from modernize import REGIMES, STEPS, cost, spec_of
for regime in {regimes!r}:
    for step in STEPS:
        cost.cost(spec_of(step.key, regime), REGIMES[regime].image_size)
"""


def plain(step: str, regime: str, size: int) -> None:
    """Counts one step as anyone would."""
    network = build(step, regime)
    FlopCountAnalysis(network, torch.zeros(1, 3, size, size)).total()


def ours(step: str, regime: str, size: int) -> None:
    """Counts one step as this project does."""
    cost.count(spec_of(step, regime), size)


def timed(count, *row) -> float:
    """Returns the seconds that one count took."""
    start = time.perf_counter()
    count(*row)
    return time.perf_counter() - start


def one_round(regimes: list[str]) -> tuple[float, float]:
    """Returns the seconds of all steps, the plain way and ours."""
    cost._count.cache_clear()  # a step counted in this round may serve again, as in real use
    seconds = [0.0, 0.0]
    for regime in regimes:
        for index, step in enumerate(STEPS):
            row = step.key, regime, REGIMES[regime].image_size
            for which in (0, 1) if index % 2 else (1, 0):
                seconds[which] += timed((plain, ours)[which], *row)
    return seconds[0], seconds[1]


def second_asking(regimes: list[str]) -> float:
    """Returns the seconds of a whole process that finds every count on the disk."""
    command = [sys.executable, "-c", ASK_FOR_ALL.format(regimes=regimes)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}

        def ask() -> None:
            subprocess.run(command, env=environment, cwd=ROOT, check=True)

        ask()
        return statistics.median(timed(ask) for _ in range(5))


def main() -> None:
    """Prints both medians, their ratio, and the time of asking again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    both = ["resnet50", "resnet200"]
    parser.add_argument("--regimes", nargs="+", choices=both, default=both)
    options = parser.parse_args()

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    timed(plain, "ln", "nano", 64)  # the first count of a process loads and sets up much
    rounds = []
    for number in range(1, options.repeats + 1):
        rounds.append(one_round(options.regimes))
        print(
            f"round {number}: plain {rounds[-1][0]:.2f} s, ours {rounds[-1][1]:.2f} s", flush=True
        )
    by_way = [statistics.median(way) for way in zip(*rounds, strict=True)]
    print(f"plain loop, median of {len(rounds)}: {by_way[0]:.2f} s")
    print(f"ours, median of {len(rounds)}: {by_way[1]:.2f} s")
    print(f"ratio: {by_way[1] / by_way[0]:.3f}")
    print(f"asking again, a whole process: {second_asking(options.regimes):.2f} s")


if __name__ == "__main__":
    main()
