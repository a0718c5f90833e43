"""The SLURM config: what runs ask for on a cluster, from a YAML file."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ablations import limits, yaml_file
from ablations.paths import expand
from ablations.yaml_file import Conflict, ConflictError, Table
from modernize.errors import UsageError

EXAMPLE = Path(__file__).parents[1] / "slurm_configs" / "example.yaml"
VARIABLE = "CONVNEXT_ROADMAP_SLURM_CONFIG"

Count = Annotated[int, Field(gt=0, le=limits.CLUSTER)]
Line = Annotated[str, Field(pattern=r"^[^\r\n]+$")]  # not empty


def _expanded(path: str) -> str:
    try:
        return expand(path)
    except UsageError as error:
        raise ValueError(str(error)) from None


class SlurmConfig(Table):
    """What one run asks SLURM for; ``slurm_configs/example.yaml`` explains each key.

    Attributes:
        partition, account, qos, constraint: options of sbatch.
        nodes, tasks_per_node: processes that train one run together; with GPUs, one per GPU.
        gpus_per_node, gpus_as, gpu_type: number and type of GPUs, and the option of sbatch.
        cpus_per_task, memory, memory_per: of each process; memory with a unit, such as ``60G``.
        time_limit_minutes: of a job; a run that needs more is queued again.
        warning_seconds: a run saves this long before the time limit.
        max_running: runs at a time.
        max_array_size: jobs in one array.
        setup: shell lines before the program.
        python: the interpreter's command; None: the interpreter that submits.
        options: other options of sbatch, by their long names.
        results: the results folder.
    """

    partition: Line | None = None
    account: Line | None = None
    qos: Line | None = None
    constraint: Line | None = None
    nodes: Count = 1
    tasks_per_node: Count | None = None
    gpus_per_node: Annotated[int, Field(ge=0, le=limits.CLUSTER)] = 0
    gpus_as: Literal["gpus-per-node", "gpus-per-task", "gres"] = "gpus-per-node"
    gpu_type: Line | None = None
    cpus_per_task: Count = 1
    memory: Annotated[str, Field(pattern=r"^[0-9]{1,12}[KMGT]?$")] | None = None
    memory_per: Literal["cpu", "gpu", "node"] = "node"
    time_limit_minutes: Annotated[int, Field(gt=0, le=limits.MINUTES)] = 60
    warning_seconds: Count = 90
    max_running: Count = 16
    max_array_size: Count = 1000
    setup: list[str] = Field(default_factory=list)
    python: Line | None = None
    options: dict[str, str | int | bool] = Field(default_factory=dict)
    results: Annotated[str, AfterValidator(_expanded)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        conflicts = []
        if self.gpus_per_node and self.tasks_per_node not in (None, self.gpus_per_node):
            conflicts.append(
                Conflict(
                    ("tasks_per_node", "gpus_per_node"),
                    f"tasks_per_node {self.tasks_per_node} must be gpus_per_node "
                    f"{self.gpus_per_node}: one process per GPU",
                )
            )
        if self.memory_per == "gpu" and not self.gpus_per_node:
            conflicts.append(
                Conflict(("memory_per", "gpus_per_node"), "memory_per gpu needs gpus_per_node")
            )
        if self.warning_seconds >= 60 * self.time_limit_minutes:
            conflicts.append(
                Conflict(
                    ("warning_seconds", "time_limit_minutes"),
                    f"warning_seconds {self.warning_seconds} must be below the time limit, "
                    f"{60 * self.time_limit_minutes} seconds",
                )
            )
        if conflicts:
            raise ConflictError(conflicts)
        return self

    @property
    def tasks(self) -> int:
        """Processes of a run on each of its nodes."""
        return self.gpus_per_node or self.tasks_per_node or 1

    @property
    def processes(self) -> int:
        """Processes of a run."""
        return self.nodes * self.tasks

    def parameters(self) -> dict[str, Any]:
        """Returns the parameters for submitit's SlurmExecutor."""
        kind = f"{self.gpu_type}:" if self.gpu_type else ""
        counts = {
            "gpus-per-node": f"{kind}{self.gpus_per_node}",
            "gpus-per-task": f"{kind}1",
            "gres": f"gpu:{kind}{self.gpus_per_node}",
        }
        more: dict[str, Any] = dict(self.options)
        if self.gpus_per_node:
            more[self.gpus_as] = counts[self.gpus_as]
        if self.memory:
            more[{"cpu": "mem-per-cpu", "gpu": "mem-per-gpu", "node": "mem"}[self.memory_per]] = (
                self.memory
            )
        given = {
            name: getattr(self, name)
            for name in ("partition", "account", "qos", "constraint")
            if getattr(self, name) is not None
        }
        return given | {
            "nodes": self.nodes,
            "ntasks_per_node": self.tasks,
            "cpus_per_task": self.cpus_per_task,
            "time": self.time_limit_minutes,
            "signal_delay_s": self.warning_seconds,
            "setup": list(self.setup),
            # If one process dies, the others must not wait for it.
            "srun_args": [f"--cpus-per-task={self.cpus_per_task}", "--kill-on-bad-exit=1"],
            "additional_parameters": more,
        }

    def command(self) -> str:
        """Returns the shell command that starts the interpreter.

        It ignores the warning signal until Python has a handler; otherwise it would end the job.
        """
        python = self.python or shlex.quote(sys.executable)
        return f"""bash -c 'trap "" USR2; exec "$@"' bash {python}"""


def load_slurm_config(path: Path | None) -> SlurmConfig:
    """Returns the config of a file; None: the file of the environment variable, or the defaults.

    Raises:
        UsageError: naming every fault at once, with file and line.
    """
    if path is None and os.environ.get(VARIABLE):
        path = Path(expand(os.environ[VARIABLE]))
    if path is None:
        return SlurmConfig()
    if not os.path.lexists(path):
        raise UsageError(f"the SLURM config {path} does not exist; {EXAMPLE} is an example.")
    values, places = yaml_file.read(path, SlurmConfig, "SLURM config")
    return yaml_file.check(values, SlurmConfig, f"the SLURM config {path.name}", places, path.name)
