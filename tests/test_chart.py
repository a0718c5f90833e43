"""The chart: what it draws, that it can be read, and that it is drawn the same every time."""

import functools
import itertools
import math
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from ablations import paper
from ablations.charts import chart
from ablations.paper import Reference
from ablations.records import Status
from modernize.errors import RoadmapError, UnknownNameError, UsageError

ROOT = Path(__file__).parent.parent
NAN = math.nan


def table(rows, **columns):
    """A summary from (step, label, n, top1, std, flops, status, section, adopted, parent)."""
    return pd.DataFrame(rows, columns=list(chart.COLUMNS)).assign(**columns)


def published(**changes):
    """The paper's ResNet-50 road, with {step: {column: value}} changed."""
    frame = paper.published("resnet50").set_index("step")
    for step, cells in changes.items():
        for column, value in cells.items():
            frame.loc[step.replace("_", "-"), column] = value
    return frame.reset_index()


def paper_figure():
    return {
        "summary": paper.published("resnet50"),
        "title": "From ResNet to ConvNeXt: ImageNet-1K accuracy by step, as published",
        "label": "ResNet-50 / Swin-T regime",
        "reference": paper.reference("resnet50"),
        "second": paper.published("resnet200"),
        "second_label": "ResNet-200 / Swin-B regime",
        "second_reference": paper.reference("resnet200"),
        "notes": paper.misprints("resnet50"),
    }


def troubled():
    """Every status there is, seeds that differ, and small FLOPs."""
    gone = {"n": 0, "top1": NAN, "top1_std": NAN}
    frame = published(
        stage_ratio={**gone, "status": "missing"},
        depthwise={**gone, "status": "running"},
        width={"n": 2, "status": "partial"},
        inverted={**gone, "status": "failed"},
        kernel_5={**gone, "status": "diverged"},
        kernel_9={"status": "partial", "n": 1, "top1_std": NAN},
        kernel_11={**gone, "top1": 43.21, "status": "diverged"},
        fewer_norms={"top1": 10.0, "top1_std": 0.0, "status": "collapsed"},
        ln={**gone, "status": "collapsed"},
        downsample={**gone, "status": "partial"},
    )
    return frame.assign(flops=frame["flops"] / 300)


def three():
    return table(
        [
            ("a", "first", 1, 61.0, NAN, 12.0e6, "finished", "Start", True, NAN),
            ("b", "second", 1, 63.5, NAN, 13.1e6, "finished", "Middle", True, "a"),
            ("c", "third", 1, 62.9, NAN, 13.1e6, "finished", "Middle", False, "b"),
        ]
    )


def long_names():
    frame = paper.published("resnet50")
    words = "replace every third block with 5x5 attn!"
    assert len(words) == 40
    frame.loc[3, "label"] = words
    frame.loc[5, "label"] = "w" * 40
    frame.loc[7, "label"] = "costs $5 and $6, 100 % of 2^8_a \\alpha"
    frame.loc[6, "section"] = "A section of the user's own, with a long name"
    return frame


def all_missing():
    gone = {"n": 0, "top1": NAN, "top1_std": NAN, "status": "missing"}
    return paper.published("resnet50").assign(**gone)


def spread():
    """From 10 % to 99 %, with a standard deviation that passes 100 %."""
    frame = paper.published("resnet50")
    frame["top1"] = [10 + 89 * i / 16 for i in range(17)]
    frame.loc[16, "top1_std"] = 3.0
    return frame.assign(n=5)


CASES = {
    "paper": paper_figure,
    "alone": lambda: {"summary": paper.published("resnet50"), "title": "ResNet-50 regime"},
    "alone-reference": lambda: {**paper_figure(), "second": None, "second_reference": None},
    "troubled": lambda: {"summary": troubled(), "title": "In failed_run", "label": "ours"},
    "troubled-second": lambda: {**paper_figure(), "second": troubled()},
    "troubled-both": lambda: {**paper_figure(), "summary": troubled()},
    "three": lambda: {"summary": three(), "title": "Three steps"},
    "three-second": lambda: {
        "summary": three(),
        "title": "Three steps",
        "second": three().assign(top1=lambda t: t["top1"] + 1.5, label="another name"),
        "second_label": "other data",
        "reference": Reference("a reference of the user's own with a long name", 61.2, 0.02),
        "second_reference": Reference("other", 61.2, 0.02),
    },
    "long": lambda: {
        "summary": long_names(),
        "title": "A title so long that it does not fit on one line of the page: " * 2,
        "label": "a label of the bars that is so long that it does not fit on a line either " * 2,
    },
    "long-second": lambda: {**paper_figure(), "summary": long_names()},
    "all-missing": lambda: {"summary": all_missing(), "title": "Nothing yet"},
    "all-missing-reference": lambda: {**paper_figure(), "summary": all_missing(), "second": None},
    "one": lambda: {"summary": three().head(1), "title": "One step"},
    "one-missing": lambda: {"summary": all_missing().head(1), "title": "One step, not run"},
    "one-second": lambda: {**paper_figure(), "summary": paper.published("resnet50").head(1)},
    "spread": lambda: {"summary": spread(), "title": "10 % to 99 %"},
    "spread-second": lambda: {**paper_figure(), "summary": spread()},
    "close": lambda: {
        "summary": three().assign(top1=[93.11, 93.12, 93.10], n=8, top1_std=0.05),
        "title": "Within a standard deviation",
        "reference": Reference("target", 93.12, 0.02),
    },
}


@functools.cache
def draw(name):
    """The figure of a case; shared, so look but do not touch."""
    return chart.roadmap_figure(**CASES[name]())


@functools.cache
def texts(figure):
    """Every text that shows, with its box in pixels."""
    FigureCanvasAgg(figure).draw()
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
    return [(t.get_text(), t.get_window_extent()) for t in found]


def named(figure, prefix):
    """Artists by the rest of their id, such as "main-ln"."""
    found = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(f"{prefix}-"))
    return {artist.get_gid().removeprefix(f"{prefix}-"): artist for artist in found}


def line_of(figure, word):
    return [text for text, _ in texts(figure) if word in text]


@pytest.mark.integration
@pytest.mark.parametrize("name", CASES)
def test_no_text_overlaps_another_or_leaves_the_page(name):
    figure = draw(name)
    boxes = texts(figure)
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        # Neighbouring lines of text share a pixel or two of their boxes' empty margins.
        assert across <= 0 or down <= 2, f"{one!r} overlaps {other!r}"


@pytest.mark.integration
@pytest.mark.parametrize("name", CASES)
def test_page_width_and_font_sizes(name):
    figure = draw(name)
    assert figure.get_figwidth() * 25.4 == pytest.approx(170)
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
    assert min(t.get_fontsize() for t in shown) >= 6.5


@pytest.mark.integration
@pytest.mark.parametrize("name", CASES)
def test_words_stay_off_the_columns_of_numbers(name):
    figure = draw(name)
    edge = figure.axes[1].get_window_extent().x1
    words = ("missing", "running", "failed", "diverged", "collapsed", "partial")
    assert all(box.x1 <= edge for text, box in texts(figure) if text.startswith(words))
    above = [t for t in figure.findobj(Text) if t.get_text().startswith(words)]
    assert all(figure.axes.index(t.axes) > 1 for t in above)  # not behind the bars


@pytest.mark.integration
@pytest.mark.parametrize("name", CASES)
def test_bars_end_at_the_accuracy(name):
    given = CASES[name]()
    figure = draw(name)
    bars, whiskers = named(figure, "bar"), named(figure, "whisker")
    low, high = figure.axes[1].get_xlim()
    ends, stds = {}, {}
    for which, key in (("main", "summary"), ("second", "second")):
        frame = given.get(key)
        for row in [] if frame is None else frame.to_dict("records"):
            if row["status"] in ("finished", "partial") and not math.isnan(row["top1"]):
                ends[f"{which}-{row['step']}"] = row["top1"]
                if not math.isnan(row["top1_std"]):
                    stds[f"{which}-{row['step']}"] = (row["top1"], row["top1_std"])
    assert {k: bar.get_x() + bar.get_width() for k, bar in bars.items()} == ends
    assert all(low < end <= high for end in ends.values())
    assert set(whiskers) == set(stds)
    for key, (mean, std) in stds.items():
        assert list(whiskers[key].get_xdata()) == pytest.approx([mean - std, mean + std])


@pytest.mark.parametrize("name", ["paper", "troubled-both", "three-second"])
def test_hatching_marks_exactly_the_side_branches(name):
    given = CASES[name]()
    adopted = {
        f"{which}-{row['step']}": row["adopted"]
        for which, frame in (("main", given["summary"]), ("second", given["second"]))
        for row in frame.to_dict("records")
    }
    bars = named(draw(name), "bar")
    hatched = {key for key, bar in bars.items() if bar.get_hatch()}
    assert hatched == {key for key in bars if not adopted[key]}
    assert hatched


def test_numbers_of_the_paper():
    found = [text for text, _ in texts(draw("paper"))]
    for text in ("81.97", "± 0.06", "+0.50", "4.49*", "83.60", "+0.25", "15.35", "0.00"):
        assert text in found
    assert "\N{MINUS SIGN}1.23" in found
    assert "Swin-T  81.30 %, 4.50 G" in found
    assert "Swin-B  83.50 %, 15.43 G" in found
    assert "(ConvNeXt-B)" in found


def test_changes_are_measured_from_the_parent():
    found = [text for text, _ in texts(draw("alone"))]
    # kernel-11 and gelu, both from kernel-7: 80.47 and 80.62 against 80.57
    assert "\N{MINUS SIGN}0.10" in found
    assert "+0.05" in found


def test_no_change_from_a_parent_without_an_accuracy():
    frame = published(kernel_7={"status": "collapsed", "top1": 0.1, "top1_std": NAN})
    found = [text for text, _ in texts(chart.roadmap_figure(frame, title="t"))]
    assert not [text for text in found if text.startswith("+80")]
    assert "+0.05" not in found


@pytest.mark.integration
def test_seeds_are_stated_only_as_they_are():
    assert line_of(draw("alone"), "seed") == [
        "mean ± standard deviation over 3 seeds; without ±: one seed"
    ]
    same = published(resnet={"n": 3, "top1_std": 0.1})
    assert line_of(chart.roadmap_figure(same, title="t"), "seed") == [
        "mean ± standard deviation over 3 seeds"
    ]
    assert line_of(draw("three"), "seed") == ["one seed per bar"]
    assert line_of(draw("all-missing"), "seed") == []
    assert not line_of(draw("all-missing"), "±")
    figure = chart.roadmap_figure(published(width={"n": 2}), title="t")
    assert line_of(figure, "seed") == ["mean ± standard deviation over n seeds"]
    found = [text for text, _ in texts(figure)]
    assert "n" in found
    assert (found.count("1"), found.count("2"), found.count("3")) == (1, 1, 15)


def test_what_became_of_a_step_is_written_out():
    figure = draw("troubled")
    found = [text for text, _ in texts(figure)]
    for word in (
        *("missing", "running", "failed", "diverged", "diverged at 43.2 %"),
        *("collapsed at 10.0 %", "collapsed", "partial, 2 seeds", "partial, 1 seed"),
        "partial, no accuracy recorded",
    ):
        assert found.count(word) == 1, word
    bars, marks = named(figure, "bar"), named(figure, "mark")
    assert not set(bars) & set(marks)
    assert {*bars, *marks} == {f"main-{step}" for step in troubled()["step"]}
    dashed = {key for key, bar in bars.items() if bar.get_linestyle() == "--"}
    assert dashed == {"main-width", "main-kernel-9"}


@pytest.mark.integration
@pytest.mark.parametrize("status", [s for s in Status if s is not Status.FINISHED])
def test_each_status_of_a_run_is_written_instead_of_a_bar(status):
    frame = published(ln={"n": 0, "top1": NAN, "top1_std": NAN, "status": str(status)})
    figure = chart.roadmap_figure(frame, title="t")
    assert "main-ln" in named(figure, "mark")
    assert "main-ln" not in named(figure, "bar")
    assert [t.get_text() for t in figure.findobj(Text)].count(status) == 1


def test_a_collapsed_run_leaves_the_axis_alone():
    frame = published(ln={"status": "collapsed", "top1": 0.1})
    assert chart.roadmap_figure(frame, title="t").axes[1].get_xlim()[0] == 75


def test_without_a_bar_the_axis_is_whole():
    assert draw("all-missing-reference").axes[1].get_xlim() == (0, 100)


def test_seeds_without_a_standard_deviation():
    figure = chart.roadmap_figure(published(width={"top1_std": NAN}), title="t")
    assert line_of(figure, "seed") == ["mean over n seeds"]


def test_a_cut_axis_says_so():
    assert draw("alone").axes[1].get_xlim()[0] == 75
    assert line_of(draw("alone"), "accuracy (%)") == [
        "top-1 accuracy (%), higher is better; the axis starts at 75, not at 0"
    ]
    assert draw("spread").axes[1].get_xlim()[0] == 0
    assert line_of(draw("spread"), "accuracy (%)") == ["top-1 accuracy (%), higher is better"]


def test_references_stand_at_their_accuracy():
    figure = draw("paper")
    panel = figure.axes[1]
    for name, top1 in (("main", 81.30), ("second", 83.50)):
        line = named(figure, "reference")[name]
        pixel = line.get_transform().transform((line.get_xdata()[0], 0))[0]
        assert panel.transData.inverted().transform((pixel, 0))[0] == pytest.approx(top1)


def test_references_are_over_the_bars_and_under_the_whiskers():
    figure = draw("paper")
    heights = {
        kind: {artist.get_zorder() for artist in named(figure, kind).values()}
        for kind in ("bar", "reference", "whisker")
    }
    assert max(heights["bar"]) < min(heights["reference"])
    assert max(heights["reference"]) < min(heights["whisker"])
    artists = [*named(figure, "bar").values(), *named(figure, "reference").values()]
    assert {artist.axes for artist in artists} == {figure.axes[1]}  # heights in one order


def test_nothing_touches_the_edge_of_the_page():
    figure = draw("paper")
    edge = figure.bbox.x1 - 0.1 * figure.dpi
    assert all(box.x1 < edge for _, box in texts(figure))


def test_small_costs_keep_three_digits():
    found = [text for text, _ in texts(draw("three"))]
    assert found.count("12.00") == 1
    assert found.count("13.10") == 2
    assert "MFLOPs" in found
    assert "GFLOPs" not in found
    found = [text for text, _ in texts(draw("troubled-both"))]
    assert {"0.00783", "15.01", "GFLOPs"} < set(found)  # one unit for both tables


def test_an_unknown_cost_is_a_dash():
    figure = chart.roadmap_figure(three().assign(flops=NAN), title="t")
    assert [text for text, _ in texts(figure)].count("\N{EN DASH}") == 3


def test_notes_mark_their_rows_and_are_printed():
    notes = {"ln": "one note", "downsample": "one note", "gelu": "another", "nowhere": "lost"}
    found = [t for t, _ in texts(chart.roadmap_figure(published(), title="t", notes=notes))]
    assert [text for text in found if text.endswith("*")] == ["4.15*", "4.46*", "4.49*"]
    assert "* ReLU to GELU: another" in found
    assert "* BN to LN, separate downsampling (ConvNeXt-T): one note" in found
    assert not any("lost" in text for text in found)


@pytest.mark.integration
def test_a_step_of_the_second_table_alone_is_missing_in_the_first():
    first = published().query("step not in ('stage-ratio', 'downsample')")
    second = paper.published("resnet200").query("step != 'gelu'")
    figure = chart.roadmap_figure(first, title="t", second=second)
    assert set(named(figure, "mark")) == {"main-stage-ratio", "main-downsample"}
    bars = named(figure, "bar")
    height = {key: bar.get_y() for key, bar in bars.items()}
    assert height["main-recipe"] < height["second-stage-ratio"] < height["main-patchify"]
    assert "second-gelu" not in bars
    assert "main-gelu" in bars


def test_an_infinite_or_absent_value_is_none():
    frame = three().astype({"top1": object, "parent": object, "section": object})
    frame.loc[0, "top1"] = math.inf
    frame.loc[1, "top1"] = None
    frame.loc[2, "parent"] = None
    frame["section"] = None
    frame.loc[2, "label"] = None
    figure = chart.roadmap_figure(frame, title="t")
    assert line_of(figure, "no accuracy") == ["finished, no accuracy recorded"] * 2
    assert "c" in line_of(figure, "c")  # the step's key for want of a label


def test_further_columns_are_ignored():
    one = chart.roadmap_figure(three(), title="t")
    other = chart.roadmap_figure(three().assign(seconds=3.0), title="t")
    assert [text for text, _ in texts(one)] == [text for text, _ in texts(other)]


def test_errors_name_the_fault():
    with pytest.raises(UsageError, match=r"without the columns n, parent\. It needs: step"):
        chart.roadmap_figure(three().drop(columns=["n", "parent"]), title="t")
    with pytest.raises(UsageError, match="without rows"):
        chart.roadmap_figure(three().head(0), title="t")
    with pytest.raises(UnknownNameError, match=r"status 'colapsed'.*mean 'collapsed'"):
        chart.roadmap_figure(three().assign(status="colapsed"), title="t")
    with pytest.raises(UsageError, match="step twice: a;"):
        chart.roadmap_figure(three().assign(step="a"), title="t")


@pytest.mark.integration
@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_the_same_table_gives_the_same_bytes(tmp_path, suffix, monkeypatch):
    one = chart.save_figure(
        chart.roadmap_figure(**paper_figure()), tmp_path / f"one{suffix}"
    ).read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    with mpl.rc_context({"font.size": 20, "savefig.bbox": "tight", "svg.hashsalt": None}):
        other = chart.save_figure(
            chart.roadmap_figure(**paper_figure()), str(tmp_path / f"other{suffix}")
        ).read_bytes()
    assert one == other
    assert b"<dc:date>" not in one


def test_a_png_in_memory_is_the_one_that_is_saved(tmp_path):
    figure = draw("one")
    assert chart.as_png(figure) == chart.save_figure(figure, tmp_path / "one.png").read_bytes()


def test_save_makes_folders_and_takes_capitals(tmp_path):
    path = chart.save_figure(draw("one"), tmp_path / "new" / "folder" / "chart.PNG")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["chart.jpg", "chart", "chart.svg.txt"])
def test_save_refuses_other_suffixes(tmp_path, name):
    with pytest.raises(UsageError, match=rf"{name}.*Valid: \.png, \.svg, \.pdf, \.eps, \.ps"):
        chart.save_figure(draw("one"), tmp_path / name)


def test_save_says_when_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RoadmapError, match="cannot write"):
        chart.save_figure(draw("one"), tmp_path / "file" / "chart.png")


def test_drawing_leaves_the_settings_alone():
    before = dict(mpl.rcParams)
    chart.roadmap_figure(**paper_figure())
    assert dict(mpl.rcParams) == before


@pytest.mark.integration
def test_importing_needs_neither_torch_nor_pyplot():
    code = (
        "import sys, ablations.charts.chart, ablations.paper;"
        "sys.exit(bool({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
