"""Pictures of costs and of limits: what is where, what is marked, what is said of nothing."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from drawn import png, words
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from lab_utils.plots import plot_costs, plot_limits, style

RATES = np.geomspace(1, 1000, 4)
COSTS = pd.DataFrame({"plain": [100.0, 12.0, 2.0, 0.8], "other": [20.0, 4, 1, 0.7]}, index=RATES)
SHARES = pd.DataFrame(
    {"10/s": [0.5, 1e-9], "1,000/s": [0.9, 1.0], "100,000/s": [40.0, 0.02]},
    index=["records of a shard", "bytes of an event"],
)


def key(ax: Axes) -> set[str]:
    legend = ax.get_legend()
    assert legend is not None
    return {text.get_text().strip() for text in legend.get_texts()}


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_a_line_for_each_design() -> None:
    ax = plot_costs(COSTS)
    for line, name in zip(ax.lines, COSTS, strict=True):
        assert list(line.get_xdata()) == list(RATES)
        assert list(line.get_ydata()) == list(COSTS[name])
    assert len({(line.get_color(), str(line.get_linestyle())) for line in ax.lines}) == 2
    assert len({str(line._dash_pattern) for line in ax.lines}) == 2  # told apart without colours
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert key(ax) == {"plain", "other"}
    assert ax.get_xlabel() == "messages a second"
    assert ax.get_ylabel() == "USD a million messages"


def test_a_mark_for_each_load_and_trouble_where_a_limit_is_reached() -> None:
    ax = plot_limits(SHARES)
    points = ax.collections
    assert [len(each.get_offsets()) for each in points] == [2, 2, 2]
    reached = {
        (i, row)
        for i, each in enumerate(points)
        for row, fill in enumerate(each.get_facecolors())
        if to_hex(fill) == style.VERMILLION.lower()
    }
    assert reached == {(1, 1), (2, 0)}
    assert points[0].get_offsets()[1][0] == pytest.approx(1e-4)  # too small to be drawn in place
    assert words(ax) == ["records of a shard", "bytes of an event"]
    assert key(ax) == {"10/s", "1,000/s", "100,000/s", "limit reached"}
    left, right = ax.get_xlim()
    assert left < 1e-4
    assert right > 40


def test_nothing_is_said() -> None:
    assert "nothing to compare" in words(plot_costs(pd.DataFrame()))
    assert "no limits" in words(plot_limits(pd.DataFrame()))


def test_more_than_can_be_told_apart_is_refused() -> None:
    many = pd.DataFrame({str(i): [1.0] for i in range(6)}, index=[1.0])
    with pytest.raises(ValueError, match="6 designs: give at most 5"):
        plot_costs(many)
    with pytest.raises(ValueError, match="6 loads: give at most 3"):
        plot_limits(many)


def test_the_same_bytes_at_every_run() -> None:
    assert png(plot_costs(COSTS)) == png(plot_costs(COSTS))
    assert png(plot_limits(SHARES)) == png(plot_limits(SHARES))
