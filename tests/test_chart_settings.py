"""The settings of charts: widths, colours, styles, fonts in files, and wrong values."""

import functools
import itertools
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from matplotlib import image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from reporting import write_study

import ablations
from ablations import paper
from ablations.analysis.summary import read_summary
from ablations.charts import chart
from ablations.charts.colors import DARK, LIGHT, NONE, luminance
from ablations.charts.figures import paper_figure, study_figure
from ablations.charts.settings import ChartSettings
from ablations.charts.throughput_chart import draw as draw_throughput
from ablations.cli import main
from ablations.records import Study
from ablations.report import figures as report_figures
from ablations.report.html import as_html
from ablations.report.page import make
from modernize.errors import UnknownNameError, UsageError

ROOT = Path(__file__).parent.parent
REFERENCES = ("reference-nano", "reference-leave-one-out")


@functools.cache
def roadmap(name: str, width: float):
    """The chart of the paper or of a study in the repository, at a width."""
    settings = ChartSettings(width=width)
    if name == "paper":
        return paper_figure(settings=settings)
    if name == "kernels":
        kernels = ["move-up", "kernel-5", "kernel-7", "kernel-9", "kernel-11"]
        return paper_figure("resnet50", kernels, settings)
    second = Study.open(ROOT / "results" / REFERENCES[0]) if name == REFERENCES[1] else None
    return study_figure(Study.open(ROOT / "results" / name), second, settings=settings)


def texts(figure):
    FigureCanvasAgg(figure).draw()
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t, t.get_window_extent()) for t in found]


def assert_readable(figure) -> None:
    boxes = texts(figure)
    page = figure.bbox
    assert len(boxes) > 5
    for text, box in boxes:
        assert text.get_fontsize() >= 6, text.get_text()
        assert box.x0 >= 0, text.get_text()
        assert box.y0 >= 0, text.get_text()
        assert box.x1 <= page.x1, text.get_text()
        assert box.y1 <= page.y1, text.get_text()
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0 or down <= 2, f"{one.get_text()!r} overlaps {other.get_text()!r}"


@pytest.mark.integration
@pytest.mark.parametrize("width", [3.0, 3.25, 4.9, 5.0, 7.0, 12.0])
@pytest.mark.parametrize("name", ["paper", "kernels", *REFERENCES])
def test_a_roadmap_is_readable_at_every_width(name: str, width: float) -> None:
    figure = roadmap(name, width)
    assert figure.get_figwidth() == width
    assert_readable(figure)
    bars = [a for a in figure.findobj() if (a.get_gid() or "").startswith("bar-")]
    panel = figure.axes[1].get_window_extent()
    assert panel.width >= 0.4 * figure.dpi
    assert all(bar.get_window_extent().x1 <= panel.x1 + 1 for bar in bars)


def assert_inside(figure) -> None:
    """Nothing that is drawn touches an edge of the page."""
    FigureCanvasAgg(figure).draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (edge == 255).all()


def recipes_of(tmp_path: Path) -> Study:
    """A study whose variants change the recipe, with runs of each kind."""
    from dataclasses import replace

    return write_study(
        tmp_path / "recipe",
        {"resnet": [80.0, 81.0], "recipe": [82.5], "patchify": [], "ln": [83.0, 83.1]},
        change=lambda v: replace(
            v,
            title=f"{v.title} without RandAugment, mixup and label smoothing",
            recipe={} if v.key == "resnet" else {"mixup": 0.0},
        ),
    )


@pytest.mark.integration
@pytest.mark.parametrize("width", [3.25, 7.0])
def test_pictures_of_a_study_of_recipes_are_readable(tmp_path: Path, width: float) -> None:
    study, settings = recipes_of(tmp_path), ChartSettings(width=width)
    assert_readable(study_figure(study, settings=settings))
    summary = read_summary(study)
    table = summary[summary["n"] > 0].assign(
        cost=summary["flops"] / 1e6, color="#123456", change=[0.0, 2.0, -3.1],
        change_low=[-1, 1, -4], change_high=[1, 3, -2],
    )  # fmt: skip
    for figure in (
        report_figures.cost_figure(table, "MFLOPs (one image)", settings),
        report_figures.tornado_figure(table, settings),
    ):
        assert figure.get_figwidth() == width
        assert_inside(figure)


@pytest.mark.integration
@pytest.mark.parametrize("width", [3.0, 3.25, 7.0])
@pytest.mark.parametrize("count", [3, 17])
def test_accuracy_against_throughput_is_readable(width: float, count: int) -> None:
    frame = paper.published().head(count)
    speed = 1e11 / frame["flops"]
    table = frame.assign(
        name=frame["step"], group=frame["section"], images_per_second=speed,
        images_per_second_min=speed - 0.5, images_per_second_max=speed + 0.5,
    )  # fmt: skip
    settings = ChartSettings(width=width)
    names = {"title": "Accuracy, throughput and FLOPs", "speed_label": "images per second"}
    figure = draw_throughput(table, **names, note="a note " * 30, settings=settings)
    assert figure.get_figwidth() == width
    assert_inside(figure)
    bare = draw_throughput(table, **names, settings=ChartSettings(width=width, title=False))
    assert "Accuracy, throughput" not in "".join(t.get_text() for t, _ in texts(bare))


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # its known example


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_texts_and_bars_differ_from_the_background(palette) -> None:
    for background in (palette.paper, palette.band):
        assert contrast(palette.ink, background) >= 7
        assert contrast(palette.grey, background) >= 4.5
    for color in (palette.up, palette.down, palette.front, palette.second_edge):
        assert contrast(color, palette.paper) >= 2.2
    assert min(contrast(hue, palette.paper) for hue in palette.hues) >= (
        2.2 if palette is LIGHT else 3
    )


@pytest.mark.integration
def test_dark_and_transparent_charts_have_that_background(tmp_path: Path) -> None:
    for settings, color in (
        (ChartSettings(), (255, 255, 255, 255)),
        (ChartSettings(dark=True), (22, 23, 25, 255)),
        (ChartSettings(transparent=True), (255, 255, 255, 0)),
        (ChartSettings(transparent=True, dark=True), (255, 255, 255, 0)),
    ):
        figure = paper_figure("resnet50", settings=settings)
        pixels = image.imread(chart.save_figure(figure, tmp_path / "chart.png", settings))
        assert pixels.shape[2] == 4
        corner = np.rint(pixels[2, 2] * 255)
        assert tuple(corner)[3] == color[3]
        assert color[3] == 0 or tuple(corner) == color
        clear = (pixels[..., 3] == 0).mean()
        assert (clear > 0.5) == settings.transparent
    assert ChartSettings(transparent=True).palette.paper == NONE


@pytest.mark.parametrize("dpi", [72, 300])
def test_a_png_has_width_times_dpi_pixels(tmp_path: Path, dpi: int) -> None:
    settings = ChartSettings(width=3.25, dpi=dpi)
    figure = paper_figure("resnet50", ["resnet", "recipe"], settings)
    pixels = image.imread(chart.save_figure(figure, tmp_path / "chart.png", settings))
    assert abs(pixels.shape[1] - 3.25 * dpi) <= 1


def fonts_in(pdf: bytes) -> set[bytes]:
    """The kinds of fonts in a PDF, also in its compressed streams."""
    parts = [pdf]
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            parts.append(zlib.decompress(stream))
        except zlib.error:
            continue
    return {
        kind
        for part in parts
        for kind in re.findall(rb"/Subtype\s*/(Type3|CIDFontType2|TrueType|Type1)\b", part)
    }


@pytest.mark.integration
def test_pdf_and_postscript_embed_truetype_fonts(tmp_path: Path) -> None:
    figure = paper_figure()
    path = chart.save_figure(figure, tmp_path / "chart.pdf")
    assert fonts_in(path.read_bytes()) == {b"CIDFontType2"}
    if tool := shutil.which("pdffonts"):
        shown = subprocess.run([tool, path], capture_output=True, text=True, check=True).stdout
        assert "Type 3" not in shown
        assert "TrueType" in shown
    for kind in ("eps", "ps"):
        found = chart.save_figure(figure, tmp_path / f"chart.{kind}").read_bytes()
        assert found.startswith(b"%!PS-Adobe")
        assert b"/FontType 42" in found
        assert b"/FontType 3" not in found
        assert found == chart.save_figure(figure, tmp_path / f"again.{kind}").read_bytes()
        assert b"CreationDate" not in found


def test_an_svg_keeps_texts_if_asked(tmp_path: Path) -> None:
    for settings, kept in ((ChartSettings(), False), (ChartSettings(svg_text=True), True)):
        figure = paper_figure("resnet50", settings=settings)
        svg = chart.save_figure(figure, tmp_path / "chart.svg", settings).read_text()
        assert (re.search(r"<text[^>]*>depthwise conv</text>", svg) is not None) == kept


STYLE = """
font.family: serif
font.serif: No Such Font, DejaVu Serif
text.color: 102030
axes.labelcolor: 405060
figure.facecolor: fff8e0
axes.prop_cycle: cycler('color', ['aa0000', '00aa00', '0000aa'])
"""


def test_a_style_gives_fonts_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "mine.mplstyle"
    path.write_text(STYLE)
    settings = ChartSettings(style=path)
    assert settings.fonts_missing == ["No Such Font"]
    assert "No Such Font" in chart.boxes_note(paper_figure("resnet50", ["ln"], settings), settings)
    figure = roadmap_with(settings)
    svg = chart.save_figure(figure, tmp_path / "chart.svg", settings).read_text()
    assert "DejaVuSerif" in svg
    assert "DejaVuSans-" not in svg
    for color in ("#102030", "#405060", "#fff8e0", "#aa0000"):
        assert color in svg
    assert_readable(figure)
    assert ChartSettings(style="dark_background").palette.faint == DARK.faint


def roadmap_with(settings: ChartSettings):
    return chart.roadmap_figure(paper.published(), title="t", settings=settings)


@pytest.mark.parametrize(
    ("content", "named"),
    [("font.size: large and small", "font.size"), ("no colon", "no colon"), ("", "no settings"),
     ("no.such.key: 1", "no.such.key"), (b"\x89PNG\xff", "utf-8")],
)  # fmt: skip
def test_a_damaged_style_is_refused(tmp_path: Path, content, named: str) -> None:
    path = tmp_path / "bad.mplstyle"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=named) as caught:
        ChartSettings(style=path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        ["--width", "2"], ["--width", "21"], ["--width", "wide"], ["--dpi", "10"],
        ["--style", "no-such-style"], ["--style", "missing.mplstyle"], ["--style", "."],
        ["--steps", "no-such-step"], ["--steps", ","], ["--regime", "nano"],
        ["--regime", "no-such-regime"], ["--output", "chart.jpg"],
    ],
)  # fmt: skip
def test_wrong_values_are_refused(options, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", "plot", "paper", *options])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert options[0].strip("-") in message or options[1] in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_regime_is_the_papers_alone(monkeypatch, capsys) -> None:
    arguments = ["plot", "reference-nano", "--regime", "nano", "--results", str(ROOT / "results")]
    monkeypatch.setattr(sys, "argv", ["run_roadmap.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "nano" in capsys.readouterr().err


def test_some_steps_are_compared_with_the_nearest_one_shown() -> None:
    figure = paper_figure("resnet50", ["recipe", "kernel-7", "gelu", "downsample"])
    found = [text.get_text() for text, _ in texts(figure)]
    bars = {a.get_gid() for a in figure.findobj() if (a.get_gid() or "").startswith("bar-")}
    assert bars == {f"bar-main-{step}" for step in ("recipe", "kernel-7", "gelu", "downsample")}
    # 80.57 - 78.82, 80.62 - 80.57, 81.97 - 80.62
    assert {"+1.75", "+0.05", "+1.35"} <= set(found)
    with pytest.raises(UnknownNameError, match="kernel-8"):
        paper_figure("resnet50", ["kernel-8"])


def test_a_title_can_be_left_out() -> None:
    figures = [paper_figure("resnet50", settings=ChartSettings(title=t)) for t in (True, False)]
    found = ["".join(t.get_text() for t, _ in texts(figure)) for figure in figures]
    assert ["The roadmap as published" in text for text in found] == [True, False]
    assert figures[1].get_figheight() < figures[0].get_figheight()


@pytest.mark.integration
def test_the_pictures_of_a_report_have_the_settings(tmp_path: Path) -> None:
    study = recipes_of(tmp_path)
    plain = make(study)
    dark = make(study, settings=ChartSettings(width=3.25, dark=True, svg_text=True))
    assert plain.chart.path == "roadmap.svg"
    assert dark.chart.path == "report/chart.svg"  # collect's chart remains as it is
    assert re.search(rb'width="244.8pt"', plain.chart.narrow)
    sources = re.findall(r"<source media=\"([^\"]+)\" srcset='([^']+)'>", as_html(plain))
    assert sources
    for media, url in sources:
        assert "max-width" in media
        assert not set(url.removeprefix("data:image/svg+xml,")) & set(" ,")  # they end a URL
    shown = [unquote(url) for _, url in sources]
    assert shown[0].count("<path") == plain.chart.narrow.decode().count("<path")
    assert "<source" not in as_html(dark)
    for picture in dark.pictures:
        svg = picture.content.decode()
        assert DARK.paper in svg
        assert "<text" in svg
        assert float(re.search(r'width="([0-9.]+)pt"', svg)[1]) in (3.25 * 72, 3.25 * 36)


def test_the_functions_of_the_package() -> None:
    table = ablations.flops_table()
    road = ablations.published()
    assert list(table["step"]) == list(road["step"])
    # fvcore's count of a ResNet-50, and the paper's figure in its own digits
    assert table.set_index("step").loc["resnet", "flops"] == 4089184256
    assert road.set_index("step").loc["resnet", "flops"] == 4_090_000_000
    assert set(ablations.flops_table("resnet50", 64)["image_size"]) == {64}
    figure = ablations.roadmap_figure(pd.read_csv(ROOT / "results/reference-nano/summary.csv"))
    assert "82.75" in [text.get_text() for text, _ in texts(figure)]
    for call in (ablations.flops_table, ablations.published):
        with pytest.raises(UnknownNameError, match="no-such"):
            call("no-such")


@pytest.mark.integration
def test_quick_commands_import_no_library_of_charts() -> None:
    code = (
        "import sys, ablations, ablations.cli, ablations.commands.plot;"
        "sys.exit(str({'torch', 'pandas', 'matplotlib'} & set(sys.modules) or '') or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
