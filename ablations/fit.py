"""Whether recipe, network, images and machine fit together. Planning and the job ask the same.

Planning asks as far as it knows the machine, so that nobody waits in a queue to be refused; the job
asks again where it trains. No torch here.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Iterable

from ablations.recipe import Compute, DataChoice, Recipe
from modernize.closed_form import smallest_map
from modernize.errors import UsageError
from modernize.spec import NetSpec, Norm
from modernize.text import plural

NAMED = 8  # steps with the same fault; of more, the others are counted
COMPILERS = ("g++", "clang++", "c++", "cl")


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where a run is to be trained, as far as it is known.

    Attributes:
        device: torch's type of it; empty: not known.
        processes: that train a run together.
        here: whether it is this machine.
        python: whether it runs this interpreter, with its packages.
        local, gpus: how many of the processes it has, and how many GPUs; None: as many.
    """

    device: str = ""
    processes: int = 1
    here: bool = False
    python: bool = False
    local: int = 1
    gpus: int | None = None


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be trained, and on what.

    Attributes:
        recipe, spec: of the run.
        images: how many training images there are.
        data, compute: as the preset says.
        tensorboard: whether the metrics are written for TensorBoard, too.
    """

    recipe: Recipe
    spec: NetSpec
    images: int
    data: DataChoice
    compute: Compute
    tensorboard: bool = False

    def faults(self, machine: Machine) -> list[str]:
        """Returns why a run cannot be trained so, a sentence each; empty: it can."""
        recipe, processes = self.recipe, machine.processes
        return [
            *batch_faults(self.images, recipe.batch_size, recipe.micro_batch_size, processes),
            *channel_faults(self.data, self.spec.in_channels),
            *self._norm_faults(machine),
            *precision_faults(self.compute.precision, machine.device),
            *_gpu_faults(machine),
            *self._library_faults(machine),
        ]

    def _norm_faults(self, machine: Machine) -> list[str]:
        if self.spec.norm is not Norm.BATCH:
            return []
        together = self.recipe.sync_batch_norm and machine.processes > 1
        if together and machine.device not in ("", "cuda"):
            return [
                f"sync_batch_norm needs CUDA GPUs, not {machine.device}; --set "
                "sync_batch_norm=false, or train with one process."
            ]
        side, batch = smallest_map(self.spec, self.data.image_size), self.recipe.micro_batch_size
        if together or side * side * batch > 1:
            return []
        return [
            f"with micro_batch_size {batch}, BatchNorm sees one value per channel where "
            f"the image of {self.data.image_size} pixels has become {side} x {side}; "
            "--set micro_batch_size to 2 or more."
        ]

    def _library_faults(self, machine: Machine) -> list[str]:
        faults = []
        if self.tensorboard and machine.python and not _is_installed("tensorboard"):
            faults.append(
                "--tensorboard needs a package that is not installed: "
                "pip install 'convnext-roadmap[tensorboard]'."
            )
        if self.compute.compile and machine.here:
            faults += _compile_faults(machine.device)
        return faults


def check(wanted: Iterable[tuple[str, Wanted]], machine: Machine) -> None:
    """Raises UsageError if something cannot be trained, with all faults and the steps of each.

    Args:
        wanted: key of the step, and what is to be trained.
        machine: where.
    """
    steps: dict[str, dict[str, None]] = {}
    for key, one in wanted:
        for fault in one.faults(machine):
            steps.setdefault(fault, {})[key] = None
    if steps:
        lines = [f"  {_name(list(keys))}: {fault}" for fault, keys in steps.items()]
        raise UsageError("\n".join(["this cannot be trained:", *lines]))


def batch_faults(images: int, batch_size: int, micro_batch_size: int, processes: int) -> list[str]:
    """Returns why updates cannot be made of so many images, and shared among the processes."""
    faults = []
    if batch_size > images:
        faults.append(
            f"batch_size {batch_size} is more than the {images} training images there are; --set "
            "batch_size to at most that."
        )
    if batch_size % (micro_batch_size * processes):
        batches = batch_size // micro_batch_size
        fits = [n for n in range(1, batches + 1) if batches % n == 0]
        faults.append(
            f"{processes} processes with micro_batch_size {micro_batch_size} cannot make updates "
            f"of batch_size {batch_size}: {batches} micro-batches are shared evenly among "
            f"{', '.join(map(str, fits))} processes. Start that many, or --set batch_size or "
            "micro_batch_size."
        )
    return faults


def channel_faults(data: DataChoice, channels: int) -> list[str]:
    """Returns why images of so many channels cannot be normalised as the preset says."""
    return [
        f"data.{name} is {values}, but the images' number of channels is {channels}; give one "
        "number for each channel, or null."
        for name, values in (("mean", data.mean), ("std", data.std))
        if values is not None and len(values) != channels
    ]


def precision_faults(precision: str, device: str) -> list[str]:
    """Returns why a device cannot train in a precision: fp16 needs gradients that are scaled."""
    if precision != "fp16" or device in ("", "cuda"):
        return []
    return [
        f"precision fp16 needs a CUDA GPU, not {device}; --set compute.precision to bf16, fp32 or "
        "auto."
    ]


def _gpu_faults(machine: Machine) -> list[str]:
    if machine.gpus is None or machine.local <= max(machine.gpus, 1):
        return []
    return [
        f"torchrun started {machine.local} processes on a machine with "
        f"{plural(machine.gpus, 'GPU')}; start one for each GPU, with --nproc-per-node."
    ]


def _compile_faults(device: str) -> list[str]:
    instead = "--set compute.compile=false, or install it."
    if device == "cuda" and not _is_installed("triton"):
        return [f"compute.compile needs the package triton on a GPU; {instead}"]
    given = os.environ.get("CXX" if device == "cpu" else "CC", "").split()[:1]
    if not any(map(shutil.which, [*given, *COMPILERS, "gcc", "clang", "cc"])):
        return [f"compute.compile needs a compiler, such as g++, and none is found; {instead}"]
    return []


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _name(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
