"""The environment variables of torchrun, which starts several processes that train together."""

from __future__ import annotations

import dataclasses
import os

from modernize.errors import UsageError

NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclasses.dataclass(frozen=True)
class TorchrunEnvironment:
    """The process among those that train together.

    Attributes:
        rank, world_size: of this process among all; the number of processes.
        local_rank, local_world_size: the same among the processes of this machine.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int


def find_torchrun() -> TorchrunEnvironment | None:
    """Returns the environment that torchrun set, or None if this process was started alone.

    Without WORLD_SIZE a process is alone, whatever the other variables are.

    Raises:
        UsageError: for variables that torchrun cannot have set, naming all that are wrong.
    """
    faults: list[str] = []

    def number(name: str, otherwise: int, least: int) -> int:
        text = os.environ.get(name, "").strip()
        value = int(text) if text.isascii() and text.removeprefix("-").isdigit() else None
        if text and (value is None or value < least):
            faults.append(f"{name} is {text!r}, not an integer of {least} or more")
        return otherwise if value is None else value

    world = number("WORLD_SIZE", 1, 1)
    alone = not os.environ.get("WORLD_SIZE", "").strip()
    if not alone:
        rank, local_rank = number("RANK", 0, 0), number("LOCAL_RANK", 0, 0)
        local_world = number("LOCAL_WORLD_SIZE", 1, 1)
        number("MASTER_PORT", 0, 0)
        faults += [f"{name} is not set" for name in NEEDED if world > 1 and not _given(name)]
        if rank >= world > 0:
            faults.append(f"RANK is {rank}, not below WORLD_SIZE, {world}")
        if local_rank >= local_world > 1:
            faults.append(f"LOCAL_RANK is {local_rank}, not below LOCAL_WORLD_SIZE, {local_world}")
    if faults:
        raise UsageError(
            f"the environment variables of torchrun are wrong: {'; '.join(faults)}. "
            "Start the command with torchrun, or unset WORLD_SIZE and the others to train in one "
            "process."
        )
    return (
        None if alone or world == 1 else TorchrunEnvironment(rank, world, local_rank, local_world)
    )


def _given(name: str) -> bool:
    return bool(os.environ.get(name, "").strip())
