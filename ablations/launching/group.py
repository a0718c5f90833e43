"""The processes that torchrun started together, as its environment variables describe them."""

from __future__ import annotations

import dataclasses
import os

from modernize.errors import UsageError

NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclasses.dataclass(frozen=True)
class Group:
    """Several processes that train together.

    Attributes:
        rank, world_size: which of all processes this is, and how many there are.
        local_rank, local_world: the same of those on this machine.
    """

    rank: int
    world_size: int
    local_rank: int
    local_world: int


def find_group() -> Group | None:
    """Returns the group that this process is in, or None if it was started alone.

    Without WORLD_SIZE a process is alone, whatever the other variables are.

    Raises:
        UsageError: for variables that cannot be torchrun's, naming all that are wrong.
    """
    faults: list[str] = []

    def number(name: str, otherwise: int, least: int) -> int:
        text = os.environ.get(name, "").strip()
        value = int(text) if text.isascii() and text.removeprefix("-").isdigit() else None
        if text and (value is None or value < least):
            faults.append(f"{name} is {text!r}, no whole number from {least} on")
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
            f"the environment has variables of torchrun that do not fit: {'; '.join(faults)}. "
            "Start the command with torchrun, or unset WORLD_SIZE and the others to train in one "
            "process."
        )
    return None if alone or world == 1 else Group(rank, world, local_rank, local_world)


def _given(name: str) -> bool:
    return bool(os.environ.get(name, "").strip())
