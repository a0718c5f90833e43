"""Times every form of a layer in modernize/ops.py against torch's layer, on this processor.

    python tests/benchmarks/layers.py [--steps resnet downsample] [--batch-size 8] [--threads 1 2]

Each distinct layer and input shape of the steps' networks is timed once, in bfloat16 under autocast
and channels-last, in forward and in forward and backward. In each round every form runs once, one
after the other. A ratio is the time of torch's layer divided by that of the form in the same round:
median (least to most). With one thread the time is CPU time, which excludes other programs; with
more threads it is wall time, so the machine must be idle.

A choice of ops.py is right if no form is more than 5 % faster than the chosen one. The last lines
add up all layers of each network: how many times as fast as torch's layers the chosen forms and the
fastest forms are.
"""

import argparse
import collections
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that it also runs where the project is not installed

from ablations.training.device_name import cpu_name  # noqa: E402
from modernize import build  # noqa: E402
from modernize.ops import (  # noqa: E402
    FORMS,
    GELU,
    HERE,
    DepthwiseConv2d,
    DepthwiseGradient,
    Forms,
    PointwiseConv2d,
)

WARM_UP = 2  # rounds before the timed ones
NOISE = 1.05  # a form that is not faster than another by more is as good
MODES = ("forward", "forward+backward")
TORCH = "torch"


class Case(NamedTuple):
    """A layer of a network, and the shape (C, H, W) of its input.

    The arguments are those of its constructor, as pairs of a name and a value.
    """

    kind: type[nn.Module]
    arguments: tuple[tuple[str, object], ...]
    shape: tuple[int, ...]

    @property
    def label(self) -> str:
        """The layer in words, with the height and width of its input."""
        given = dict(self.arguments)
        widths = (
            f"{given.get('in_width', self.shape[0])} -> {given.get('out_width', self.shape[0])}"
        )
        size = f" {given['kernel_size']}x{given['kernel_size']}" if "kernel_size" in given else ""
        bias = ", bias" if given.get("bias") else ""
        return f"{self.kind.__name__}{size} {widths}{bias} at {self.shape[1]}x{self.shape[2]}"

    def forms(self) -> tuple[Mapping[str, nn.Module], str]:
        """Returns the forms of the layer by their names, torch's first, and which ops.py chose."""
        given = dict(self.arguments)
        if self.kind is GELU:
            return {TORCH: nn.GELU(), "memory order": GELU()}, "memory order"
        if self.kind is PointwiseConv2d:
            layers = {
                TORCH: PointwiseConv2d(**given, forms=Forms()),
                "product": PointwiseConv2d(**given, forms=Forms(0, 0)),
            }
            return layers, "product" if PointwiseConv2d(**given).product else TORCH
        layers = {
            gradient.value: DepthwiseConv2d(**given, forms=Forms(depthwise_gradient=gradient))
            for gradient in DepthwiseGradient
        }
        return layers, HERE.depthwise_gradient.value


def cases(step: str, regime: str, size: int) -> collections.Counter[Case]:
    """Returns the layers of a step's network that ops.py has forms of, and how many of each."""
    found: collections.Counter[Case] = collections.Counter()

    def note(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        given: dict[str, object] = {}
        if isinstance(layer, PointwiseConv2d):
            given = {"in_width": layer.in_channels, "out_width": layer.out_channels}
        elif isinstance(layer, DepthwiseConv2d):
            given = {"width": layer.in_channels, "kernel_size": layer.kernel_size[0]}
            given |= {"stride": layer.stride[0], "padding": layer.padding[0]}
        if isinstance(layer, nn.Conv2d):
            given["bias"] = layer.bias is not None
        found[Case(type(layer), tuple(given.items()), tuple(inputs[0].shape[1:]))] += 1

    with torch.device("meta"):
        network = build(step, regime)
        for layer in network.modules():
            if isinstance(layer, PointwiseConv2d | DepthwiseConv2d | GELU):
                layer.register_forward_pre_hook(note)
        network(torch.empty(1, 3, size, size))
    return found


def measure(
    layers: Mapping[str, nn.Module], shape: tuple[int, ...], rounds: int, threads: int
) -> dict[str, dict[str, list[float]]]:
    """Returns mode -> form -> seconds of each round, in which each form runs once."""
    clock: Callable[[], float] = time.process_time if threads == 1 else time.perf_counter
    images = torch.randn(shape, dtype=torch.bfloat16)
    images = images.contiguous(memory_format=torch.channels_last)
    for layer in layers.values():
        layer.to(memory_format=torch.channels_last).train()
    grad = torch.randn_like(run(layers[TORCH], images))

    def step(layer: nn.Module, mode: str) -> None:
        if mode == "forward":
            with torch.no_grad():
                run(layer, images)
            return
        layer.zero_grad()
        run(layer, images.detach().requires_grad_()).backward(grad)

    seconds = {mode: {name: [] for name in layers} for mode in MODES}
    for number in range(-WARM_UP, rounds):
        for mode, by_form in seconds.items():
            for name, layer in layers.items():
                start = clock()
                step(layer, mode)
                if number >= 0:
                    by_form[name].append(clock() - start)
    return seconds


def run(layer: nn.Module, images: Tensor) -> Tensor:
    """Returns the output of a layer under autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        output: Tensor = layer(images)
    return output


class Result(NamedTuple):
    """The medians of a layer in one mode: seconds of each form, and the form of ops.py."""

    seconds: Mapping[str, float]
    chosen: str

    @property
    def right(self) -> bool:
        """Whether no form is faster than the chosen one by more than the noise."""
        return self.seconds[self.chosen] <= NOISE * min(self.seconds.values())


def time_layers(
    found: Mapping[Case, int], batch_size: int, rounds: int, threads: int
) -> Iterator[tuple[Case, str, Result]]:
    """Times every layer in both modes, prints a line for each, and yields the medians."""
    torch.set_num_threads(threads)
    for case in found:
        layers, chosen = case.forms()
        for mode, by_form in measure(layers, (batch_size, *case.shape), rounds, threads).items():
            result = Result({name: median(times) for name, times in by_form.items()}, chosen)
            ratios = []
            for name in list(layers)[1:]:
                pairs = zip(by_form[TORCH], by_form[name], strict=True)
                values = [torchs / own for torchs, own in pairs]
                ratios.append(
                    f"{name} {median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
                )
            fastest = min(result.seconds, key=result.seconds.__getitem__)
            verdict = f"fastest: {fastest}; ops.py: {chosen}{'' if result.right else '  <-- WRONG'}"
            head = f"{case.label}, {mode}, threads {threads}: "
            head += f"torch {1e3 * result.seconds[TORCH]:.1f} ms; "
            print(f"{head}{', '.join(ratios)}; {verdict}", flush=True)
            yield case, mode, result


def main() -> None:
    """Prints the processor, a line for each layer, mode and number of threads, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", nargs="+", default=["resnet", "downsample"])
    parser.add_argument("--regime", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()

    offered = getattr(torch.cpu, "get_capabilities", dict)()
    having = [name for name in FORMS if offered.get(name)]
    print(
        f"{cpu_name()}; {', '.join(having) or f'none of {list(FORMS)}'}; torch {torch.__version__}"
    )
    print(HERE)
    networks = {step: cases(step, options.regime, options.image_size) for step in options.steps}
    every = sum(networks.values(), collections.Counter())
    for threads in dict.fromkeys(options.threads):
        results = {
            (case, mode): result
            for case, mode, result in time_layers(
                every, options.batch_size, options.rounds, threads
            )
        }
        right = sum(result.right for result in results.values())
        print(f"threads {threads}: {right} of {len(results)} choices of ops.py are right")
        for step, found in networks.items():
            for mode in MODES:
                mine = [(count, results[case, mode]) for case, count in found.items()]
                torchs = sum(count * r.seconds[TORCH] for count, r in mine)
                chosen = sum(count * r.seconds[r.chosen] for count, r in mine)
                best = sum(count * min(r.seconds.values()) for count, r in mine)
                head = f"{step}, {mode}, threads {threads}, all of these layers: "
                ratios = f"chosen {torchs / chosen:.2f}, fastest {torchs / best:.2f}"
                print(f"{head}{ratios} times as fast as torch")


if __name__ == "__main__":
    main()
