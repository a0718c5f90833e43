"""Hours, memory and wall time of a plan from a benchmark."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import call

from ablations.benchmark.results import TRAINING, Benchmark, Row
from ablations.data.datasets import load_dataset
from ablations.recipe import load_preset
from ablations.studies.benchmark_speed import benchmark_speed, find_benchmarks
from ablations.studies.estimates import find_images, plan_rows, timed, wall_time
from ablations.studies.study_file import read_study
from ablations.studies.variants import resolve_study
from modernize.cost import cost
from modernize.errors import UsageError
from modernize.spec import NetSpec
from modernize.steps import until

BATCH, MIB = 32, 2**20
SPEEDS = {"resnet": 1000.0, "depthwise": 250.0, "downsample": 500.0}


def measured(activations: float = 2.0, speeds: dict[str, float] = SPEEDS) -> Benchmark:
    """Returns a benchmark of networks that take this many MiB per image beside their weights."""
    rows = []
    for variant in until("downsample", "nano"):
        if variant.key in speeds:
            params = cost(variant.spec, 32).params
            memory = 16 * params / MIB + activations * BATCH
            speed = [speeds[variant.key]]
            names, spec = (variant.key,), variant.spec.to_dict()
            rows.append(
                Row(names, "", "modernize", "1", params, 1, TRAINING, speed, memory, "", spec)
            )
    settings = {
        "modes": [TRAINING], "device_type": "cuda", "batch_size": BATCH, "image_width": 32,
        "image_height": 32, "task": "classification", "head": "",
        "precision": "bf16", "memory_format": "channels-last", "compile": False, "threads": 1,
        "rounds": 1, "product_macs_per_second": 1e12,
    }  # fmt: skip
    return Benchmark("nano", "nano", "Some GPU", settings, {}, rows)


def planned(benchmark: Benchmark, *settings: str):
    preset = load_preset("nano", settings)
    study = resolve_study(read_study("roadmap"), "nano", preset.recipes)
    rows, reference = plan_rows(study, study.variants, preset, 2, find_images(preset.data))
    speed = benchmark_speed(benchmark, Path("folder"), rows, reference, preset)
    return {row.key: row for row in timed(rows, speed)}, speed


def test_each_step_has_its_own_speed_whatever_its_flops() -> None:
    rows, speed = planned(measured())
    images = len(load_dataset(load_preset("nano").data).train)
    for key, images_per_second in SPEEDS.items():
        assert rows[key].hours == pytest.approx(5 * images / images_per_second / 3600)
    assert rows["depthwise"].cost.flops < rows["resnet"].cost.flops
    assert rows["depthwise"].hours > rows["resnet"].hours
    assert "Some GPU" in speed.how
    assert "bf16" in speed.how
    assert not speed.shared


def test_a_network_that_was_not_measured_scales_from_the_most_similar_one() -> None:
    rows, speed = planned(measured())
    near, other = rows["downsample"], rows["kernel-7"]
    assert other.hours == pytest.approx(
        rows["depthwise"].hours * other.cost.flops / rows["depthwise"].cost.flops
    )
    assert other.memory is None
    assert near.memory is not None
    assert "by the FLOPs" in speed.how


def test_memory_follows_batch_pixels_optimizer_and_average() -> None:
    rows, _ = planned(measured(activations=2.0))
    for key, copies in (("resnet", 3), ("downsample", 4)):  # SGD keeps one moment, AdamW two
        weights = 4 * rows[key].cost.params / MIB
        # The head of the benchmark's network has 1,000 classes; its weights are known to be apart.
        assert rows[key].memory == pytest.approx(copies * weights + 2 * 128)
    larger, speed = planned(measured(), "data.image_size=64", "data.resize=64")
    weights = 4 * larger["resnet"].cost.params / MIB
    assert larger["resnet"].memory == pytest.approx(3 * weights + 4 * 2 * 128)
    assert larger["resnet"].hours == pytest.approx(4 * rows["resnet"].hours)
    assert "32 x 32" in speed.how
    average, _ = planned(measured(), "recipes.classic.ema_decay=0.9", "micro_batch_size=64")
    assert average["resnet"].memory == pytest.approx(4 * weights + 2 * 64)


def test_a_benchmark_of_other_networks_is_refused() -> None:
    benchmark = measured()
    for row in benchmark.rows:
        row.spec = NetSpec(depths=(1, 1), width=8).to_dict()
    with pytest.raises(UsageError, match=r"folder.* nano"):
        planned(benchmark)


@pytest.mark.parametrize(("hours", "devices", "wall"), [
    ([3, 3, 2, 2, 2], 2, 7), ([5, 1, 1], 3, 5), ([1, 1, 1], 1, 3), ([], 2, 0),
])  # fmt: skip
def test_longest_runs_start_first(hours, devices, wall) -> None:
    assert wall_time(hours, devices) == wall


def test_the_newest_benchmark_of_the_device_is_used(tmp_path: Path) -> None:
    slow = {key: speed / 2 for key, speed in SPEEDS.items()}
    for age, (name, benchmark) in enumerate(
        {"benchmark-nano-new": measured(), "benchmark-nano-old": measured(speeds=slow)}.items()
    ):
        benchmark.write(tmp_path / name)
        os.utime(tmp_path / name / "benchmark.json", (10**9 - age, 10**9 - age))
    assert [f.name[-3:] for f, _ in find_benchmarks(tmp_path, "Some GPU")] == ["new", "old"]
    assert not list(find_benchmarks(tmp_path, "Other GPU"))
    words = ["--jobs", "4", "--seeds", "4", "--results", tmp_path]
    text = call("plan", "--benchmark", tmp_path / "benchmark-nano-new", *words)
    assert "MiB" in text
    assert "with 4 devices at a time" in text
    assert "time per run" not in call("plan", "--results", tmp_path)  # of another device
