"""Times the conversion of a checkpoint beside reading it.

    python tests/benchmarks/weights.py [--repeats N] [--depths 3,3,27,3] [--width 192]

Reading is torch.load, or safetensors' load_file with every tensor copied into memory. Converting is
modernize.weights: from the file into a network of ours, and from file to file in another layout.
They are interleaved. The files are in a temporary folder (set TMPDIR for another place), and the
system has them in its page cache. The default size is ConvNeXt-L.

In torch's format, most of the time goes into the checksums that torch.save computes.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that it also runs where the project is not installed

from modernize import weights  # noqa: E402
from modernize.network import Network  # noqa: E402
from modernize.steps import spec_of  # noqa: E402

CONVERSIONS = (  # the layout and format of a file, and what it is converted to
    ("official", ".pth", "timm", ".safetensors"),
    ("official", ".pth", "timm", ".pth"),
    ("timm", ".safetensors", "torchvision", ".pth"),
    ("timm", ".safetensors", "official", ".safetensors"),
)


def read(path: Path) -> None:
    """Reads a file as anyone would, every byte of it."""
    if path.suffix == ".safetensors":
        [tensor.clone() for tensor in load_file(path).values()]
    else:
        torch.load(path, weights_only=True)


def convert(path: Path, output: Path, layout: str) -> None:
    """Writes a file in another layout."""
    weights.write(weights.read(path), output, layout)


def timed(work, *arguments) -> float:
    """Returns the seconds that one call took."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def main() -> None:
    """Prints both medians of every conversion, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--depths", default="3,3,27,3")
    parser.add_argument("--width", type=int, default=192)
    options = parser.parse_args()
    depths = tuple(int(depth) for depth in options.depths.split(","))
    network = Network(spec_of("downsample", depths=depths, width=options.width))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for layout, suffix, target, target_suffix in CONVERSIONS:
            source, output = folder / f"source{suffix}", folder / f"output{target_suffix}"
            weights.write(network, source, layout)
            rounds = []
            for number in range(options.repeats + 1):
                os.sync()  # files of the round before are on the disk, and slow nothing down
                output.unlink(missing_ok=True)
                weights._shapes.cache_clear()  # as in a new process
                times = timed(read, source), timed(weights.load, source)
                times += (timed(convert, source, output, target),)
                rounds += [times] if number else []  # the first one warms up
            reading, loading, converting = map(statistics.median, zip(*rounds, strict=True))
            print(
                f"{layout}, {suffix}, {source.stat().st_size / 2**20:.0f} MiB: read in "
                f"{reading:.3f} s; into a network {loading:.3f} s, ratio {loading / reading:.2f}; "
                f"to {target}, {target_suffix}, {converting:.3f} s, ratio "
                f"{converting / reading:.2f} (aim: under 2)",
                flush=True,
            )


if __name__ == "__main__":
    main()
