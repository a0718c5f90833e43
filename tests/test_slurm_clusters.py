"""Another cluster: accounting, GPUs (fake), a partition of higher priority; the program's copy."""

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, require_slurm
from product import ROOT, Product, same

pytestmark = pytest.mark.slow

SHORT = ["epochs=1", "warmup_epochs=0"]
LONG = ["epochs=12", "warmup_epochs=1"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    require_slurm()
    with Cluster(gpus=2, accounting=True) as cluster:
        yield cluster


def test_another_job_takes_the_nodes(cluster: Cluster, tiny_images: Path, tmp_path: Path) -> None:
    """A partition of higher priority preempts the run, which is queued again by itself."""
    product = Product(cluster, tmp_path / "slurm", tiny_images, *LONG)
    product.configure("partition: main")
    product.submit("--only", "width")
    pid = product.suspend("width")
    everything = ["--nodes=2", "--exclusive", "--partition=high", "--output=/dev/null"]
    other = cluster.command("sbatch", "--parsable", *everything, "--wrap=sleep 2").strip()
    product.resume(pid, after=signal.SIGUSR2)
    product.wait_until(lambda: product.history("width")[-1] == "preempted")
    product.wait_for_end()
    assert product.history("width") == ["started", "preempted", "started"]
    assert "JobState=COMPLETED" in cluster.command("scontrol", "show", "job", other)
    shown = product.command("status")
    assert re.search(r"finished.*1 x", shown), shown

    alone = Product(cluster, tmp_path / "local", tiny_images, *LONG)
    alone.run("--only", "width", *alone.launching, "--executor", "local", cores=1)
    assert same(product.weights("width"), alone.weights("width"))


def test_the_program_is_the_one_that_was_submitted(
    cluster: Cluster, few_images: Path, tmp_path: Path
) -> None:
    """Queued jobs do not see later changes of the repository."""
    copy = tmp_path / "copy"
    for package in ("modernize", "ablations"):
        shutil.copytree(ROOT / package, copy / package)
    shutil.copy(ROOT / "run_roadmap.py", copy)
    program = copy / "run_roadmap.py"
    product = Product(cluster, tmp_path / "results", few_images, *SHORT, program=program)
    with cluster.drained():
        product.submit("--until", "recipe")
        for package in ("modernize", "ablations"):
            for module in (copy / package).rglob("*.py"):
                module.write_text("raise SystemExit('this was edited')\n")
    product.wait_for_end()
    product.program = ROOT / "run_roadmap.py"
    assert "2 finished" in product.command("status")


def test_a_preset_for_clusters_uses_slurm_by_default(
    cluster: Cluster, few_images: Path, tmp_path: Path
) -> None:
    """Its job asks for GPUs, and SLURM's accounting shows it."""
    product = Product(cluster, tmp_path, few_images, *SHORT, "cluster=true")
    product.configure("gpus_per_node: 1", "cpus_per_task: 2")
    product.environment["CONVNEXT_ROADMAP_SLURM_CONFIG"] = str(product.slurm_config)
    said = product.run("--only", "ln", *product.launching)
    assert "Executor: slurm" in said
    assert "Submitted 1 run " in said
    [job] = [line.split()[0].partition("_")[0] for line in product.jobs()]
    assert "gres:gpu:1" in cluster.command("scontrol", "show", "job", job).replace("/", ":")
    product.wait_for_end()
    assert "1 finished" in product.command("status")
    assert f"{job}|COMPLETED" in cluster.command("sacct", "-j", job, "-o", "JobID,State")


def test_a_preset_for_one_machine_stays_on_it(
    cluster: Cluster, few_images: Path, tmp_path: Path
) -> None:
    product = Product(cluster, tmp_path, few_images, *SHORT)
    said = product.run("--only", "ln", *product.launching)
    assert "Submitted" not in said
    assert product.jobs() == []
    assert "1 finished" in product.command("status")
