"""The pictures of reports, drawn from numbers alone."""

import dataclasses
import itertools
import math
import random

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ablations.charts.settings import ChartSettings
from ablations.report import figures
from ablations.report.data import Curve
from ablations.report.figures import (
    curves_figure,
    curves_limits,
    mean_curve,
    pareto_front,
)

PLAIN = ChartSettings()


def dominated(i: int, costs: list[float], values: list[float]) -> bool:
    return any(
        costs[j] <= costs[i]
        and values[j] >= values[i]
        and (costs[j] < costs[i] or values[j] > values[i])
        for j in range(len(costs))
    )


def test_the_pareto_front_is_what_no_other_betters() -> None:
    draw = random.Random(0)
    for count in range(12):
        for _ in range(50):  # few different values, so that many are equal
            costs = [float(draw.randrange(5)) for _ in range(count)]
            values = [float(draw.randrange(5)) for _ in range(count)]
            expected = [not dominated(i, costs, values) for i in range(count)]
            assert pareto_front(costs, values) == expected, (costs, values)


@pytest.mark.parametrize("seed", range(8))
def test_all_on_the_front_are_named_and_no_name_covers_another_or_a_point(seed: int) -> None:
    draw = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "step": [f"step-{number}" for number in range(17)],
            "cost": draw.uniform(1, 4, 17).round(1),
            "top1": draw.normal(80, 1, 17),
            "top1_std": draw.uniform(0, 1, 17),
            "adopted": draw.random(17) < 0.8,
            "color": "#123456",
        }
    )
    figure = figures.cost_figure(table, "MFLOPs", PLAIN)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    names = {t.get_text(): t.get_window_extent() for t in axes.texts}
    front = pareto_front(list(table["cost"]), list(table["top1"]))
    assert set(table["step"][front]) <= set(names)
    assert len(names) > 8
    for one, other in itertools.combinations(names.values(), 2):
        assert not one.padded(-0.5).overlaps(other)
    for x, y in axes.transData.transform(table[["cost", "top1"]]):
        assert not any(box.padded(-0.5).contains(x, y) for box in names.values())


def test_the_mean_curve_is_over_finished_runs_alone() -> None:
    epochs = np.array([1.0, 2.0, 3.0])
    curves = [
        Curve(0, True, epochs, np.array([10.0, 20.0, 30.0]), np.array([3.0, 2.0, 1.0])),
        Curve(1, True, epochs, np.array([12.0, 22.0, 36.0]), np.array([3.0, 1.0, 1.0])),
        Curve(2, False, epochs[:1], np.array([90.0]), np.array([9.0])),
    ]
    found, mean, spread = mean_curve(curves)
    assert list(found) == [1, 2, 3]
    assert list(mean) == [11, 21, 33]
    assert spread == pytest.approx([2**0.5, 2**0.5, 18**0.5])
    assert list(mean_curve(curves, figures.LOSS)[1]) == [3, 1.5, 1]
    assert all(len(part) == 0 for part in mean_curve(curves[2:]))
    rare = np.array([math.nan, 10.0, 30.0])  # evaluated after the second epoch and the last
    some = [dataclasses.replace(curve, values=rare[: len(curve.values)]) for curve in curves]
    epochs, found, _ = mean_curve(some)
    assert (epochs.tolist(), found.tolist()) == ([2, 3], [10, 30])
    figure = curves_figure("a step", some, [], curves_limits(some), "black", PLAIN)
    [line] = [x for x in figure.axes[0].lines if x.get_gid() == "top1-mean"]
    assert line.get_xdata().tolist() == [2, 3]


@pytest.mark.parametrize(("seeds", "names"), [(1, {"mean"}), (3, {"mean", "seed-0", "seed-2"}),
                                              (6, {"mean", "band"})])  # fmt: skip
def test_few_seeds_are_lines_and_many_a_band(seeds: int, names: set[str]) -> None:
    epochs = np.array([1.0, 2.0])
    curves = [
        Curve(s, True, epochs, np.array([s, s + 1.0]), np.array([2.0 * s, s])) for s in range(seeds)
    ]
    figure = curves_figure("a step", curves, curves[:1], curves_limits(curves), "black", PLAIN)
    for axes, of in zip(figure.axes, ("top1", "loss"), strict=True):
        found = {artist.get_gid() for artist in axes.findobj() if artist.get_gid()}
        assert {f"{of}-{name}" for name in (*names, "baseline")} <= found
        assert (f"{of}-band" in found) == (seeds == 6)
        assert (f"{of}-seed-0" in found) == (seeds == 3)
    middle = (seeds - 1) / 2
    for name, means in (("top1", [middle, middle + 1]), ("loss", [2 * middle, middle])):
        (line,) = [a for a in figure.findobj() if a.get_gid() == f"{name}-mean"]
        assert list(line.get_ydata()) == pytest.approx(means)


def test_a_long_title_stays_on_its_panel() -> None:
    epochs = np.array([1.0])
    title = "without " + "a very long name of something that was left out " * 5 + "W" * 90
    curves = [Curve(0, True, epochs, np.array([5.0]), np.array([math.nan]))]
    lines = figures.title_lines([title], PLAIN)
    figure = curves_figure(title, curves, [], curves_limits(curves), "black", PLAIN, lines)
    figure.draw_without_rendering()
    (head,) = figure.texts
    box = head.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= figure.axes[0].get_window_extent().y1


def test_costs_far_apart_stand_on_a_logarithmic_axis() -> None:
    table = pd.DataFrame({
        "step": ["a", "b", "c"], "cost": [1.0, 5.0, 200.0], "top1": [70.0, 71.0, 72.0],
        "top1_std": [0.1, float("nan"), 0.2], "adopted": [True, False, True], "color": ["k"] * 3,
    })  # fmt: skip
    for costs in ([1.0, 5.0, 200.0], [0.31, 0.67, 3.95], [2e-3, 7.0, 4e5]):
        figure = figures.cost_figure(table.assign(cost=costs), "MFLOPs", PLAIN)
        (axes,) = figure.axes
        assert axes.get_xscale() == "log"
        figure.draw_without_rendering()
        shown = [t for t in axes.get_xticklabels(which="both") if t.get_text()]
        left, right = axes.get_xlim()
        boxes = [t.get_window_extent() for t in shown if left <= t.get_position()[0] <= right]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    figure = figures.cost_figure(table[:2], "MFLOPs", PLAIN)
    assert figure.axes[0].get_xscale() == "linear"
    (front,) = [a for a in figure.findobj() if a.get_gid() == "front"]
    assert list(front.get_xdata()) == [1.0, 5.0]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("low", "high"),
    [(83.25, 83.25), (83.2501, 83.2502), (0.0, 100.0), (9.99, 10.01), (83.2, 84.7), (99.5, 100.0)],
)
@pytest.mark.parametrize("cost", [2.2, 1234567.0, 0.00012])
def test_numbers_and_names_of_axes_are_inside_the_picture(low, high, cost) -> None:
    table = pd.DataFrame({
        "step": ["a", "b", "a long key of a step " * 5], "cost": [cost, 1.3 * cost, 2 * cost],
        "top1": [low, high, high], "top1_std": [0.1, float("nan"), 0.0],
        "adopted": [True, False, True], "color": ["k"] * 3,
        "label": ["a", "b", "a long title " * 9], "change": [low - high, 0.001, high - low],
        "change_low": [low - high - 1e-4, -0.1, 0.0], "change_high": [0.1, 0.2, 100.0],
    })  # fmt: skip
    epochs = np.array([1.0, 2.0, 300.0])
    losses = np.array([cost, 2 * cost, math.nan])
    curves = [Curve(0, True, epochs, np.array([low, low, high]), losses)]
    for figure in (
        figures.cost_figure(table, "MFLOPs (one image)", PLAIN),
        figures.tornado_figure(table),
        curves_figure("title", curves, curves, curves_limits(curves), "black", PLAIN),
    ):
        FigureCanvasAgg(figure).draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
            assert (edge == 255).all()
