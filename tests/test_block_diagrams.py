"""Blocks as text and tables of architectures: the paper's Table 9, torchvision, and marks."""

import csv
import io
import json
import re

import pytest
import torch
from command_line import call
from rich.cells import cell_len
from rich.console import Console
from torchvision import models

from ablations.diagrams import swin, text
from ablations.diagrams.blocks import block_diagrams
from ablations.studies.selection import find_network, parent_of, roadmap
from modernize import REGIMES, STEPS
from modernize.steps import until

# As the paper prints them: output, then the layers of ResNet-50, ConvNeXt-T and Swin-T.
TABLE_9 = {
    "stem": (56, "7x7, 64, stride 2; 3x3 max pool, stride 2", "4x4, 96, stride 4",
             "4x4, 96, stride 4"),
    "stage 1": (56, "[1x1, 64; 3x3, 64; 1x1, 256] x 3", "[d7x7, 96; 1x1, 384; 1x1, 96] x 3",
                "[1x1, 96x3; MSA, w7x7, H=3; 1x1, 96; 1x1, 384; 1x1, 96] x 2"),
    "stage 2": (28, "[1x1, 128; 3x3, 128; 1x1, 512] x 4", "[d7x7, 192; 1x1, 768; 1x1, 192] x 3",
                "[1x1, 192x3; MSA, w7x7, H=6; 1x1, 192; 1x1, 768; 1x1, 192] x 2"),
    "stage 3": (14, "[1x1, 256; 3x3, 256; 1x1, 1024] x 6",
                "[d7x7, 384; 1x1, 1536; 1x1, 384] x 9",
                "[1x1, 384x3; MSA, w7x7, H=12; 1x1, 384; 1x1, 1536; 1x1, 384] x 6"),
    "stage 4": (7, "[1x1, 512; 3x3, 512; 1x1, 2048] x 3",
                "[d7x7, 768; 1x1, 3072; 1x1, 768] x 3",
                "[1x1, 768x3; MSA, w7x7, H=24; 1x1, 768; 1x1, 3072; 1x1, 768] x 2"),
}  # fmt: skip
COSTS = {"ResNet-50": ("4.1", "25.6"), "ConvNeXt-T": ("4.5", "28.6"), "Swin-T": ("4.5", "28.3")}
ATTENTION = 0.15  # GMACs of Swin-T's attention, which its 4.5 include and our FLOPs do not


def table(*arguments: str) -> dict[tuple[str, str], dict[str, str]]:
    """(network, part) -> row of a table of architectures."""
    rows = csv.DictReader(io.StringIO(call("steps", *arguments, "--table", "--format", "csv")))
    return {(row["network"], row["part"]): row for row in rows}


@pytest.mark.integration
def test_table_9_is_the_papers() -> None:
    rows = table("resnet", "downsample", "swin")
    for part, (side, *printed) in TABLE_9.items():
        for network, layers in zip(COSTS, printed, strict=True):
            row = rows[network, part]
            assert row["side"] == str(side)
            # The paper leaves out the layers between the stages.
            assert re.sub(r"(2x2|patch merging), \d+(, stride 2)?; ", "", row["layers"]) == layers
    for network, (flops, params) in COSTS.items():
        row = rows[network, "stem"]
        counted = int(row["flops"]) / 1e9 + ATTENTION * (network == "Swin-T")
        assert f"{counted:.1f}" == flops
        assert f"{int(row['params']) / 1e6:.1f}" == params


@pytest.mark.parametrize("size", [64, 97, 224, 384])
@pytest.mark.parametrize("regime", REGIMES)
def test_outputs_at_any_image_size_are_those_of_the_roads_ends(regime: str, size: int) -> None:
    rows = table("--regime", regime, "--image-size", str(size))
    names = list(dict.fromkeys(network for network, _ in rows))
    assert len(names) == 2
    for name in names:
        sides = [int(rows[name, f"stage {number}"]["side"]) for number in (1, 2, 3, 4)]
        halve = (lambda n: -(-n // 2)) if name == names[0] else (lambda n: n // 2)
        first = halve(halve(size)) if name == names[0] else size // 4
        second = halve(first)
        assert sides == [first, second, halve(second), halve(halve(second))]


@pytest.mark.parametrize("name", ["swin_t", "swin_s", "swin_b"])
def test_the_column_of_a_swin_is_torchvisions(name: str) -> None:
    with torch.device("meta"):
        network = models.get_model(name)
        sizes = swin.swin_sizes(network)
        sides: list[tuple[int, ...]] = []
        for stage in network.features[1::2]:
            stage.register_forward_hook(lambda _m, _i, output: sides.append(tuple(output.shape)))
        network.eval()(torch.empty(1, 3, 224, 224))
    assert sizes.depths == tuple(len(stage) for stage in network.features[1::2])
    model = f"Swin-{name[-1].upper()}"
    parts = [part for part in swin.swin_column(model, 224).parts if part.name.startswith("stage")]
    found = [(part.side, int(part.groups[-1].lines[-1].split(", ")[1])) for part in parts]
    assert found == [(side, width) for _, side, _, width in sides]


def test_a_swin_of_another_shape_is_refused() -> None:
    with torch.device("meta"):
        network = models.get_model("swin_t")
    network.features[3][1].attn.num_heads = 5
    with pytest.raises(swin.UsageError):
        swin.swin_sizes(network)


@pytest.mark.parametrize("columns", [80, 100])
def test_tables_fit_their_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = call("steps", "resnet", "downsample", "swin", "ConvNeXt-L (iso.)", "--table")
    lines = shown.partition("d: depthwise")[0].splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert all(name in shown for name in (*COSTS, "ConvNeXt-L (iso.)"))
    assert "(14 x 14)" in shown  # the outputs of the isotropic network are in its cells


def drawn(columns: int, *names: str, **how: int | bool) -> str:
    """The diagrams of steps, each compared with its parent, as a terminal shows them."""
    road = roadmap("resnet50")
    variants = [find_network(name, road) for name in names]
    diagrams = block_diagrams([(v, parent_of(v, road)) for v in variants], 224, **how)
    out = io.StringIO()
    text.show(Console(file=out, width=columns), diagrams)
    return out.getvalue()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.key)
def test_a_block_fits_a_narrow_terminal(step, first: bool) -> None:
    for stage in range(4):
        shown = drawn(44, step.key, stage=stage, first=first)
        assert max(map(cell_len, shown.splitlines())) <= (44 if not first else 52)
        assert f"block of stage {stage + 1}" in shown


def test_the_layers_of_a_block_are_drawn_in_order() -> None:
    shown = drawn(60, "ln")
    places = [shown.index(layer) for layer in (
        "96 channels", "shortcut", "depthwise 7x7, 96 → 96", "~ LayerNorm", "was BatchNorm",
        "1x1, 96 → 384", "GELU", "1x1, 384 → 96", "stem", "25,836,328 parameters",
    )]  # fmt: skip
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("step", "texts"),
    [
        ("recipe", ["~ recipe", "was classic"]),
        ("stage-ratio", ["~ stages", "3, 3, 9, 3 blocks", "was 3, 4, 6, 3 blocks"]),
        ("patchify", ["~ stem", "4x4, 3 → 64, stride 4", "3x3 max pool"]),
        ("depthwise", ["~ depthwise 3x3, 64 → 64", "was 3x3"]),
        ("move-up", ["^ depthwise 3x3, 96 → 96", "^ moved"]),
        ("fewer-acts", ["- GELU", "- removed"]),
        ("downsample", ["+ Layer Scale", "~ downsampling", "2x2, stride 2", "+ new"]),
    ],
)
def test_every_kind_of_change_is_marked(step: str, texts: list[str]) -> None:
    shown = drawn(60, step)
    assert all(line in shown for line in texts)


def test_the_first_step_has_no_marks() -> None:
    shown = drawn(60, "resnet")
    assert not set("~^-") & {line.strip(" │")[:1] for line in shown.splitlines()}


def test_a_projection_is_drawn_on_the_shortcut() -> None:
    shown = drawn(60, "resnet", stage=1, first=True)
    assert shown.index("1x1, 128 → 512") < shown.index("1x1, 256 → 512, stride 2")
    assert "256 channels" in shown
    assert "512 channels" in shown


def test_diagrams_stand_beside_each_other_if_they_fit() -> None:
    wide, narrow = (drawn(columns, "resnet", "recipe") for columns in (90, 60))
    assert wide.count("\n") < 0.6 * narrow.count("\n")


def test_an_encoding_without_lines_gets_ascii() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    v = until("ln")[-1]
    text.show(Console(file=out, width=60), block_diagrams([(v, None)], 224))
    out.flush()
    shown = out.buffer.getvalue().decode("ascii")
    assert "| 1x1, 96 > 384 " in shown


@pytest.mark.integration
def test_layers_for_programs() -> None:
    rows = json.loads(call("steps", "ln", "--format", "json"))
    assert [(row["name"], row["change"]) for row in rows if row["change"] != "same"] == [
        ("spatial_norm", "changed")
    ]
    assert rows[0]["kernel"] == 7
    assert r"96 $\to$ 384" in call("steps", "ln", "--format", "latex")


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["nothing"], ["'nothing'", "resnet", "ConvNeXt-XL"]),
        (["ln", "--stage", "5"], ["ln", "5", "4"]),
        (["ConvNeXt-S (iso.)", "--stage", "2"], ["2"]),
        (["--fields"], ["--fields"]),
        (["swin"], ["swin", "--table"]),
        (["swin", "--table", "--regime", "nano"], ["nano", "Swin-T"]),
        (["Swin-L", "--table"], ["Swin-L", "torchvision"]),
        (["Swin-T", "--table", "--image-size", "384"], ["Swin-T", "384"]),
        (["ln", "--table", "--image-size", "31"], ["31", "32"]),
    ],
)
def test_wrong_use(arguments: list[str], texts: list[str]) -> None:
    told = call("steps", *arguments, status=2)
    assert all(word in told for word in texts)


def test_a_block_that_does_not_exist_is_not_drawn() -> None:
    nano = until("downsample", "nano")  # stages of 1, 1, 2 or 3, and 1 blocks
    pairs = [(v, None) for v in nano]
    assert {d.place for d in block_diagrams(pairs, 32)} == {"block of stage 3"}
    only = block_diagrams(pairs[:1], 32, stage=0)[0]
    assert (only.place, only.in_width) == ("first block of stage 1", 16)
    assert only.shortcut
