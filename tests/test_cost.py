"""The counted costs, against the published tables and torchvision's networks; and their cache.

The published cells are package data; only the two misprints are typed here.
"""

import dataclasses
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import timm
import torch
from torchvision import models

from ablations import paper
from modernize import cost
from modernize.errors import UsageError
from modernize.steps import STEPS, spec_of

with warnings.catch_warnings():
    # It scripts a function as it is imported, which torch calls deprecated.
    warnings.filterwarnings("ignore", message=r".*torch\.jit")
    from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis

ROOT = Path(__file__).parents[1]
# What the two cells of Table 10 that do not add up would have to print.
MISPRINTS = {("resnet50", "ln"): "4.15", ("resnet50", "downsample"): "4.46"}
NANO = spec_of("downsample", "nano")


def published():
    """Yields every row of ours with the cell the paper prints: (regime, step, "4.09")."""
    for regime in paper.TABLES:
        values = paper.printed_flops(regime)
        yield from ((regime, step, value.printed) for step, value in values.items())


def fvcore_of(network, size):
    """Parameters, FLOPs, fvcore's total and activations of any network, counted on one image."""
    image = torch.zeros(1, 3, size, size)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit")
        flops = FlopCountAnalysis(network.eval(), image).unsupported_ops_warnings(False)
        outputs = ActivationCountAnalysis(network, image).unsupported_ops_warnings(False)
        by_operator = flops.uncalled_modules_warnings(False).by_operator()
        return cost.Cost(
            parameters_of(network),
            by_operator["conv"] + by_operator["linear"],
            flops.total(),
            outputs.uncalled_modules_warnings(False).total(),
        )


def parameters_of(network):
    return sum(p.numel() for p in network.parameters())


# -- the numbers ---------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize(("regime", "step", "printed"), [*published()])
def test_every_published_cell_but_the_misprints(regime, step, printed):
    counted = f"{cost.cost(spec_of(step, regime), 224).flops / 1e9:.2f}"
    if (regime, step) in MISPRINTS:
        assert counted == MISPRINTS[regime, step] != printed
    else:
        assert counted == printed


def test_both_tables_are_there_in_full():
    rows = list(published())
    assert len(rows) == 34
    assert all(float(printed) > 1 for _, _, printed in rows)


@pytest.mark.parametrize(
    ("step", "regime", "params", "name"),
    [
        ("resnet", "resnet50", 25_557_032, "resnet50"),
        ("downsample", "resnet50", 28_589_128, "convnext_tiny"),
        ("downsample", "resnet200", 88_591_464, "convnext_base"),
    ],
)
def test_parameters_at_both_ends_are_those_of_torchvision_and_timm(step, regime, params, name):
    with torch.device("meta"):
        others = [models.get_model(name), timm.create_model(name)]
    assert [parameters_of(other) for other in others] == [params, params]
    assert cost.cost(spec_of(step, regime), 224).params == params


@pytest.mark.integration
@pytest.mark.parametrize(
    ("step", "name", "total"),
    [("resnet", "resnet50", "4.1115"), ("downsample", "convnext_tiny", "4.4704")],
)
def test_all_counts_are_fvcores_on_torchvisions_network(step, name, total):
    counted = cost.cost(spec_of(step), 224)
    assert counted == fvcore_of(models.get_model(name), 224)
    assert f"{counted.flops_total / 1e9:.4f}" == total


@pytest.mark.integration
@pytest.mark.parametrize("step", [step.key for step in STEPS])
def test_counting_on_no_images_is_counting_on_one(step):
    from modernize import build

    assert cost.count(spec_of(step, "nano"), 75) == fvcore_of(build(step, "nano"), 75)


def test_images_below_the_total_stride_are_refused():
    for ask in (cost.count, cost.cost, cost.breakdown, cost.flops_by_module):
        with pytest.raises(UsageError, match=r"31.*at least 32"):
            ask(NANO, 31)


def test_the_parts_sum_to_the_whole() -> None:
    parts = cost.parts(NANO, 32)
    whole = next(part for part in parts if (part.kind, part.name) == ("module", ""))
    operators = [part for part in parts if part.kind == "operator"]
    assert whole.flops == sum(part.flops for part in operators) == cost.count(NANO, 32).flops_total
    assert whole.activations == sum(part.activations for part in operators)
    stages = [part.flops for part in parts if re.fullmatch(r"stages\.\d", part.name)]
    assert sum(stages) == next(part.flops for part in parts if part.name == "stages")


def test_breakdown_lists_operators_and_modules():
    text = cost.breakdown(NANO, 32)
    operators = dict(line.split()[:2] for line in text.splitlines()[1:5])
    assert operators.keys() == {"conv", "linear", "layer_norm", "adaptive_avg_pool2d"}
    numbers = [int(number.replace(",", "")) for number in operators.values()]
    assert sum(numbers) == cost.count(NANO, 32).flops_total
    assert "stages.0" in text
    assert "stages.1.blocks.0" not in cost.breakdown(NANO, 32, depth=1)


@pytest.mark.parametrize("step", ["resnet", "downsample"])
def test_flops_by_module_add_up_to_the_network(step):
    spec = spec_of(step, "nano")
    flops = cost.flops_by_module(spec, 32)
    assert flops[""] == cost.count(spec, 32).flops
    assert flops[""] == flops["stem"] + flops["stages"] + flops["head"]
    assert flops["stages"] == sum(flops[f"stages.{n}"] for n in range(4))
    assert flops["head"] == spec.stream_widths[-1] * spec.num_classes


def test_flops_by_module_names_the_layers():
    flops = cost.flops_by_module(NANO, 32)
    width, positions = NANO.width, 8 * 8  # of the first stage
    spatial, expand, project = (
        flops[f"stages.0.blocks.0.branch.{n}"] for n in ("spatial", "expand", "project")
    )
    assert spatial == width * NANO.kernel_size**2 * positions
    assert expand == project == 4 * width**2 * positions


def test_counting_says_nothing(caplog, capfd):
    cost._count.cache_clear()
    cost.count(NANO, 32)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


# -- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The file of an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cost.cache_path()


@pytest.fixture
def counted(monkeypatch):
    """The specs that were counted, in order."""
    specs, count = [], cost.count

    def remember(spec, image_size):
        specs.append(spec)
        return count(spec, image_size)

    monkeypatch.setattr(cost, "count", remember)
    return specs


def test_what_was_counted_is_not_counted_again(cache, counted):
    first = cost.cost(NANO, 32)
    assert cache.is_file()
    assert cost.cost(NANO, 32) == first
    assert counted == [NANO]
    assert cost.cost(NANO, 64) != first
    assert len(counted) == 2


@pytest.mark.usefixtures("cache")
def test_what_only_training_sees_shares_an_entry(counted):
    first = cost.cost(NANO, 32)
    assert cost.cost(NANO.replace(drop_path=0.3, init="kaiming"), 32) == first
    assert cost.cost(NANO.replace(layer_scale=0.0), 32) != first
    assert len(counted) == 2


@pytest.mark.integration
@pytest.mark.usefixtures("cache")
def test_a_second_asking_imports_no_torch():
    first = cost.cost(NANO, 32)
    code = """
import dataclasses, json, sys
from modernize import cost, spec_of
print(json.dumps(dataclasses.astuple(cost.cost(spec_of("downsample", "nano"), 32))))
assert not {"torch", "fvcore", "numpy"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, check=True
    )
    assert cost.Cost(*json.loads(done.stdout)) == first


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"half": [1, 2',
        b"\xff\xfe",
        b"[1]",
        b"null",
        b'{"KEY": [1, 2, 3]}',
        b'{"KEY": [1, 2, 3, "4"]}',
        b'{"KEY": [1, 2, 3, -4]}',
        b'{"KEY": 5}',
    ],
)
def test_a_spoilt_cache_is_counted_afresh_and_mended(cache, counted, content):
    key = f"{NANO.digest()}-32"
    cache.parent.mkdir()
    cache.write_bytes(content.replace(b"KEY", key.encode()))
    first = cost.cost(NANO, 32)
    assert counted == [NANO]
    assert json.loads(cache.read_text()) == {key: list(dataclasses.astuple(first))}


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, counted):
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cost.cost(NANO, 32) == cost.cost(NANO, 32)
    assert len(counted) == 2


def test_a_folder_where_the_cache_should_be_is_left_alone(cache, counted):
    cache.mkdir(parents=True)
    assert cost.cost(NANO, 32) == cost.cost(NANO, 32)
    assert len(counted) == 2
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_entries_written_meanwhile_stay(cache, monkeypatch):
    count, other = cost.count, NANO.replace(width=8)

    def slowly(spec, image_size):
        monkeypatch.setattr(cost, "count", count)
        cost.cost(other, 32)  # what another process does while this one counts
        return count(spec, image_size)

    monkeypatch.setattr(cost, "count", slowly)
    cost.cost(NANO, 32)
    assert {key.partition("-")[0] for key in json.loads(cache.read_text())} == {
        NANO.digest(),
        other.digest(),
    }


def test_another_version_of_a_library_counts_anew(cache, monkeypatch):
    real = importlib.metadata.version
    for package in ("torch", "fvcore"):
        with monkeypatch.context() as patch:
            patch.setattr(
                importlib.metadata,
                "version",
                lambda name, p=package: real(name) + "x" * (name == p),
            )
            cost._fingerprint.cache_clear()
            assert cost.cache_path() != cache
    cost._fingerprint.cache_clear()
    assert cost.cache_path() == cache


def test_another_text_of_the_code_counts_anew(tmp_path, monkeypatch):
    for name in ("cost.py", "network.py", "ops.py", "spec.py"):
        (tmp_path / name).write_bytes((ROOT / "modernize" / name).read_bytes())
    monkeypatch.setattr(cost, "__file__", str(tmp_path / "cost.py"))
    for name in ("cost.py", "network.py", "ops.py", "spec.py"):
        cost._fingerprint.cache_clear()
        before = cost.cache_path()
        with (tmp_path / name).open("a") as file:
            file.write("# changed\n")
        cost._fingerprint.cache_clear()
        assert cost.cache_path() != before
    cost._fingerprint.cache_clear()
