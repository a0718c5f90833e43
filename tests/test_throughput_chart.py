"""The chart of accuracy against throughput: its points are the table's, and it can be read."""

import functools
import itertools
import math

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ablations import paper
from ablations.charts import chart
from ablations.charts.labels import Box, place_labels
from ablations.charts.settings import ChartSettings
from ablations.charts.throughput_chart import COLUMNS, draw
from modernize.errors import UsageError


def table(count=17):
    """The paper's road with throughputs that crowd, as they do."""
    frame = paper.published("resnet50").head(count)
    speeds = [1e11 / cost + number % 3 for number, cost in enumerate(frame["flops"])]
    return pd.DataFrame(
        {
            "name": frame["step"],
            "label": frame["label"],
            "group": frame["section"],
            **{name: frame[name] for name in ("parent", "adopted", "top1", "top1_std", "flops")},
            "images_per_second": speeds,
            "images_per_second_min": [speed - 0.5 for speed in speeds],
            "images_per_second_max": [speed + 0.7 for speed in speeds],
        }
    )


def drawn(frame):
    return draw(frame, title="A road", speed_label="images per second", note="a note")


@functools.cache
def whole():
    return drawn(table())


def by_gid(figure, kind):
    found = {}
    for axes in figure.axes:
        for artist in axes.get_children():
            if (artist.get_gid() or "").startswith(f"{kind}-"):
                found[artist.get_gid().removeprefix(f"{kind}-")] = artist
    return found


@pytest.mark.integration
def test_points_are_the_tables_numbers():
    frame = table()
    points = by_gid(whole(), "point")
    assert len(points) == 2 * len(frame)
    for row in frame.to_dict("records"):
        for axis, column in (("images_per_second", "images_per_second"), ("cost", "flops")):
            line = points[f"{axis}-{row['name']}"]
            assert line.get_xdata() == [pytest.approx(row[column] / (1e9 if axis == "cost" else 1))]
            assert line.get_ydata() == [row["top1"]]
            hollow = line.get_markerfacecolor() == "#ffffff"
            assert hollow is not row["adopted"]


@pytest.mark.integration
def test_costs_of_small_networks_are_in_mflops():
    frame = table(3).assign(flops=[2e6, 3e6, 2.5e6])
    figure = drawn(frame)
    assert figure.axes[2].get_xlabel() == "MFLOPs per image"
    (found,) = by_gid(figure, "point")[f"cost-{frame['name'][1]}"].get_xdata()
    assert math.isclose(found, 3.0)
    assert whole().axes[2].get_xlabel() == "GFLOPs per image"


def test_spreads_and_deviations_are_drawn():
    frame = table(2)
    _page, speed, cost = drawn(frame).axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in speed.lines]
    for row in frame.to_dict("records"):
        ends = [row["images_per_second_min"], row["images_per_second_max"]]
        assert (ends, [row["top1"]] * 2) in lines
    top1, std = frame["top1"][1], frame["top1_std"][1]
    assert math.isnan(frame["top1_std"][0])
    upright = ([frame["flops"][1] / 1e9] * 2, [top1 - std, top1 + std])
    assert upright in [(list(line.get_xdata()), list(line.get_ydata())) for line in cost.lines]


def test_no_deviation_is_cut_off():
    frame = table(2).assign(top1_std=5.0)
    for panel in drawn(frame).axes[1:]:
        low, high = panel.get_ylim()
        assert low < frame["top1"].min() - 5 < frame["top1"].max() + 5 < high


@pytest.mark.integration
@pytest.mark.parametrize("count", [1, 2, 6, 17])
def test_no_label_covers_another_or_leaves_the_page(count):
    figure = whole() if count == 17 else drawn(table(count))
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = {gid: text.get_window_extent(renderer) for gid, text in by_gid(figure, "label").items()}
    assert len(boxes) == 2 * count
    for one, other in itertools.combinations(boxes, 2):
        assert not boxes[one].shrunk(0.9, 0.9).overlaps(boxes[other].shrunk(0.9, 0.9)), (one, other)
    for box in boxes.values():
        assert figure.bbox.fully_containsx(box.x0)
        assert figure.bbox.fully_containsx(box.x1)


def test_few_networks_bear_their_names_and_many_are_numbered():
    few = {text.get_text() for text in by_gid(drawn(table(4)), "label").values()}
    assert "patchify stem" in few
    many = whole()
    assert {text.get_text() for text in by_gid(many, "label").values()} == {
        str(number) for number in range(1, 18)
    }
    assert "BN to LN" in {text.get_text() for text in many.axes[0].texts}


def test_the_names_of_a_column_are_whole():
    settings = ChartSettings(width=3.25)
    figure = draw(table(), title="A road", speed_label="images per second", settings=settings)
    page, *_ = figure.axes
    names = [text for text in page.texts if text.get_position()[1] > page.get_ylim()[0] / 2]
    said = " ".join(text.get_text() for text in names)
    assert "separate downsampling (ConvNeXt-T)" in said
    assert "ResNet-50 (enhanced recipe)" in said
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in names]
    assert all(figure.bbox.fully_contains(box.x1, box.y0) for box in boxes)
    for one, other in itertools.combinations(boxes, 2):
        assert not one.shrunk(0.9, 0.8).overlaps(other.shrunk(0.9, 0.8))


@pytest.mark.integration
def test_the_same_table_gives_the_same_file(tmp_path):
    one, other = (
        chart.save_figure(figure, tmp_path / f"{number}.svg").read_bytes()
        for number, figure in enumerate((whole(), drawn(table())))
    )
    assert one == other


def test_labels_prefer_to_be_near_and_to_the_right():
    (box,) = place_labels([(1.0, 1.0)], [(0.2, 0.1)], 0.04, Box(0, 0, 2, 2))
    assert box.left == pytest.approx(1.07)
    (moved,) = place_labels(
        [(1.0, 1.0)], [(0.2, 0.1)], 0.04, Box(0, 0, 2, 2), obstacles=[Box(1.06, 0.9, 2, 1.1)]
    )
    assert moved.overlap(Box(1.06, 0.9, 2, 1.1)) == 0
    assert moved.overlap(Box(0.96, 0.96, 1.04, 1.04)) == 0


def test_what_cannot_be_drawn_says_why():
    with pytest.raises(UsageError, match="without flops"):
        drawn(table().drop(columns="flops"))
    with pytest.raises(UsageError, match="without rows"):
        drawn(pd.DataFrame(columns=list(COLUMNS)))
    with pytest.raises(UsageError, match="a network twice: resnet"):
        drawn(pd.concat([table(1), table(1)]))
