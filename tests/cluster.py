"""A real SLURM on this machine, on loopback and in one folder, that lives as long as its test."""

import collections
import contextlib
import ctypes
import itertools
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Self

SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # where Debian has the daemons
DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "scancel", "scontrol", "squeue", "sinfo", "sacct")
START_SECONDS = 120
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def require_slurm() -> None:
    """Skips the test where SLURM is not installed; fails it in CI, where it must be."""
    import pytest  # not for the daemons' inits, which are small without it

    missing = [name for name in (*DAEMONS, *CLIENTS) if not shutil.which(name, path=SEARCH)]
    if missing:
        reason = (
            f"no {', '.join(missing)}; Debian and Ubuntu: "
            "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
        )
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Cluster:
    """A controller and some nodes; `env` says to a process's environment that they are its cluster.

    They die with the thread that started them: not only when the test ends, but also when pytest is
    killed.

    Args:
        nodes: how many. Their names are IPv4 addresses to gloo, as other names would not resolve.
        cpus: of each node, whatever the machine has.
        gpus: of each node, on paper.
        accounting: whether sacct works; on sites without accounting it fails.
        extra: lines of slurm.conf; they count where they set again what is set here.
    """

    def __init__(
        self,
        nodes: int = 2,
        cpus: int = 8,
        gpus: int = 0,
        accounting: bool = False,
        extra: str = "",
    ) -> None:
        # Sockets have paths of 107 characters at most, pytest's folders are too deep for them.
        self.root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.nodes = [f"0x7f{number:06x}" for number in range(1, nodes + 1)]
        self.env = {
            "SLURM_CONF": str(self.root / "slurm.conf"),
            "PATH": f"{self.root / 'bin'}:{SEARCH}",
            "GLOO_SOCKET_IFNAME": "lo",
        }
        self._inits: dict[str, subprocess.Popen[bytes]] = {}
        self._configure(cpus, gpus, extra)
        self._wrap_clients(accounting)

    def __enter__(self) -> Self:
        socket = f"--socket={self.root}/munge.socket"
        files = [f"--{file}-file={self.root}/munge.{file}" for file in ("key", "pid", "seed")]
        try:
            self._start("munged", "munged", "--foreground", "--force", socket, *files)
            self._wait_for("munged", "MUNGE", "munge", "--no-input", socket)
            self._start("slurmctld", "slurmctld", "-D")
            self._wait_for("slurmctld", ".* UP", "scontrol", "ping")
            for name in self.nodes:
                self.start_node(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_node(self, name: str) -> None:
        """Switches a node on again, and returns when the controller has it back."""
        self._start(name, "slurmd", "-D", "-N", name)
        up = r"(idle|mixed|allocated|completing)\s"  # not idle*, which does not respond
        self._wait_for(name, up, "sinfo", "-hN", "-n", name, "-o", "%T")

    def power_off(self, name: str) -> None:
        """Kills a node's slurmd and its jobs' processes at once, before any can tell of it."""
        init = self._inits.pop(name)
        init.terminate()
        init.wait()

    @contextlib.contextmanager
    def drained(self) -> Iterator[None]:
        """Lets no job start while the body runs."""
        for name in self.nodes:
            self.command("scontrol", "update", f"node={name}", "state=drain", "reason=test")
        try:
            yield
        finally:
            for name in self.nodes:
                self.command("scontrol", "update", f"node={name}", "state=resume")

    def stop(self) -> None:
        """Powers everything off and removes the folder."""
        for name in reversed(list(self._inits)):
            self.power_off(name)
        shutil.rmtree(self.root, ignore_errors=True)

    def command(self, *argv: str) -> str:
        """Runs a command such as squeue, and returns its output.

        Raises:
            RuntimeError: if it fails, with its message.
        """
        environment = {**os.environ, **self.env}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr or done.stdout}")
        return done.stdout

    def _start(self, name: str, *daemon: str) -> None:
        with (self.root / f"{name}.out").open("ab") as out:
            self._inits[name] = subprocess.Popen(
                [sys.executable, __file__, "init", str(os.getpid()), *daemon],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **self.env},
                start_new_session=True,  # away from the terminal's Ctrl-C
            )

    def _wait_for(self, name: str, answer: str, *argv: str) -> None:
        """Waits for a daemon, until a command's output begins like the answer."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(RuntimeError):
                if re.match(answer, self.command(*argv)):
                    return
            if self._inits[name].poll() is not None or time.monotonic() > deadline:
                said = (self.root / f"{name}.out").read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"{name} did not start:\n{said}")
            time.sleep(0.02)

    def _configure(self, cpus: int, gpus: int, extra: str) -> None:
        root, host = self.root, socket.gethostname().partition(".")[0]
        (root / "munge.key").write_bytes(secrets.token_bytes(128))
        (root / "munge.key").chmod(0o600)
        root.chmod(0o755)  # munged wants everyone to reach its socket
        ports = _free_ports(1 + len(self.nodes))
        gres = []
        for number in range(gpus):  # a GPU is a character device
            (root / f"nvidia{number}").symlink_to("/dev/null")
            gres += [f"NodeName={node} Name=gpu File={root}/nvidia{number}" for node in self.nodes]
        (root / "gres.conf").write_text("\n".join([*gres, ""]))
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} "
            f"RealMemory=256000 Gres=gpu:{gpus}"
            for name, port in zip(self.nodes, ports[1:], strict=True)
        )
        # Job ids differ from cluster to cluster, as submitit remembers ids for ever. cred_expire is
        # how long a job waits after a requeue. 22.05 ignores preempt_send_user_signal among the
        # SchedulerParameters, where its manual has it.
        (root / "slurm.conf").write_text(f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={os.getuid()}
SlurmdUser={os.getuid()}
AuthInfo=socket={root}/munge.socket,cred_expire=5
StateSaveLocation={root}/state
SlurmctldPidFile={root}/slurmctld.pid
SlurmdSpoolDir={root}/%n
SlurmdPidFile={root}/%n.pid
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=batch_sched_delay=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
FirstJobId={1_000 + secrets.randbelow(1_000_000)}
MinJobAge=3600
JobRequeue=1
ReturnToService=2
SlurmdTimeout=5
MessageTimeout=5
KillWait=2
{extra}
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=30
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
""")

    def _wrap_clients(self, accounting: bool) -> None:
        """Makes clients that need no SLURM_CONF, as submitit's clean_env deletes it."""
        (self.root / "bin").mkdir()
        for name in CLIENTS:
            target = shutil.which(name, path=SEARCH) or name
            if name == "sacct" and accounting:
                target = f"{sys.executable} {__file__} sacct"
            wrapper = self.root / "bin" / name
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.root}/slurm.conf exec {target} "$@"\n')
            wrapper.chmod(0o755)


def _free_ports(count: int) -> list[int]:
    """Ports below those that submitit (from 20000) and the system draw from."""
    free: set[int] = set()
    while len(free) < count:
        port = 10_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            free.add(port)
    return list(free)


def _sacct(argv: list[str]) -> None:
    """What sacct says of jobs, as far as submitit asks, from the controller's memory."""
    print("JobID|State|NodeList")
    for job in [value for flag, value in itertools.pairwise(argv) if flag == "-j"]:
        shown = subprocess.run(["scontrol", "-o", "show", "job", job], stdout=-1, text=True)
        for line in shown.stdout.splitlines():
            field = dict(re.findall(r"(\w+)=(\S*)", line))
            name = field["JobId"]
            if "ArrayJobId" in field:
                task = field["ArrayTaskId"]  # of those that wait: 3-5,7%2
                name = f"{field['ArrayJobId']}_{task if task.isdigit() else f'[{task}]'}"
            print(name, field["JobState"], field["NodeList"], sep="|")


def _init(parent: int, daemon: list[str]) -> NoReturn:
    """Runs a daemon in a tree of processes that ends as one: at SIGTERM, or with the parent."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what leaves its parent stays in the tree
    signal.signal(signal.SIGTERM, lambda *_: _end_tree())
    prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() == parent:  # else it is gone already
        subprocess.Popen(daemon)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            os._exit(1)


def _end_tree() -> NoReturn:
    """Stops all that is below this process before it kills any: nobody sees another one die."""
    number = signal.SIGSTOP
    while True:
        for pid in below(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            os._exit(0)
        number = signal.SIGKILL
        time.sleep(0.002)


def below(root: int) -> list[int]:
    """The processes below one, parents first."""
    children = collections.defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]
            children[int(parent)].append(int(stat.parent.name))
    tree = [root]
    for pid in tree:
        tree.extend(children[pid])
    return tree[1:]


if __name__ == "__main__":
    if sys.argv[1] == "init":
        _init(int(sys.argv[2]), sys.argv[3:])
    _sacct(sys.argv[2:])
