"""A study evaluated under corruption by a real SLURM: a job for each run, submitted once."""

import json
from pathlib import Path

import pytest
from cluster import Cluster
from product import Product

pytestmark = pytest.mark.slow


def test_a_job_for_each_run(cluster: Cluster, tiny_images: Path, tmp_path: Path) -> None:
    product = Product(cluster, tmp_path, tiny_images, "epochs=1", "warmup_epochs=0")
    product.run("--only", "resnet,gelu", *product.launching, "--executor", "debug")
    for path in product.study.glob("runs/*/record.json"):  # not collapsed, which they may be
        path.write_text(json.dumps({**json.loads(path.read_text()), "status": "finished"}))
    asked = ["--executor", "slurm", "--slurm-config", str(product.slurm_config)]
    with cluster.drained():
        assert "Submitted 2 runs" in product.command("robustness", *asked)
        assert len(product.jobs()) == 2
        assert "2 runs with SLURM" in product.command("robustness", *asked)  # not again
        assert len(product.jobs()) == 2
        assert "2 finished" in product.command("status")
        assert "1 job " in product.command("cancel", "--only", "gelu")
        assert len(product.jobs()) == 1
        assert "Submitted 1 run" in product.command("robustness", *asked)
    product.wait_for_end()
    table = product.command("robustness", *asked, "--format", "csv")
    assert [line.partition(",")[0] for line in table.splitlines()[-2:]] == ["resnet", "gelu"]
    counts = [json.loads(path.read_text()) for path in product.study.glob("runs/*/robustness.json")]
    assert [len(each["parts"]) for each in counts] == [76, 76]
