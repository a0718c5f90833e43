"""The tests' own SLURM: what submitit sees of it, and that nothing of it stays."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import submitit
from cluster import Cluster, below, require_slurm
from command_line import PATIENCE
from submitit.core.utils import FailedJobError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    require_slurm()
    with Cluster(gpus=2, accounting=True, extra="MaxArraySize=4") as cluster:
        yield cluster


@pytest.fixture
def executor(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> submitit.AutoExecutor:
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    executor = submitit.AutoExecutor(folder=tmp_path / "submitit", cluster="slurm")
    executor.update_parameters(timeout_min=5)
    return executor


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_through_submitit(cluster: Cluster, executor: submitit.AutoExecutor) -> None:
    executor.update_parameters(gpus_per_node=2)
    say = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES; env -u SLURM_CONF squeue -h -o %T"
    job = executor.submit(subprocess.check_output, ["sh", "-c", say], text=True)
    node, devices, state = job.result().split()
    assert node in cluster.nodes
    assert devices == "0,1"
    assert state == "RUNNING"  # squeue found the cluster, though SLURM_CONF was gone


def test_sacct_tells_the_jobs_of_an_array_apart(executor: submitit.AutoExecutor) -> None:
    executor.update_parameters(slurm_array_parallelism=2)
    jobs = executor.map_array(subprocess.check_call, [["true"], ["false"], ["sleep", "0.1"]])
    assert [job.exception() is None for job in jobs] == [True, False, True]

    def states() -> list[str]:
        return [job.watcher.get_state(job.job_id, mode="force") for job in jobs]

    wait_until(lambda: states() == ["COMPLETED", "FAILED", "COMPLETED"])
    with pytest.raises(FailedJobError, match="Invalid job array"):  # for MaxArraySize
        executor.map_array(os.getenv, list("abcde"))


def test_a_dead_nodes_job_goes_on_elsewhere(
    cluster: Cluster, executor: submitit.AutoExecutor, tmp_path: Path
) -> None:
    places = tmp_path / "places"
    run = 'echo $SLURMD_NODENAME >> "$0"; [ "$SLURM_RESTART_COUNT" ] || exec sleep 1000'
    job = executor.submit(subprocess.check_call, ["sh", "-c", run, str(places)])
    wait_until(places.exists)
    wait_until(lambda: places.read_text().endswith("\n"))
    first = places.read_text().strip()
    cluster.power_off(first)
    assert job.result() == 0
    assert places.read_text().split() == [first, *{*cluster.nodes} - {first}]
    assert cluster.command("sinfo", "-h", "-p", "main", "-t", "down", "-o", "%N").strip() == first
    cluster.start_node(first)
    assert cluster.command("srun", "-w", first, "printenv", "SLURMD_NODENAME").strip() == first


def test_nothing_stays(tmp_path: Path) -> None:
    require_slurm()
    before = {*below(os.getpid())}
    with Cluster(nodes=1) as cluster:
        with pytest.raises(RuntimeError, match="accounting storage is disabled"):
            cluster.command("sacct")
        began = tmp_path / "began"
        cluster.command("sbatch", "-o/dev/null", "--wrap", f"touch {began}; setsid sleep 1000")
        wait_until(began.exists)
        started = {*below(os.getpid())} - before
    assert len(started) > 6  # three daemons, their inits, and the job
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not cluster.root.exists()


def test_a_cluster_dies_with_its_starter() -> None:
    require_slurm()
    code = "import cluster, time\nwith cluster.Cluster() as c: print(c.root); time.sleep(1000)"
    with subprocess.Popen(
        [sys.executable, "-uc", code], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout
        root = Path(starter.stdout.readline().strip())
        started = below(starter.pid)
        starter.kill()
    assert len(started) >= 8
    wait_until(lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()])
    shutil.rmtree(root)


def test_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.SEARCH", "/nowhere")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no munged, slurmctld, slurmd, .*apt-get"):
        require_slurm()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no munged"):
        require_slurm()
