"""The commands as a user gives them, on the SLURM of a test, and the files that they leave."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cluster import Cluster
from command_line import PATIENCE

from ablations.records import WEIGHTS

ROOT = Path(__file__).parent.parent


class Product:
    """The commands, on one study in one folder.

    Args:
        cluster: which SLURM they find.
        results: the folder of the study's folder.
        images: what is trained on.
        settings: more of the preset's keys, as `--set` takes them.
        program: the program, where it is not this one but a copy.
    """

    def __init__(
        self,
        cluster: Cluster,
        results: Path,
        images: Path,
        *settings: str,
        program: Path = ROOT / "run_roadmap.py",
    ) -> None:
        self.cluster, self.results, self.program = cluster, results, program
        results.mkdir(exist_ok=True)
        self.study = results / "study"
        self.slurm_config = results / "slurm.yaml"
        self.environment = {**os.environ, **cluster.env, "OMP_NUM_THREADS": "1"}
        self.environment["LOGNAME"] = "nobody"  # every user finds the jobs
        self.environment.pop("SLURM_CONF")  # the commands' wrappers know it
        self.launching = ["--name", "study", "--results", str(results), "--data", str(images)]
        for setting in ("batch_size=100", "micro_batch_size=50", *settings):
            self.launching += ["--set", setting]
        self.configure("max_running: 3")

    def configure(self, *lines: str) -> None:
        self.slurm_config.write_text("\n".join(["setup: ['export OMP_NUM_THREADS=1']", *lines, ""]))

    def run(
        self, *arguments: str, status: int = 0, cores: int | None = None, cwd: Path | None = None
    ) -> str:
        """Runs a command; on few cores, for a run's threads, which decide how sums are rounded."""
        command = [sys.executable, str(self.program), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=PATIENCE,
            cwd=cwd,
            preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores]),
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def submit(self, *arguments: str) -> str:
        executor = ["--executor", "slurm", "--slurm-config", str(self.slurm_config)]
        return self.run(*arguments, *self.launching, *executor)

    def command(self, name: str, *arguments: str, status: int = 0) -> str:
        return self.run(name, str(self.study), *arguments, status=status)

    def jobs(self) -> list[str]:
        """Every job that waits or runs: "number_index STATE"."""
        return self.cluster.command("squeue", "-h", "-r", "-o", "%F_%K %T").splitlines()

    def run_folder(self, step: str) -> Path:
        return next((self.study / "runs").glob(f"{step}-seed0-*"))

    def history(self, step: str) -> list[str]:
        lines = (self.run_folder(step) / "history.jsonl").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.command("status")
            time.sleep(0.05)

    def wait_for_checkpoint(self, step: str) -> None:
        self.wait_until(lambda: any(self.study.glob(f"runs/{step}-*/checkpoint-*.pt")))

    def owner(self, step: str) -> dict[str, Any]:
        """The process that trains a step's run: its number, and that of its job."""
        owner: dict[str, Any] = json.loads((self.run_folder(step) / "owner.json").read_text())
        return owner

    def suspend(self, step: str) -> int:
        """Suspends a run, however fast the machine is, between its first checkpoint and its end."""
        self.wait_for_checkpoint(step)
        pid = int(self.owner(step)["pid"])
        os.kill(pid, signal.SIGSTOP)
        self.wait_until(lambda: _process_status(pid)["State"] == "T")
        return pid

    def resume(self, pid: int, after: signal.Signals | None = None) -> None:
        """Continues a suspended process, as soon as a signal is pending if one is to come."""
        self.wait_until(lambda: after is None or _has_signal(pid, after))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def kill_rank(self, rank: int) -> None:
        """Kills one of the processes that share a run, as a node short of memory does."""
        wanted = {f"SLURM_PROCID={rank}", f"SLURM_CONF={self.cluster.root}/slurm.conf"}
        killed = 0
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                process = environment.parent
                command = (process / "cmdline").read_bytes().split(b"\0")
                values = set(environment.read_text(errors="replace").split("\0"))
                if b"submitit.core._submit" in command and wanted <= values:
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
        assert killed == 1

    def epochs_done(self, step: str) -> int:
        metrics = self.run_folder(step) / "metrics.jsonl"
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def wait_for_end(self) -> None:
        self.wait_until(lambda: not self.jobs())

    def weights(self, step: str) -> dict[str, torch.Tensor]:
        loaded = torch.load(self.run_folder(step) / WEIGHTS, weights_only=True)
        return dict(loaded["network"])


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def _process_status(pid: int) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M))


def _has_signal(pid: int, number: signal.Signals) -> bool:
    """Whether a signal is pending for a suspended process, or the process is not suspended."""
    try:
        status = _process_status(pid)
    except OSError:
        return True
    return status["State"] != "T" or bool(int(status["ShdPnd"], 16) >> (number - 1) & 1)
