"""What a job would refuse is refused before: by planning, --dry-run, and at submission."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablations import fit
from ablations.fit import Machine, RunSetup, check
from ablations.launching import scheduler
from ablations.launching.slurm_config import EXAMPLE, load_slurm_config
from ablations.recipe import load_preset
from ablations.tasks.registry import make_task
from modernize import until
from modernize.closed_form import smallest_feature_map
from modernize.errors import UsageError
from modernize.network import Network

Launch = Callable[..., str]

IMAGENET = 1_281_167
HERE = Machine("cpu", here=True, python=True)


def wanted(step: str = "resnet", images: int = 10_000, **changes: Any) -> RunSetup:
    """What the preset nano trains for a step, with other values for some keys."""
    preset = load_preset("nano", [f"{key}={value}" for key, value in changes.items()])
    variant = until(step, "nano")[-1]
    recipe = preset.recipes.of(variant.training, "nano")
    spec = recipe.apply_to(variant.spec.replace(in_channels=1, num_classes=10))
    task = make_task(preset.task_choice)
    return RunSetup(recipe, spec, images, preset.data, preset.compute, task)


@pytest.mark.parametrize(
    ("one", "machine", "named"),
    [
        (wanted(batch_size=128), Machine(processes=2), "2 processes with micro_batch_size 128"),
        (wanted(batch_size=256), Machine(processes=2), ""),
        (wanted(batch_size=384), Machine(processes=2), "among 1, 3 processes"),
        (wanted(images=127), HERE, "larger than the 127 training images"),
        (wanted(images=128), HERE, ""),
        (wanted(**{"data.mean": "[0.5,0.5,0.5]"}), HERE, "data.mean is [0.5, 0.5, 0.5]"),
        (wanted(**{"data.std": "[]"}), HERE, "data.std is []"),
        (wanted(**{"data.mean": "[0.5]", "data.std": "[0.2]"}), HERE, ""),
        (
            wanted(micro_batch_size=1),
            HERE,
            "micro_batch_size 1, BatchNorm sees one value per channel",
        ),
        (wanted(micro_batch_size=1, **{"data.image_size": 64}), HERE, ""),
        (wanted("ln", micro_batch_size=1), HERE, ""),
        (wanted(micro_batch_size=1, sync_batch_norm="true"), HERE, "one value per channel"),
        (wanted(micro_batch_size=1, sync_batch_norm="true"), Machine("cuda", 8), ""),
        (wanted(micro_batch_size=64, sync_batch_norm="true"), Machine("cpu", 2), ""),
        (wanted(micro_batch_size=32), Machine("cuda", 4, local=4, gpus=2), "4 processes"),
        (wanted(micro_batch_size=32), Machine("cuda", 4, local=2, gpus=2), ""),
        (wanted(**{"compute.precision": "fp16"}), HERE, "fp16 needs a CUDA GPU, not cpu"),
        (wanted(**{"compute.precision": "fp16"}), Machine("cuda"), ""),
        (wanted(**{"compute.precision": "fp16"}), Machine(), ""),  # not known yet
    ],
)
def test_what_does_not_fit_is_named(one: RunSetup, machine: Machine, named: str) -> None:
    faults = one.faults(machine)
    assert len(faults) == bool(named)
    assert named in "".join(faults)


@pytest.mark.parametrize("preset", ["nano-detection", "nano-segmentation"])
def test_detectors_and_segmenters_are_not_compiled(preset: str) -> None:
    found = load_preset(preset, ["compute.compile=true"])
    spec, recipe = found.recipes.of_variant(until("ln", "nano")[-1], "nano")
    task = make_task(found.task_choice)
    one = RunSetup(recipe, spec, 1000, found.data, found.compute, task)
    for machine in (HERE, Machine("cuda", here=True), Machine()):
        [fault] = one.faults(machine)
        assert "compute.compile" in fault


def test_what_is_not_installed_is_missed_where_it_will_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_is_installed", lambda _: False)
    monkeypatch.setattr(fit.shutil, "which", lambda _: None)
    board = RunSetup(**{**vars(wanted()), "loggers": ("tensorboard", "wandb")})
    compiled = wanted(**{"compute.compile": "true"})
    assert "convnext-roadmap[tensorboard]" in board.faults(HERE)[0]
    assert "compiler" in compiled.faults(HERE)[0]
    assert "triton" in compiled.faults(Machine("cuda", here=True))[0]
    for elsewhere in (board, compiled):
        assert elsewhere.faults(Machine("cuda")) == []


@pytest.mark.integration
@pytest.mark.parametrize("regime", ["nano", "resnet50"])
@pytest.mark.parametrize("size", [32, 50, 64, 72])
def test_batch_norm_fails_in_torch_exactly_where_it_is_said_to(regime: str, size: int) -> None:
    for variant in until("downsample", regime):
        spec = variant.spec.replace(norm="batch", width=8, depths=(1,) * len(variant.spec.depths))
        network = Network(spec).train()
        image = torch.zeros(1, 3, size, size)
        if smallest_feature_map(spec, size) == 1:
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                network(image)
        else:
            network(image)


def test_all_faults_are_said_with_their_steps() -> None:
    items = [(f"step-{n}", wanted(images=9)) for n in range(10)]
    with pytest.raises(UsageError) as refused:
        check([*items, ("other", wanted(micro_batch_size=1, images=9))], Machine())
    lines = str(refused.value).splitlines()[1:]
    assert len(lines) == 2
    assert "step-0, " in lines[0]
    assert "9 training images" in lines[0]
    assert lines[1].startswith("  other: with micro_batch_size 1")


@pytest.mark.parametrize("regime", ["resnet50", "resnet200"])
@pytest.mark.parametrize("processes", [1, 8, 32])
def test_the_shipped_preset_fits_the_shipped_site(regime: str, processes: int) -> None:
    preset, slurm_config = load_preset("imagenet"), load_slurm_config(EXAMPLE)
    assert slurm_config.processes == 32
    machine = Machine("cuda", processes)
    for variant in until("downsample", regime):
        recipe = preset.recipes.of(variant.training, regime)
        spec = recipe.apply_to(variant.spec)
        one = RunSetup(recipe, spec, IMAGENET, preset.data, preset.compute, make_task({}))
        check([(variant.key, one)], machine)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (["--set", "batch_size=2001", "--set", "micro_batch_size=2001"], "2000 training images"),
        (["--set", "data.mean=[0.1,0.2]"], "data.mean"),
        (["--set", "compute.precision=fp16", "--executor", "debug"], "fp16"),
        (["--executor", "slurm"], "3 processes"),
    ],
)
def test_dry_runs_and_launches_refuse_what_jobs_would(
    asked: list[str], named: str, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "find_slurm", lambda: "")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "slurm.yaml").write_text("tasks_per_node: 3\n")
    slurm_config = ["--slurm-config", str(tmp_path / "slurm.yaml")]
    for more in (["--dry-run"], []):
        told = launch("--only", "resnet,recipe", *asked, *slurm_config, *more, status=2)
        assert named in told
        assert "resnet, recipe: " in told
    assert [path.name for path in tmp_path.iterdir()] == ["slurm.yaml"]


def test_plan_refuses_it_before_it_measures(launch: Launch) -> None:
    told = launch("plan", "--only", "resnet", "--set", "micro_batch_size=1", "--measure", status=2)
    assert "micro_batch_size 1" in told
