"""Measures how fast networks of this checkout run beside those of another checkout.

    python tests/benchmarks/inference.py CHECKOUT [--steps resnet ln] [--rounds 15]

CHECKOUT is another clone of this repository. In each round both networks of a step, this one loaded
by torch.hub, run once on the same images with the same weights, in alternating order. A ratio is
the time of the other one divided by that of this one in the same round: median (least to most). The
network that torch.fx traces is measured as well. With one thread the time is CPU time.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).parents[2]
WARM_UP = 2  # rounds before the timed ones


def other_network(checkout: Path, step: str, regime: str) -> nn.Module:
    """Builds the network of a step by the code of another checkout, whose modules are then gone."""

    def take() -> dict[str, Any]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if _is_ours(name)}

    kept = take()
    sys.path.insert(0, str(checkout))
    try:
        from modernize import build

        return build(step, regime)
    finally:
        sys.path.remove(str(checkout))
        take()
        sys.modules.update(kept)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "modernize"


def measure(
    networks: dict[str, nn.Module], x: torch.Tensor, rounds: int, *, mixed: bool
) -> dict[str, list[float]]:
    """Returns the seconds of each round by the network's name."""
    clock: Callable[[], float] = (
        time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    )
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for number in range(-WARM_UP, rounds):
        for name in list(networks)[:: 1 if number % 2 else -1]:
            start = clock()
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                networks[name](x)
            if number >= 0:
                seconds[name].append(clock() - start)
    return seconds


def main() -> None:
    """Prints a line for each step, precision and network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--steps", nargs="+", default=["resnet", "ln", "downsample"])
    parser.add_argument("--regime", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = (options.batch_size, 3, options.image_size, options.image_size)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    for step in options.steps:
        ours = torch.hub.load(
            str(ROOT), "convnext_roadmap", step=step, regime=options.regime, source="local"
        )
        other = other_network(options.checkout.resolve(), step, options.regime)
        other.load_state_dict(ours.state_dict())
        networks = {
            "other": other,
            "torch.hub": ours,
            "traced": torch.fx.symbolic_trace(ours.eval()),
        }
        for network in networks.values():
            network.eval().to(memory_format=torch.channels_last)
        for mixed in (False, True):
            seconds = measure(networks, x, options.rounds, mixed=mixed)
            for name in ("torch.hub", "traced"):
                pairs = zip(seconds["other"], seconds[name], strict=True)
                ratios = [theirs / mine for theirs, mine in pairs]
                print(
                    f"{step}, {'bf16' if mixed else 'fp32'}, {name}: {median(ratios):.3f} "
                    f"({min(ratios):.3f} to {max(ratios):.3f}) times as fast as the other",
                    flush=True,
                )


if __name__ == "__main__":
    main()
