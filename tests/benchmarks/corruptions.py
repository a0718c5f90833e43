"""Milliseconds per image of our corruptions and of two other libraries, on one thread.

    pip install imagecorruptions-imaug==1.1.5 corrupt-tta==0.1.7
    python tests/benchmarks/corruptions.py [--sizes 224 32] [--images 32] [--rounds 5]

All three corrupt the same colour images with ImageNet-C's parameters (ours at 32 pixels with
CIFAR's, which the others do not have). They take turns at each corruption and severity; the times
are the medians of the processor's time, without the first round. Both libraries take one image at a
time, ours a batch. A ratio is the time of the faster library by ours.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that it also runs where the project is not installed

import corrupt_tta  # noqa: E402
import cv2  # noqa: E402
import imagecorruptions  # noqa: E402
import numpy as np  # noqa: E402

from ablations.data.corruptions.corrupt import corrupt  # noqa: E402
from ablations.data.corruptions.names import CORRUPTIONS, SEVERITIES, table_for  # noqa: E402
from ablations.training.device_name import cpu_name  # noqa: E402

LIBRARIES = {"imagecorruptions-imaug": imagecorruptions.corrupt, "corrupt-tta": corrupt_tta.corrupt}


def photographs(count: int, size: int) -> np.ndarray:
    """Returns the test image in a size, at other brightness for each copy."""
    stored = np.load(ROOT / "tests" / "golden" / "corruptions.npz")["image"]
    image = cv2.resize(stored, (size, size), interpolation=cv2.INTER_CUBIC)
    levels = np.linspace(0.7, 1, count)[:, None, None, None]
    return (levels * image).astype(np.uint8)


def milliseconds(ways: list[Callable[[], object]], rounds: int, images: list[int]) -> list[float]:
    """Returns the median time per image of each way; they take turns."""
    taken: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        for way, count, times in zip(ways, images, taken, strict=True):
            start = time.process_time()
            way()
            if number:  # the first one warms up
                times.append((time.process_time() - start) / count * 1000)
    return [statistics.median(times) for times in taken]


def measure(name: str, images: np.ndarray, rounds: int) -> list[float]:
    """Returns the mean over severities of the times of both libraries and ours."""
    table, few = table_for(*images.shape[1:3]), images[:4]
    found = []
    for severity in SEVERITIES:
        ways: list[Callable[[], object]] = [
            lambda severity=severity, library=library: [library(x, severity, name) for x in few]
            for library in LIBRARIES.values()
        ]
        ways.append(
            lambda severity=severity: corrupt(images, name, severity, range(len(images)), table)
        )
        found.append(milliseconds(ways, rounds, [len(few), len(few), len(images)]))
    return [statistics.mean(times) for times in zip(*found, strict=True)]


def main() -> None:
    """Prints a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 32])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    np.random.seed(0)  # the libraries use this generator
    print(f"{cpu_name()}, one thread, milliseconds per image")
    for size in given.sizes:
        images = photographs(given.images, size)
        print(f"\n{size} x {size:<18}", *(f"{name:>23}" for name in LIBRARIES), "   ours  ratio")
        totals = [0.0, 0.0, 0.0]
        for name in (*CORRUPTIONS, "all"):
            times = totals if name == "all" else measure(name, images, given.rounds)
            if name != "all":
                totals = [total + each for total, each in zip(totals, times, strict=True)]
            columns = f"{times[0]:23.3f} {times[1]:23.3f} {times[2]:7.3f}"
            print(f"{name:<24} {columns} {min(times[:2]) / times[2]:6.1f}", flush=True)


if __name__ == "__main__":
    main()
