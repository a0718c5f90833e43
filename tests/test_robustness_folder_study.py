"""A study on the sets in folders: each run by itself, jobs, an interruption, the moving average."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cluster import Cluster
from command_line import call
from product import Product
from robustness_folders import CLASSES, corrupted, fill

from ablations.cli import cli
from ablations.robustness import folders as on_folders
from ablations.robustness.sets import class_names

SIZE = (32, 32)
SETTINGS = (
    "data.name=image-folder", "data.image_size=32", "data.resize=32", "data.mean=null",
    "data.std=null", "epochs=1", "warmup_epochs=0", "batch_size=25", "micro_batch_size=25",
    "ema_decay=0.9", "learning_rate=0.01", "compute.workers=0",
)  # fmt: skip


def imagenet(root: Path) -> Path:
    """Images of all 1,000 classes, most of them of three, which a network learns at once."""
    order = sorted(class_names(), key=lambda name: (name not in CLASSES, name))
    fill(root / "train", 0, classes=order, size=SIZE)
    fill(root / "val", 1, classes=order, size=SIZE)
    for number in range(2, 100):
        fill(root / "train", number, name=f"{number}.png", size=SIZE)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a study of two steps with two seeds."""
    root = tmp_path_factory.mktemp("study-on-folders")
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    asked = ["--name", "study", "--results", str(root), "--data", str(imagenet(root / "images"))]
    steps = ["--only", "resnet,gelu", "--seeds", "2", "--executor", "debug"]
    cli([*words, *asked, *steps], standalone_mode=False)
    for path in root.glob("study/runs/*/record.json"):  # not collapsed, which they may be
        path.write_text(json.dumps({**json.loads(path.read_text()), "status": "finished"}))
    return root


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    """A copy of the results folder."""
    shutil.copytree(trained / "study", tmp_path / "results" / "study")
    return tmp_path / "results"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that name two sets; their images are twice as large as the network sees."""
    root = tmp_path_factory.mktemp("sets")
    fill(root / "sketch", 300)
    corrupted(root / "c-bar", "imagenet-c-bar")
    return ["--imagenet-c-bar", str(root / "c-bar"), "--sketch", str(root / "sketch")]


SCORES = {"imagenet_c_bar_ce", "sketch_top1"}
QUICK = ("--workers", "0")


def rows(results: Path, *arguments: str | Path) -> list[dict[str, str]]:
    """The table's rows; lines of progress are before it."""
    said = call("robustness", *arguments, *QUICK, "--results", results, "--format", "csv")
    lines = said.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("network,"))
    return list(csv.DictReader(lines[header:]))


@pytest.mark.integration
@pytest.mark.parametrize("average", [(), ("--ema",)])
def test_each_step_has_the_mean_over_its_runs(
    average: tuple[str, ...], results: Path, folders: list[str], tmp_path: Path
) -> None:
    table = rows(results, "study", *folders, *average, "--jobs", "2")
    assert [row["network"] for row in table] == ["resnet", "gelu"]
    for row in table:
        alone = [
            rows(tmp_path / "alone", "--weights", run, *folders, *average)[0]
            for run in sorted(results.glob(f"study/runs/{row['network']}-seed*"))
        ]
        assert row["runs"] == "2"
        for name in SCORES:
            scores = [float(one[name]) for one in alone]
            assert float(row[name]) == pytest.approx(np.mean(scores))
            assert float(row[f"{name}_std"]) == pytest.approx(np.std(scores, ddof=1))
    assert any(float(row["sketch_top1"]) > 0 for row in table)


@pytest.mark.integration
def test_the_moving_average_is_another_network(results: Path, folders: list[str]) -> None:
    plain, average = (rows(results, "study", *folders, *more) for more in ((), ("--ema",)))
    assert plain != average


@pytest.mark.integration
def test_an_interrupted_evaluation_goes_on(
    results: Path, folders: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(results, tmp_path / "whole")
    whole = rows(tmp_path / "whole", "study", *folders)
    real, counted = on_folders.evaluate_weights, []

    def stops(*arguments: object, **options: object) -> object:
        counted.append(1)
        if len(counted) in (8, 100):
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(on_folders, "evaluate_weights", stops)
    here = ("--executor", "debug", *QUICK, "--results", results)
    for _ in range(2):
        assert "continues" in call("robustness", "study", *folders, *here, status=130)
    assert rows(results, "study", *folders, "--executor", "debug") == whole
    assert len(counted) == 4 * 51 + 2  # every part once, and the two that were interrupted
    assert rows(results, "study", *folders) == whole
    assert len(counted) == 4 * 51 + 2


@pytest.mark.integration
def test_faults_are_named_before_the_evaluation(results: Path, folders: list[str]) -> None:
    for arguments, named in (
        (("--relative-to", "gelu"), ["--relative-to"]),
        (("--step", "ln"), ["ln", "no finished run"]),
        (("--regime", "resnet200"), ["--regime"]),
        (("--precision", "fp16"), ["fp16"]),
    ):
        if "fp16" in arguments and torch.cuda.is_available():
            continue
        said = call("robustness", "study", *folders, *arguments, "--results", results, status=2)
        assert all(name in said for name in named), said
    assert not (results / "study" / "robustness").exists()


@pytest.mark.slow
def test_a_slurm_job_for_each_run(cluster: Cluster, results: Path, folders: list[str]) -> None:
    product = Product(cluster, results, results)
    asked = [*folders, *QUICK, "--executor", "slurm", "--slurm-config", str(product.slurm_config)]
    refused = product.command("robustness", *asked, "--precision", "auto", status=2)
    assert "--precision" in refused
    with cluster.drained():
        assert "Submitted 4 runs" in product.command("robustness", *asked)
        assert "4 runs with SLURM" in product.command("robustness", *asked)  # not again
        half = product.command("robustness", *asked, "--precision", "fp16")  # not of this machine
        assert "4 runs with SLURM" in half
        assert len(product.jobs()) == 4
    product.wait_for_end()
    said = product.command("robustness", *asked, "--format", "csv")
    table = list(csv.DictReader(said.splitlines()[-3:]))
    shutil.rmtree(results / "study" / "robustness")
    assert table == rows(results, "study", *folders)
