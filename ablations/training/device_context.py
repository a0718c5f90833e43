"""A process's device, its rank among the processes of a run, and the precision."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import datetime
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ablations.choices import Compute
from ablations.data.sampling import Rank
from ablations.fit import precision_faults
from ablations.records import read_json, write_json
from ablations.training.device_name import cpu_name
from modernize.errors import RoadmapError, UsageError

T = TypeVar("T")
Module = TypeVar("Module", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class DeviceContext:
    """How one process computes its part of a run.

    Attributes:
        device: of this process.
        process: this process.
        dtype: of convolutions and matrix products; float32: no mixed precision.
        channels_last, compile: as in :class:`~ablations.choices.Compute`.
    """

    device: torch.device
    process: Rank
    dtype: torch.dtype
    channels_last: bool
    compile: bool

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.process.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Returns the context of the forward pass."""
        mixed = self.dtype is not torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=mixed)

    def put(self, network: Module) -> Module:
        """Moves a network to the device, in the memory format of this context, and returns it."""
        network.to(self.device)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        return network

    def sum(self, x: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""
        if self.process.world_size > 1:
            dist.all_reduce(x)
        return x

    def broadcast(self, x: Tensor) -> None:
        """Overwrites a tensor with that of the first process."""
        if self.process.world_size > 1:
            dist.broadcast(x, 0)

    def synchronize(self) -> None:
        """Waits until the device has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def peak_memory(self) -> float:
        """Returns the peak memory so far in MiB: of the GPU, or of this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on others
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

    def name(self) -> str:
        """Returns the name of this process's device."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return cpu_name() if self.device.type == "cpu" else str(self.device.type)

    def describe(self) -> str:
        """Returns the devices of all processes, as a text for records."""
        several = self.device.type == "cuda" and self.process.world_size > 1
        return f"{self.process.world_size} x {self.name()}" if several else self.name()


def make_device_context(
    device: str, compute: Compute, process: Rank | None = None
) -> DeviceContext:
    """Returns this process's context on a device, with the precision resolved.

    Raises:
        UsageError: for a precision that the device does not support.
    """
    torch_device = torch.device(device)
    if torch_device.type == "cuda":
        torch.cuda.set_device(torch_device)
        torch.backends.cuda.matmul.allow_tf32 = compute.tf32
        torch.backends.cudnn.allow_tf32 = compute.tf32
    elif torch_device.type == "cpu":
        keep_freed_memory()
    return DeviceContext(
        device=torch_device,
        process=process or Rank(),
        dtype=resolve_precision(compute.precision, torch_device),
        channels_last=compute.channels_last,
        compile=compute.compile,
    )


def keep_freed_memory() -> bool:
    """Makes this process keep the memory that it frees; returns whether the system supports it.

    An update frees all its activations, and the next one allocates them again. glibc returns such
    large blocks to the system, which then allocates and clears some 100,000 pages per update: a
    sixth of the time of ResNet-50 at 224 on one core. The peak is the same.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl does not
    if mallopt is None:
        return False
    trim_threshold, mmap_max = -1, -4  # their numbers in malloc.h
    return bool(mallopt(mmap_max, 0)) and bool(mallopt(trim_threshold, 2**31 - 1))


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision -> data type; "auto" depends on the device."""


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Returns the data type of a preset's ``precision`` on a device.

    Raises:
        UsageError: for fp16 on any device except a GPU, because gradients are scaled only there.
    """
    if precision == "auto":
        return _best(device)
    if faults := precision_faults(precision, device.type):
        raise UsageError(" ".join(faults))
    return DTYPES[precision]


def supports(device: torch.device, dtype: torch.dtype) -> bool:
    """Returns whether a device can train in a precision, fast or slowly."""
    if dtype is torch.float16:
        return device.type == "cuda"
    if dtype is torch.bfloat16 and device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return dtype is torch.float32 or device.type in ("cpu", "cuda")


def _best(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        return torch.bfloat16 if _has_bf16_units(device) else torch.float16
    if device.type == "cpu":
        ask = getattr(torch.cpu, "get_capabilities", None)  # newer torch has it
        capabilities = ask() if ask else {}
        fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        return torch.bfloat16 if fast else torch.float32
    return torch.float32


def _has_bf16_units(device: torch.device) -> bool:
    """Returns whether a GPU has bf16 instructions; torch emulates them on others, slowly."""
    try:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    except TypeError:  # an older torch, which includes emulation
        return torch.cuda.get_device_capability(device) >= (8, 0)


@contextlib.contextmanager
def process_group(
    local_rank: int, process: Rank | None = None, store: Any = None
) -> Iterator[tuple[str, Rank]]:
    """Joins the processes of a run, and yields this one's device and rank.

    Processes with GPUs use NCCL, others gloo.

    Args:
        local_rank: this process's number on its machine.
        process: this process; None: from torchrun's environment variables.
        store: through which the processes connect; None: from torchrun's variables.
    """
    cuda = torch.cuda.is_available()
    # A scheduler may show each process only its own GPU.
    device = f"cuda:{local_rank % torch.cuda.device_count()}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    backend = "nccl" if cuda else "gloo"
    if process is None:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(
            backend, store=store, rank=process.rank, world_size=process.world_size
        )
    try:
        yield device, Rank(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def agree(process: Rank, decide: Callable[[], T]) -> T:
    """Returns the first process's decision in all processes; if it raises, all raise its error."""
    if process.world_size == 1:
        return decide()
    said: list[Any] = [None, None]  # the decision; exit status and message of an error
    failure: Exception | None = None
    if process.rank == 0:
        try:
            said[0] = decide()
        except Exception as error:
            failure = error
            said[1] = getattr(error, "exit_status", 1), str(error)
    dist.broadcast_object_list(said)
    if failure is not None:
        raise failure
    if said[1] is not None:
        status, message = said[1]
        raise (UsageError if status == UsageError.exit_status else RoadmapError)(message)
    decision: T = said[0]
    return decision


def rendezvous(path: Path, host: str, process: Rank, seconds: float = 300) -> Any:
    """Returns the store through which processes on several machines connect.

    The first process opens it on a free port, and writes host and port to a shared file.

    Args:
        path: of that file; it must not exist before.
        host: the name of this machine for the others.
        process: this process.
        seconds: how long to wait for the first process.

    Raises:
        TimeoutError: if the first process did not write the file.
    """
    timeout = datetime.timedelta(seconds=seconds)
    open_store: Any = dist.TCPStore  # type: ignore[attr-defined]  # public, but not for mypy
    if process.rank == 0:
        store = open_store(
            host, 0, process.world_size, is_master=True, timeout=timeout, wait_for_workers=False
        )
        write_json(path, {"host": host, "port": store.port})
        return store
    deadline = time.monotonic() + seconds
    while (address := read_json(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the first process did not write its address to {path}")
        time.sleep(0.1)
    return open_store(
        address["host"], address["port"], process.world_size, is_master=False, timeout=timeout
    )
