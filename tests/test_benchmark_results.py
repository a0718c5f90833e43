"""Results of the benchmark: figures, tables, files, and the real command."""

import csv
import importlib.metadata
import json
import math
import re
import sys

import pytest
from command_line import call, run_without_torch

from ablations.benchmark.results import (
    Benchmark,
    Row,
    as_texts,
    as_values,
    footnotes,
    reference_ratios,
    transformer_ratios,
)
from ablations.cli import main
from ablations.records import ResultsError
from ablations.training.device_name import cpu_name, slug
from modernize.errors import UsageError

# -- figures -------------------------------------------------------------------------------------


def row(name, library, mode, *speeds, model="", memory=None, failure=""):
    return Row(
        (name,), model, library, "1.0", 10**6, 2 * 10**9, mode, list(speeds), memory, failure
    )


def measured():
    convnext, swin = {"model": "ConvNeXt-T"}, {"model": "Swin-T"}
    rows = [
        row("downsample", "modernize", "inference", 10.0, 30.0, 20.0, **convnext, memory=5.0),
        row("downsample", "modernize", "training", 4.0, 6.0, 5.0, **convnext),
        row("downsample", "timm", "inference", 8.0, 10.0, 10.0, **convnext),
        row("downsample", "timm", "training", **convnext, failure="out of memory: 1 GiB"),
        row("downsample", "torchvision", "inference", 9.0, 9.0, 9.0, **convnext),
        row("downsample", "torchvision", "training", 5.0, 5.0, 4.0, **convnext),
        row("Swin-T", "torchvision", "inference", 5.0, 5.0, 5.0, **swin),
        row("Swin-T", "torchvision", "training", 2.0, 2.0, 2.0, **swin),
    ]
    settings = {
        "modes": ["inference", "training"], "task": "classification", "head": "",
        "batch_size": 4, "image_width": 224, "image_height": 224, "rounds": 3,
        "precision": "bf16", "memory_format": "channels-last", "compile": False, "threads": 2,
        "seconds": 0.5, "product_macs_per_second": 1e12, "device_type": "cpu",
    }  # fmt: skip
    return Benchmark("a road", "resnet50", "Some CPU", settings, {"started": 1.0}, rows)


def test_ratios_are_to_the_fastest_of_the_same_round():
    inference, training = reference_ratios(measured())
    assert (inference.theirs.library, training.theirs.library) == ("timm", "torchvision")
    assert inference.values == [10 / 8, 3.0, 2.0]
    assert inference.median == 2.0
    assert training.median == pytest.approx(1.2)
    against, _training = transformer_ratios(measured())
    assert against.values == [2.0, 6.0, 4.0]
    assert against.published == pytest.approx(1943.5 / 1325.6)
    assert _training.published is None
    lines = footnotes(measured())
    assert "downsample, timm, training: out of memory: 1 GiB" in lines
    ours = next(line for line in lines if line.startswith("downsample: ours / fastest reference: "))
    assert "inference 2.00 (1.25 to 3.00, best rounds 3.00; timm 1.0), training 1.20" in ours
    assert any("differ by up to 3.0 times" in line for line in lines)
    assert any("ours / Swin-T: inference 4.00" in s and "paper 1.47" in s for s in lines)


def test_the_table_has_medians_and_spreads():
    first, second, *_ = as_texts(measured())
    assert first["inference images/s"] == "20.0 (10.0 to 30.0)"
    assert first["MiB"] == "5"
    assert first["peak"] == "4.0 %"  # 20 images of 2 GFLOPs in a second, of 1,000
    assert first["peak "] == "3.0 %"  # 5 images, three times the FLOPs
    assert second["peak "] == ""
    assert second["training images/s"] == "out of memory"


def test_heads_have_no_share_of_the_peak():
    whole = measured()
    whole.settings |= {"task": "detection", "head": "mask-rcnn"}
    first, *_ = as_texts(whole)
    assert first["inference images/s"] == "20.0 (10.0 to 30.0)"
    assert not {"peak", "peak "} & set(first)
    assert not any(line.startswith("Peak") for line in footnotes(whole))


@pytest.mark.parametrize(
    ("where", "odd"),
    [
        (("settings", "modes"), []),
        (("settings", "rounds"), "three"),
        (("settings", "product_macs_per_second"), None),
        (("rows",), [7]),
        (("rows", 0, "images_per_second"), ["fast"]),
        (("rows", 0, "images_per_second"), [float("nan")]),
        (("rows", 0, "flops"), []),
    ],
)
def test_a_damaged_benchmark_is_named(where, odd, tmp_path):
    path, _ = measured().write(tmp_path)
    values = json.loads(path.read_text())
    inner = values
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = odd
    for content in (json.dumps(values), "{", "[" * 10**5):
        path.write_text(content)
        with pytest.raises(ResultsError, match=re.escape(str(path))):
            Benchmark.read(tmp_path)


def test_files_hold_all_that_was_measured(tmp_path):
    whole = measured()
    whole.rows[0].names = ("resnet", "recipe")
    paths = whole.write(tmp_path / "new")
    assert [path.name for path in paths] == ["benchmark.json", "benchmark.csv"]
    assert Benchmark.read(tmp_path / "new") == whole
    with paths[1].open() as file:
        rows = list(csv.DictReader(file))
    assert [r["network"] for r in rows][:3] == ["resnet", "recipe", "downsample"]
    assert rows[1]["images_per_second"] == "20.0"
    assert (rows[1]["images_per_second_min"], rows[1]["images_per_second_max"]) == ("10.0", "30.0")
    assert rows[4]["failure"] == "out of memory: 1 GiB"
    assert rows[4]["images_per_second"] == ""
    assert (float(rows[1]["share_of_peak"]), rows[4]["share_of_peak"]) == (0.04, "")
    assert {r["device"] for r in rows} == {"Some CPU"}
    assert len(rows) == len(as_values(whole)) == 9
    with pytest.raises(UsageError, match=r"no benchmark\.json"):
        Benchmark.read(tmp_path)


# -- the command ---------------------------------------------------------------------------------


def command(monkeypatch, *arguments, status=0):
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", "benchmark", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == status


@pytest.mark.integration
def test_the_command_from_measuring_to_the_chart(tmp_path, monkeypatch, capfd):
    few = ["--regime", "nano", "--only", "resnet,recipe,patchify", "--batch-size", "2",
           "--rounds", "1", "--seconds", "1e-3", "--precision", "fp32"]  # fmt: skip
    command(monkeypatch, *few, "--mode", "training", "--format", "csv", "--results", tmp_path)
    said = capfd.readouterr()
    rows = list(csv.DictReader(said.out.splitlines()))
    assert [row["network"] for row in rows] == ["resnet", "recipe", "patchify"]
    assert all(math.isfinite(float(row["images_per_second"])) for row in rows)
    assert {row["mode"] for row in rows} == {"training"}
    assert "1 round, " in said.err
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"benchmark-nano-{slug(cpu_name())}"
    assert {path.name for path in folder.iterdir()} == {"benchmark.json", "benchmark.csv"}
    written = json.loads((folder / "benchmark.json").read_text())
    assert written["settings"]["batch_size"] == 2
    assert written["settings"]["product_macs_per_second"] > 0
    assert written["provenance"]["packages"]["torch"] == importlib.metadata.version("torch")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("task", "head"), [("detection", "cascade-mask-rcnn"), ("segmentation", "upernet")]
)
def test_heads_are_measured_and_a_plan_uses_it(task, head, tmp_path, monkeypatch, capfd):
    few = ["--regime", "nano", "--only", "ln", "--batch-size", "2", "--rounds", "1"]
    fast = ["--seconds", "1e-3", "--precision", "fp32", "--task", task, "--head", head]
    command(monkeypatch, *few, *fast, "--format", "csv", "--results", tmp_path)
    rows = {row["mode"]: row for row in csv.DictReader(capfd.readouterr().out.splitlines())}
    assert set(rows) == {"inference", "training"}
    (folder,) = tmp_path.iterdir()
    assert head in folder.name
    for row in rows.values():
        assert (row["failure"], row["share_of_peak"]) == ("", "")
        assert float(row["memory_mib"]) > 0
        assert (row["task"], row["head"]) == (task, f"{head}-nano")
        assert (row["image_width"], row["image_height"]) == ("128", "128")
    [flops] = [
        row
        for row in csv.DictReader(
            call(
                "flops", "--task", task, "--regime", "nano", "--only", "ln", "--format", "csv"
            ).splitlines()
        )
        if row["head"] == head
    ]
    training = rows["training"]
    assert (training["params"], training["flops"]) == (flops["params"], flops["macs"])

    plan = ["plan", "--preset", f"nano-{task}", "--set", f"head={head}-nano", "--only", "ln"]
    plan += ["--benchmark", folder, "--format", "json"]
    [planned] = [row for row in json.loads(call(*plan)) if row["step"] == "ln"]
    seconds = 9 * 1000 / float(training["images_per_second"])
    assert planned["hours_per_run"] == pytest.approx(seconds / 3600)
    assert planned["memory_mib"] > 0
    others = ["plan", "--preset", "nano", "--only", "ln", "--benchmark", folder]
    assert f"{head}-nano" in call(*others, status=2)


def test_a_benchmark_is_drawn_again_without_measuring(tmp_path, monkeypatch, capfd):
    whole = measured()
    whole.write(tmp_path / "measured")
    drawn = tmp_path / "drawn"
    command(monkeypatch, "--redraw", tmp_path / "measured", "--output", drawn)
    assert "downsample" in capfd.readouterr().out
    assert (drawn / "throughput.png").stat().st_size > 5_000
    assert (drawn / "throughput.pdf").is_file()
    assert Benchmark.read(drawn) == whole
    column = ("--width", "3.25", "--svg-text", "--no-title", "--output", drawn)
    command(monkeypatch, "--redraw", tmp_path / "measured", *column)
    svg = (drawn / "throughput.svg").read_text()
    assert 'width="234pt"' in svg
    assert "Some CPU" in svg
    assert "a road" not in svg


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--regime", "mini"], "'mini'"),
        (["--only", "lm"], "Did you mean 'ln'?"),
        (["--mode", "trainin"], "Did you mean 'training'?"),
        (["--mode", ","], "'--mode'"),
        (["--models", "--only", "ConvNext-T"], "Did you mean 'ConvNeXt-T'?"),
        (["--models", "--regime", "nano"], "--regime"),
        (["--device", "cpu", "--precision", "fp16"], "--precision fp16"),
        (["--device", "cpu", "--precision", "tf32"], "--precision tf32"),
        (["--image-size", "8"], "8"),
        (["--head", "upernet"], "--task"),
        (["--task", "detection", "--head", "mask-rcn"], "Did you mean 'mask-rcnn'?"),
        (["--accuracy", "nowhere"], "'nowhere'"),
        (["--accuracy", "reference-nano"], "resnet50"),
        (["--regime", "nano", "--accuracy", "paper"], "nano"),
        (["--redraw", "EMPTY"], "benchmark.json"),
        (["--redraw", "EMPTY", "--rounds", "2"], "--rounds"),
        (["--rounds", "0"], "--rounds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    places = {"EMPTY": tmp_path}
    command(monkeypatch, *(places.get(a, a) for a in arguments), status=2)
    assert message in capsys.readouterr().err


@pytest.mark.integration
def test_redrawing_imports_no_torch(tmp_path):
    measured().write(tmp_path)
    run_without_torch("benchmark", "--redraw", tmp_path)
