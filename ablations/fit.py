"""Checks that recipe, network, images and machine fit together. No torch here.

They run when a launch is planned, as far as the machine is known, so that no job is queued only to
fail; and again in the job, on the machine that trains it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
from collections.abc import Iterable
from typing import Protocol

from ablations.choices import Compute, DataChoice
from ablations.recipe import Recipe
from modernize.closed_form import smallest_feature_map
from modernize.errors import UsageError
from modernize.spec import NetSpec, Norm
from modernize.text import few, plural

LOGGERS = ("tensorboard", "wandb", "mlflow")
"""Where the metrics of runs can be written, too: the names of their packages and extras."""
NAMED = 8  # steps with the same fault; of more, the others are counted
COMPILERS = ("g++", "clang++", "c++", "cl")


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine that trains a run, as far as it is known.

    Attributes:
        device: torch's type of it; empty: not known.
        processes: the number that train a run together.
        here: whether it is this machine.
        python: whether it runs this interpreter, with its packages.
        local, gpus: the number of the processes and of the GPUs on it; None: enough GPUs.
    """

    device: str = ""
    processes: int = 1
    here: bool = False
    python: bool = False
    local: int = 1
    gpus: int | None = None


class ChecksRecipes(Protocol):
    """The part of a :class:`~ablations.tasks.task.Task` that is needed here."""

    @property
    def compiles(self) -> bool:
        """Whether its models can be trained with ``compute.compile``."""

    def faults(self, recipe: Recipe, processes: int) -> tuple[str, ...]:
        """Returns why that many processes cannot train with a recipe: a sentence for each fault."""


@dataclasses.dataclass(frozen=True)
class RunSetup:
    """The settings of a run that the machine and each other must fit.

    Attributes:
        recipe, spec: of the run.
        images: the number of training images.
        data, compute: of the preset.
        task: of the preset.
        loggers: where the metrics are written, too; of :data:`~ablations.fit.LOGGERS`.
    """

    recipe: Recipe
    spec: NetSpec
    images: int
    data: DataChoice
    compute: Compute
    task: ChecksRecipes
    loggers: tuple[str, ...] = ()

    def faults(self, machine: Machine) -> list[str]:
        """Returns why the run cannot be trained, a sentence for each reason."""
        recipe, processes = self.recipe, machine.processes
        return [
            *batch_faults(self.images, recipe.batch_size, recipe.micro_batch_size, processes),
            *channel_faults(self.data, self.spec.in_channels),
            *self._norm_faults(machine),
            *precision_faults(self.compute.precision, machine.device),
            *_gpu_faults(machine),
            *self.task.faults(recipe, processes),
            *self._library_faults(machine),
        ]

    def _norm_faults(self, machine: Machine) -> list[str]:
        if self.spec.norm is not Norm.BATCH:
            return []
        together = self.recipe.sync_batch_norm and machine.processes > 1
        side, batch = (
            smallest_feature_map(self.spec, self.data.image_size),
            self.recipe.micro_batch_size,
        )
        if together or side * side * batch > 1:
            return []
        return [
            f"with micro_batch_size {batch}, BatchNorm sees one value per channel where "
            f"the feature map of an image of {self.data.image_size} pixels is {side} x {side}; "
            "--set micro_batch_size to 2 or more."
        ]

    def _library_faults(self, machine: Machine) -> list[str]:
        faults = [
            f"--log {name} needs a package that is not installed: pip install "
            f"'convnext-roadmap[{name}]'."
            for name in self.loggers
            if machine.python and not _is_installed(name)
        ]
        if self.compute.compile and not self.task.compiles:
            faults.append(
                "compute.compile is for classification alone; --set compute.compile=false."
            )
        elif self.compute.compile and machine.here:
            faults += _compile_faults(machine.device)
        return faults


def check(setups: Iterable[tuple[str, RunSetup]], machine: Machine) -> None:
    """Raises UsageError if a run cannot be trained, with all faults and the steps of each.

    Args:
        setups: key of the step, and settings of its run.
        machine: that trains them.
    """
    steps: dict[str, dict[str, None]] = {}
    for key, one in setups:
        for fault in one.faults(machine):
            steps.setdefault(fault, {})[key] = None
    if steps:
        lines = [f"  {few(keys, NAMED)}: {fault}" for fault, keys in steps.items()]
        raise UsageError("\n".join(["this cannot be trained:", *lines]))


def batch_faults(images: int, batch_size: int, micro_batch_size: int, processes: int) -> list[str]:
    """Returns why updates of ``batch_size`` images cannot be divided among the processes."""
    faults = []
    if batch_size > images:
        faults.append(
            f"batch_size {batch_size} is larger than the {images} training images. Use a "
            "smaller one: --set batch_size."
        )
    if batch_size % (micro_batch_size * processes):
        batches = batch_size // micro_batch_size
        fits = [n for n in range(1, batches + 1) if batches % n == 0]
        faults.append(
            f"{processes} processes with micro_batch_size {micro_batch_size} cannot make updates "
            f"of batch_size {batch_size}: its {batches} micro-batches can be divided evenly among "
            f"{', '.join(map(str, fits))} processes. Start one of these numbers, or --set "
            "batch_size or micro_batch_size."
        )
    return faults


def channel_faults(data: DataChoice, channels: int) -> list[str]:
    """Returns why mean and std of the preset do not fit the number of channels."""
    return [
        f"data.{name} is {values}, but the images have {plural(channels, 'channel')}; give one "
        "number for each channel, or null."
        for name, values in (("mean", data.mean), ("std", data.std))
        if values is not None and len(values) != channels
    ]


def precision_faults(precision: str, device: str) -> list[str]:
    """Returns why a device cannot train in a precision: fp16 needs gradient scaling."""
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
