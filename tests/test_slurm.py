"""Whole studies on a real SLURM, as a user would start them, and what may happen to them there.

Each fault's run is compared with one that nothing happened to: the weights must be the same bits.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import documents
import pytest
from cluster import Cluster
from command_line import PATIENCE
from product import ROOT, Product, same

from modernize import build
from modernize.steps import STEPS
from modernize.weights import write

pytestmark = pytest.mark.slow


def test_many_steps_as_one_array(cluster: Cluster, few_images: Path, tmp_path: Path) -> None:
    """The main job: submitted, followed and collected; no run is trained twice."""
    product = Product(cluster, tmp_path, few_images, "epochs=1", "warmup_epochs=0")
    script = product.submit("--until", "width", "--dry-run")
    assert "#SBATCH --array=0-5%3" in script
    assert not product.study.exists()

    with cluster.drained():
        assert "Submitted 6 runs" in product.submit("--until", "width")
        assert "6 queued" in product.command("status")
        assert "Nothing to submit" in product.submit("--until", "width")
        jobs = product.jobs()
    assert len({job.partition("_")[0] for job in jobs}) == 1  # one call, one array
    product.wait_until(lambda: any(" RUNNING" in job for job in product.jobs()))
    assert sum(" RUNNING" in job for job in product.jobs()) <= 3
    product.wait_for_end()

    assert "6 finished" in product.command("status")
    assert product.command("collect").count("finished") == 6
    assert (product.study / "roadmap.png").exists()
    assert "epoch 1 of 1" in product.command("logs", "--step", "width")
    assert "Nothing to submit" in product.submit("--until", "width")
    for step in STEPS[:6]:
        assert product.history(step.key) == ["started"]
        record = json.loads((product.run_folder(step.key) / "record.json").read_text())
        assert len(record["provenance"]["commit"]) == 40


def test_the_session_of_the_document(cluster: Cluster, few_images: Path, tmp_path: Path) -> None:
    """Its commands, on fewer images and for one epoch; they print the lines that it shows."""
    product = Product(cluster, tmp_path, few_images)
    document = ROOT / "docs" / "cluster.md"
    for name, text in documents.files(document).items():
        (tmp_path / name).write_text(text)
    [session] = [b for b in documents.blocks(document, "console") if b.name == "slurm"]
    for words, output in session.commands():
        shorter = ["--data", str(few_images), "--set", "epochs=1", "--set", "warmup_epochs=0"]
        more = shorter if "--executor" in words else []
        said = product.run(*words[2:], *more, cwd=tmp_path).splitlines()
        for shown in output.splitlines():
            beginning = documents.beginning(shown)
            assert shown == "..." or any(line.startswith(beginning) for line in said), (shown, said)


def test_custom_layers_are_copied(cluster: Cluster, few_images: Path, tmp_path: Path) -> None:
    """Jobs train the study as it was submitted, even if its files are edited while they wait."""
    product = Product(cluster, tmp_path, few_images, "epochs=1", "warmup_epochs=0")
    files = documents.files(ROOT / "docs" / "studies.md")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    asked = ["--study", str(tmp_path / "star.yaml")]
    assert "#SBATCH --array=0-1" in product.submit(*asked, "--dry-run")
    assert not product.study.exists()
    with cluster.drained():
        assert "Submitted 2 runs" in product.submit(*asked)
        (tmp_path / "my_layers.py").write_text("raise SystemExit('the edited file')")
        (tmp_path / "star.yaml").write_text("no study any more")
    product.wait_for_end()
    assert "2 finished" in product.command("status")
    assert "epoch 1 of 1" in product.command("logs", "--step", "star-relu")
    assert product.command("collect").count("finished") == 2


RECIPES = """
title: Label smoothing and width
seeds: 2
preset: nano
base: {until: ln, key: base}
variants:
  - {key: none, recipe: {label_smoothing: 0, ema_decay: 0.9}}
  - {key: wide, fields: {width: 16}, recipe: {learning_rate: 0.002}}
"""


def test_variants_of_the_recipe(cluster: Cluster, few_images: Path, tmp_path: Path) -> None:
    """Each job trains with its variant's recipe; the commands have them as variants of networks."""
    product = Product(cluster, tmp_path, few_images, "epochs=1", "warmup_epochs=0")
    (tmp_path / "recipes.yaml").write_text(RECIPES)
    assert "Submitted 6 runs" in product.submit("--study", str(tmp_path / "recipes.yaml"))
    product.wait_for_end()
    assert "6 finished" in product.command("status")
    values = {}
    for step in ("base", "none", "wide"):
        config = json.loads((product.run_folder(step) / "config.json").read_text())
        recipe = config["recipe"]
        values[step] = recipe["label_smoothing"], recipe["ema_decay"], recipe["learning_rate"]
        record = json.loads((product.run_folder(step) / "record.json").read_text())
        assert record["status"] == "finished"
    base = values["base"]
    assert base[0] > 0
    assert values == {"base": base, "none": (0, 0.9, base[2]), "wide": (*base[:2], 0.002)}
    [first, none, wide] = json.loads(product.command("compare", "--format", "json"))
    assert (first["n"], none["n"], wide["n"]) == (2, 2, 2)
    assert [none["baseline"], wide["baseline"]] == ["base", "base"]
    assert none["change"] is not None
    assert none["ema_top1"] is not None
    assert first["ema_top1"] is None


def test_a_custom_data_set_is_copied(cluster: Cluster, tmp_path: Path) -> None:
    """Jobs run the file as it was submitted."""
    for name, text in documents.files(ROOT / "docs" / "data.md").items():
        (tmp_path / name).write_text(text)
    file = tmp_path / "squares.py"
    settings = ["data.name=custom", "batch_size=32", "micro_batch_size=16", "epochs=1"]
    product = Product(cluster, tmp_path / "results", file, *settings, "warmup_epochs=0")
    with cluster.drained():
        assert "Submitted 1 run" in product.submit("--only", "ln")
        file.write_text("raise SystemExit('the edited file')")
    product.wait_for_end()
    assert "1 finished" in product.command("status")


SOME = ["epochs=12", "warmup_epochs=1"]
FAULTS = ["patchify", "depthwise", "width", "gelu"]


@pytest.fixture(scope="module")
def undisturbed(
    cluster: Cluster, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Product:
    """The runs that other tests disturb, trained by the local queue."""
    product = Product(cluster, tmp_path_factory.mktemp("undisturbed"), tiny_images, *SOME)
    product.run("--only", ",".join(FAULTS), *product.launching, "--executor", "local", cores=2)
    return product


def test_faults_change_nothing(
    cluster: Cluster, tiny_images: Path, tmp_path: Path, undisturbed: Product
) -> None:
    """A preemption, a SIGKILL, a requeue by an operator, a node that dies."""
    product = Product(cluster, tmp_path, tiny_images, *SOME)
    product.configure("max_running: 4")
    submitter = subprocess.Popen(
        [sys.executable, str(ROOT / "run_roadmap.py"), "--only", ",".join(FAULTS),
         *product.launching, "--executor", "slurm", "--slurm-config", str(product.slurm_config)],
        env=product.environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    product.wait_until(lambda: bool(product.jobs()))
    submitter.kill()  # SLURM has its jobs
    submitter.wait()
    pids = {step: product.suspend(step) for step in FAULTS}
    job = {step: product.owner(step)["job"] for step in FAULTS}
    os.kill(pids["depthwise"], signal.SIGKILL)
    cluster.command("scancel", "--signal=USR2", job["patchify"])
    product.resume(pids["patchify"], after=signal.SIGUSR2)
    cluster.command("scontrol", "requeue", job["width"])
    product.wait_until(lambda: product.history("patchify")[-1] != "started")
    lost = re.compile(r"depthwise .*\blost\b")
    product.wait_until(lambda: lost.search(product.command("status")) is not None)
    node = cluster.command("squeue", "-h", "-j", job["gelu"], "-o", "%N").strip()
    cluster.power_off(node)
    cluster.start_node(node)
    product.submit("--only", ",".join(FAULTS))  # the killed run
    product.wait_for_end()

    assert "4 finished" in product.command("status")
    assert product.history("patchify")[:2] == ["started", "preempted"]
    for step in FAULTS:
        assert product.history(step).count("started") >= 2, step
        assert same(product.weights(step), undisturbed.weights(step)), step
        ours, theirs = (p.run_folder(step) / "metrics.jsonl" for p in (product, undisturbed))
        assert ours.read_text() == theirs.read_text()


def test_a_run_continues_after_its_time_limit(
    cluster: Cluster, tiny_images: Path, tmp_path: Path, undisturbed: Product
) -> None:
    """A run that is suspended outlasts the warning on a machine of any speed.

    Limits are whole minutes, and SLURM checks them every half minute.
    """
    product = Product(cluster, tmp_path, tiny_images, *SOME)
    product.configure("time_limit_minutes: 1", "warning_seconds: 50")
    product.submit("--only", "width")
    pid = product.suspend("width")
    product.resume(pid, after=signal.SIGUSR2)
    product.wait_for_end()
    assert product.history("width")[:3] == ["started", "preempted", "started"]
    assert "1 finished" in product.command("status")
    assert same(product.weights("width"), undisturbed.weights("width"))


def test_two_nodes_share_a_run(cluster: Cluster, tiny_images: Path, tmp_path: Path) -> None:
    """The bits of two processes on one machine, though one was killed and the run was preempted."""
    write(build("ln", "nano", num_classes=4, in_channels=1), tmp_path / "start.pth", "ours")
    start = f"start={tmp_path / 'start.pth'}", "layer_decay=0.8", "ema_decay=0.9"
    product = Product(cluster, tmp_path / "slurm", tiny_images, *SOME, *start)
    product.configure("nodes: 2")
    product.submit("--only", "ln")
    pid = product.suspend("ln")
    product.kill_rank(1)  # the other process needs it
    product.resume(pid)
    product.wait_for_end()
    assert "1 finished" not in product.command("status")
    done = product.epochs_done("ln")
    product.submit("--only", "ln")  # continues
    product.wait_until(lambda: product.history("ln").count("started") == 2)
    product.wait_until(lambda: product.epochs_done("ln") > done)
    pid = product.suspend("ln")
    [job] = [line.split()[0] for line in product.jobs()]
    cluster.command("scancel", "--signal=USR2", job.removesuffix("_N/A"))
    product.resume(pid, after=signal.SIGUSR2)
    product.wait_for_end()
    assert product.history("ln") == ["started", "started", "preempted", "started"]
    record = json.loads((product.run_folder("ln") / "record.json").read_text())
    assert record["status"] == "finished"
    assert record["provenance"]["processes"] == 2

    alone = Product(cluster, tmp_path / "local", tiny_images, *SOME, *start)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *torchrun, str(ROOT / "run_roadmap.py"), "--only", "ln", *alone.launching],
        env=alone.environment, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE,
    )  # fmt: skip
    assert same(product.weights("ln"), alone.weights("ln"))


def test_cancelled_runs_continue_when_submitted_again(
    cluster: Cluster, few_images: Path, tmp_path: Path
) -> None:
    product = Product(cluster, tmp_path, few_images, "epochs=4", "warmup_epochs=0")
    product.configure("max_running: 1", "max_array_size: 2")
    with cluster.drained():
        assert "Submitted 4 runs" in product.submit("--until", "patchify")
        assert len({job.partition("_")[0] for job in product.jobs()}) == 2  # two arrays in turn
    product.suspend("resnet")
    assert "1 job " in product.command("cancel", "--only", "recipe")
    assert "3 jobs" in product.command("cancel")
    product.wait_for_end()
    assert "0 jobs" in product.command("cancel")
    shown = product.command("status")
    assert "launch again to continue" in shown
    assert "3 missing" in shown
    product.slurm_config.write_text("max_running: 4")
    product.submit("--only", "resnet")
    product.wait_for_end()
    assert product.history("resnet") == ["started", "cancelled", "started"]
    assert "1 finished" in product.command("status")


def test_refusals_of_slurm_name_the_key(cluster: Cluster, few_images: Path, tmp_path: Path) -> None:
    product = Product(cluster, tmp_path, few_images)
    for line, message in [
        ("partition: nowhere", "invalid partition specified: nowhere.* key partition"),
        ("memory: 900000G", "key memory"),
        ("gpus_per_node: 2", "key nodes, cpus_per_task or gpus_per_node"),
        ("constraint: h100", "key constraint"),
    ]:
        product.configure(line)
        executor = ["--executor", "slurm", "--slurm-config", str(product.slurm_config)]
        said = product.run("--only", "ln", *product.launching, *executor, status=1)
        assert re.search(message, said), said
    assert product.jobs() == []
    assert "1 missing" in product.command("status")
