"""Measures the ConvNeXts of the authors' release beside ours, torchvision's and timm's.

    python tests/benchmarks/official.py CHECKOUT [--models ConvNeXt-T ...] [--batch-size 8]

CHECKOUT is a clone of https://github.com/facebookresearch/ConvNeXt. The measurement is that of the
`benchmark` command: interleaved rounds, inference and training.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # so that it also runs where the project is not installed

from ablations import terminal  # noqa: E402
from ablations.benchmark import request as benchmark_request  # noqa: E402
from ablations.benchmark.networks import BenchmarkNetwork, networks_of_models  # noqa: E402
from ablations.benchmark.results import MODES  # noqa: E402
from ablations.processes import wait_passively  # noqa: E402
from ablations.records import commit_of  # noqa: E402
from modernize.cost import cost  # noqa: E402
from modernize.libraries import library  # noqa: E402
from modernize.models import MODELS  # noqa: E402
from modernize.spec import NetSpec, Role  # noqa: E402
from modernize.steps import spec_of  # noqa: E402

if TYPE_CHECKING:
    from torch import nn

SOURCE = Path("models", "convnext.py")


@dataclasses.dataclass(frozen=True)
class OfficialSource:
    """Builds a network of the release.

    Attributes:
        checkout: the folder of the repository.
        spec: the same network as this project describes it.
    """

    checkout: Path
    spec: NetSpec

    def load(self) -> None:
        """Imports the modules that building needs."""
        self._definitions()

    def build(self) -> nn.Module:
        """Returns it, from images (N, 3, H, W) to logits; it has no stochastic depth by default."""
        network: nn.Module = self._definitions()["ConvNeXt"](
            in_chans=self.spec.in_channels,
            num_classes=self.spec.num_classes,
            depths=list(self.spec.depths),
            dims=list(self.spec.stream_widths),
        )
        return network

    def _definitions(self) -> dict[str, Any]:
        with _former_timm():
            return runpy.run_path(str(self.checkout / SOURCE))


def is_released(spec: NetSpec) -> bool:
    """Returns whether a network is a ConvNeXt of the release, of any depths and width."""
    return not spec_of("downsample").diff(spec, {Role.SIZE})


def official_networks(
    checkout: Path, models: Sequence[str], image_size: int
) -> list[BenchmarkNetwork]:
    """Returns the networks of the release with these names in the paper's tables."""
    known, found = commit_of(checkout), []
    version = f"{(known['commit'] or '')[:10]}{'+' if known['dirty'] else ''}"
    for model in models:
        if model in MODELS and is_released(spec := MODELS[model]):
            own, source = cost(spec, image_size), OfficialSource(checkout, spec)
            found.append(
                BenchmarkNetwork(
                    (model,), model, "official", version, own.params, own.flops, None, source
                )
            )
    return found


@contextlib.contextmanager
def _former_timm() -> Iterator[None]:
    """Lets the release's file import parts of timm from their places of 2022.

    timm still has these places, with a warning. But its registry would replace its own networks by
    those of the release, which have the same names.
    """
    registry = types.ModuleType("timm.models.registry")
    registry.__dict__["register_model"] = _untouched
    stand_ins = {
        "timm.models.registry": registry,
        "timm.models.layers": library("timm.layers"),
    }
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _untouched(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return function


def main() -> None:
    """Measures, and prints the table of the `benchmark` command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--models", nargs="+", default=["ConvNeXt-T"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--device", choices=["cuda", "cpu"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    if not (checkout / SOURCE).is_file():
        parser.error(f"{checkout} has no {SOURCE}; give a clone of facebookresearch/ConvNeXt.")

    wait_passively()
    request = benchmark_request.Request(
        modes=MODES,
        device=options.device,
        batch_size=options.batch_size,
        size=(options.image_size, options.image_size),
        choice={},
        precision="auto",
        memory_format="channels-last",
        compile=False,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    networks = networks_of_models(options.models, request.size, request.choice)
    networks += official_networks(checkout, options.models, options.image_size)
    measured = benchmark_request.run(
        networks,
        request,
        request.setup(),
        title="release",
        study="",
        regime=None,
        console=terminal.console(err=True),
    )
    benchmark_request.show(measured, "table", terminal.console())


if __name__ == "__main__":
    main()
