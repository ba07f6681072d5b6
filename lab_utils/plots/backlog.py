"""How far behind each function is: records that wait, and how long the oldest has waited."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from lab_utils.plots.style import (
    DPI,
    PAPER,
    WIDTH,
    Frame,
    Point,
    TimeAxis,
    dress,
    function_colours,
    label_points,
    name_y,
    say,
    unit_for,
    whole_numbers,
)

SHORTEST = 2.0  #: seconds; samples are too far apart to measure an age in milliseconds


def plot_backlog(
    backlog: Frame,
    axes: Sequence[Axes] | None = None,
    *,
    origin: datetime | None = None,
    since: str = "the first sample",
) -> tuple[Axes, Axes]:
    """Draw two panels over one time axis: records waiting, and the age of the oldest of them.

    `backlog` has one row per sample and function: at (UTC), function, waiting (records in the
    stream that were not processed yet) and age (seconds; NaN while nothing waits). The x axis
    counts from `origin` (UTC; the first sample by default), and is named after it by `since`.
    Returns the upper and the lower axes.
    """
    upper, lower = axes if axes is not None else _panels()
    if not len(backlog):
        say(upper, "no records waiting")
        return upper, say(lower, "")
    time = TimeAxis.over(origin or backlog["at"].min(), backlog["at"].max())
    longest = float(np.nanmax([0.0, *backlog["age"].astype(float)]))
    unit, size = unit_for(max(longest, SHORTEST))
    waiting = _draw_steps(upper, backlog, "waiting", time, 1.0)
    ages = _draw_steps(lower, backlog, "age", time, size)
    name_y(upper, "records waiting")
    name_y(lower, f"age of the oldest ({unit})")
    whole_numbers(upper)
    upper.tick_params(labelbottom=False)
    time.label(lower, since)
    label_points(upper, waiting)
    label_points(lower, ages)
    return upper, lower


def _panels() -> tuple[Axes, Axes]:
    figure = plt.figure(figsize=(WIDTH, 4.6), dpi=DPI, facecolor=PAPER, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    return dress(upper), dress(lower)


def _draw_steps(ax: Axes, backlog: Frame, column: str, time: TimeAxis, size: float) -> list[Point]:
    """One stepped line per function; where each is highest, for its name."""
    points: list[Point] = []
    for function, colour in function_colours(backlog["function"]).items():
        mine = backlog[backlog["function"] == function].sort_values("at", kind="stable")
        times, values = time.of(mine["at"]), mine[column].to_numpy(dtype=float) / size
        ax.fill_between(times, values, step="post", color=colour, alpha=0.14, linewidth=0)
        ax.step(times, values, where="post", color=colour, linewidth=2.0)
        if not np.isnan(values).all():
            top = int(np.nanargmax(values))
            points.append((float(times[top]), float(values[top]), str(function), colour))
    times = time.of(backlog["at"])
    ax.set_xlim(min(0.0, float(times.min())), float(times.max()) or 1.0)
    ax.set_ylim(0, max([point[1] for point in points], default=0.0) * 1.1 or 1.0)
    return points
