"""Pictures of blocks: their texts, at every width, in the dark, and where they fit."""

import io
from pathlib import Path

import pytest
from command_line import call
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from PIL import Image

from ablations.charts import blocks
from ablations.charts.settings import ChartSettings
from ablations.diagrams.blocks import block_diagrams
from ablations.studies.selection import roadmap
from modernize.steps import REGIMES

ROAD = {regime: roadmap(regime) for regime in REGIMES}


def drawn(
    *keys: str, regime: str = "resnet50", stage: int = 0, first: bool = False, **how
) -> Figure:
    """The picture of steps, each compared with its parent; all steps if none is named."""
    by_key = {v.key: v for v in ROAD[regime]}
    pairs = [(by_key[key], by_key.get(by_key[key].parent or "")) for key in keys or by_key]
    diagrams = block_diagrams(pairs, 224, stage=stage, first=first)
    return blocks.draw(diagrams, "The road", ChartSettings(**how))


def texts(figure: Figure) -> list[str]:
    shown = [text.get_text() for text in figure.findobj(Text) if text.get_text()]
    return [text.replace("\N{MULTIPLICATION SIGN}", "x") for text in shown]


def outside(figure: Figure) -> list[str]:
    """The texts that are not inside the page."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = figure.bbox
    found = []
    for text in figure.findobj(Text):
        box = text.get_window_extent(renderer)
        if text.get_text() and not (
            page.x0 - 1 <= box.x0
            and box.x1 <= page.x1 + 1
            and page.y0 <= box.y0
            and box.y1 <= page.y1
        ):
            found.append(text.get_text())
    return found


def test_a_block_as_in_figure_4() -> None:
    shown = texts(drawn("ln"))
    assert [text for text in shown if text[0] in "d1LG"][:5] == [
        "d7x7, 96 → 96", "LayerNorm", "1x1, 96 → 384", "GELU", "1x1, 384 → 96",
    ]  # fmt: skip
    assert "was BatchNorm" in shown
    assert shown.count("96 channels") == 2


def test_the_blocks_of_figure_3() -> None:
    """(a) ResNeXt's block, (b) the inverted one, (c) the depthwise convolution moved up."""
    figures = {key: texts(drawn(key)) for key in ("width", "inverted", "move-up")}
    convs = {k: [t for t in shown if "→" in t and t[0] in "d1"] for k, shown in figures.items()}
    assert convs == {
        "width": ["1x1, 384 → 96", "d3x3, 96 → 96", "1x1, 96 → 384"],
        "inverted": ["1x1, 96 → 384", "d3x3, 384 → 384", "1x1, 384 → 96"],
        "move-up": ["d3x3, 96 → 96", "1x1, 96 → 384", "1x1, 384 → 96"],
    }


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("how", [{}, {"width": 3.25}, {"width": 6.7, "dark": True}, {"width": 20}])
def test_every_text_of_the_road_is_on_the_page(regime: str, how: dict) -> None:
    figure = drawn(regime=regime, **how)
    assert not outside(figure)
    assert {v.key for v in ROAD[regime]} <= set(texts(figure))
    if "width" in how:
        assert figure.get_size_inches()[0] == how["width"]


@pytest.mark.parametrize("stage", range(4))
def test_first_blocks_fit_a_column_of_a_paper(stage: int) -> None:
    figure = drawn("resnet", "downsample", stage=stage, first=True, width=3.25, regime="resnet200")
    assert not outside(figure)
    shown = texts(figure)
    assert not any("…" in text for text in shown)
    assert (", /2" in "".join(shown)) == (stage > 0)
    assert min(t.get_fontsize() for t in figure.findobj(Text) if t.get_text()) >= 5


def test_changes_are_visible_without_colour() -> None:
    def outlines(figure: Figure) -> list[tuple[float, str]]:
        boxes = figure.findobj(FancyBboxPatch)
        return [(box.get_linewidth(), box.get_linestyle()) for box in boxes]

    plain, changed = outlines(drawn("resnet")), outlines(drawn("kernel-5"))
    assert len({*plain}) == 1
    assert [box == plain[0] for box in changed] == [False, True, True]
    removed = drawn("downsample", stage=1, first=True)
    assert outlines(removed)[-1][1] == "--"
    assert "Struck out: removed." in " ".join(texts(removed))


def test_a_dark_and_a_transparent_background() -> None:
    dark, clear = drawn("ln", dark=True), drawn("ln", transparent=True)
    assert sum(dark.get_facecolor()[:3]) < 0.5
    out = io.BytesIO()
    with ChartSettings(transparent=True).context():
        clear.savefig(out, format="png")
    assert Image.open(out).convert("RGBA").getpixel((1, 1))[3] == 0


def test_the_title_can_be_left_out() -> None:
    assert "The road" in texts(drawn("ln"))
    assert "The road" not in texts(drawn("ln", title=False))


@pytest.mark.integration
def test_steps_writes_pictures(tmp_path: Path) -> None:
    files = [tmp_path / f"two.{kind}" for kind in ("png", "svg", "pdf")]
    told = call("steps", "resnet", "downsample", "--width", "3.25", *(
        word for file in files for word in ("--output", file)
    ))  # fmt: skip
    assert all(str(file.name) in told for file in files)
    with Image.open(files[0]) as picture:
        assert picture.size[0] == 650
    assert b"/Type3" not in files[2].read_bytes()
    road = tmp_path / "road.svg"
    call("steps", "--regime", "nano", "--svg-text", "--output", road)
    assert all(f">{v.key}<" in road.read_text() for v in ROAD["nano"])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["ln", "--dark"], ["--dark", "--output"]),
        (["ln", "--no-title"], ["--no-title", "--output"]),
        (["ln", "--table", "--output", "x.png"], ["--table", "--output"]),
        (["ln", "--format", "json", "--output", "x.png"], ["--format", "--output"]),
        (["ln", "--output", "x.jpg"], ["x.jpg", ".png"]),
    ],
)
def test_wrong_use(arguments: list[str], names: list[str]) -> None:
    told = call("steps", *arguments, status=2)
    assert all(name in told for name in names)
