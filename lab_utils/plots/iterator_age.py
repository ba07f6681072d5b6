"""How old the records are that a function is given, over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lab_utils.plots.style import (
    FUNCTION_COLOURS,
    MUTED,
    Frame,
    Numbers,
    Point,
    TimeAxis,
    function_colours,
    label_points,
    name_y,
    new_axes,
    say,
    shard_names,
    tint,
    unit_for,
)
from lab_utils.plots.timeline import FIRST, draw_key, mark_points

MOST_LINES = len(FUNCTION_COLOURS)  #: more than these and only the highest have colours and names
LOW = 0.2  #: of the highest; of many lines, those that never rise above it have no names either
MOST_POINTS = 150  #: a line with more is drawn without its points
SLICES = 60  #: of the time axis; a function's line goes through the highest point of each
REST = tint(MUTED, 0.45)


@dataclass(frozen=True)
class _Line:
    """One line: its name and its points, in the order of time."""

    name: str
    times: Numbers
    ages: Numbers


def plot_iterator_age(
    invocations: Frame,
    ax: Axes | None = None,
    *,
    origin: datetime | None = None,
    since: str = FIRST,
    by: str = "shard",
) -> Axes:
    """Draw iterator age over time: the age of a batch's last record when a function was given it.

    `invocations` is the frame of `lab.invocations()`; each with an `iterator_age` (seconds) is a
    point at its start. A line joins those of a shard, or with `by="function"` the highest of all
    shards of a function in each sixtieth of the time. Of more than five lines those that rise
    highest, four at most, have a name, and the others are grey. Tries that failed are marked. The
    x axis counts from `origin` (UTC; the first start by default), and is named after it by
    `since`.
    """
    if by not in ("shard", "function"):
        raise ValueError(f"by is 'shard' or 'function', not {by!r}.")
    aged = invocations[invocations["iterator_age"].notna()]
    if not len(aged):
        return say(ax or new_axes(height=2.0), "no iterator age yet")
    ax = ax or new_axes(height=3.4)
    aged = aged.sort_values("started", kind="stable")
    time = TimeAxis.over(origin or invocations["started"].min(), aged["started"].max())
    unit, size = unit_for(float(aged["iterator_age"].max()))
    times, ages = time.of(aged["started"]), aged["iterator_age"].to_numpy(dtype=float) / size
    lines = _per_shard(aged, times, ages) if by == "shard" else _per_function(aged, times, ages)
    ax.set_xlim(min(0.0, float(times[0])), max(float(times[-1]), 0.0) or 1.0)
    ax.set_ylim(0, float(ages.max()) * 1.1 or 1.0)
    points, handles = _draw(ax, lines, by)
    handles += mark_points(ax, times, ages, list(aged["outcome"]))
    draw_key(ax, handles)
    time.label(ax, since)
    name_y(ax, f"iterator age ({unit})")
    label_points(ax, points)
    return ax


def _per_shard(aged: Frame, times: Numbers, ages: Numbers) -> list[_Line]:
    functions = list(dict.fromkeys(aged["function"]))
    lines = []
    for function in functions:
        own = (aged["function"] == function).to_numpy()
        for shard, short in shard_names(aged["shard"][own]).items():
            mine = own & (aged["shard"] == shard).to_numpy()
            name = f"{function} {short}" if len(functions) > 1 else short
            lines.append(_Line(name, times[mine], ages[mine]))
    return lines


def _per_function(aged: Frame, times: Numbers, ages: Numbers) -> list[_Line]:
    slices = ((times - times[0]) / ((times[-1] - times[0]) or 1.0) * SLICES).astype(int)
    lines = []
    for function in dict.fromkeys(aged["function"]):
        own = np.flatnonzero((aged["function"] == function).to_numpy())
        rising = own[np.lexsort((ages[own], slices[own]))]
        highest = rising[np.flatnonzero(np.diff(slices[rising], append=SLICES + 1))]
        lines.append(_Line(function, times[highest], ages[highest]))
    return lines


def _draw(ax: Axes, lines: list[_Line], by: str) -> tuple[list[Point], list[Line2D]]:
    """The lines, the highest in front; their names at their highest points, and a key."""
    highest = sorted(lines, key=lambda line: -float(line.ages.max()))
    named = lines if len(lines) <= MOST_LINES else _standing_out(highest)
    colours = function_colours(line.name for line in lines if line in named)
    points: list[Point] = []
    for line in reversed(highest):
        colour = colours.get(line.name, REST)
        front = line.name in colours
        ax.plot(line.times, line.ages, color=colour, linewidth=2.0 if front else 1.0,
                zorder=3 if front else 2, markersize=4,
                marker="o" if len(line.times) <= MOST_POINTS and front else "")  # fmt: skip
        if front:
            top = int(line.ages.argmax())
            points.append((float(line.times[top]), float(line.ages[top]), line.name, colour))
    rest = len(lines) - len(points)
    things = by + "s" * (rest != 1)
    key = [Line2D([], [], color=REST, label=f"{rest} more {things} ")] if rest else []
    return points, key


def _standing_out(highest: list[_Line]) -> list[_Line]:
    """Of many lines, given the highest first, the few that are worth a name."""
    least = LOW * float(highest[0].ages.max())
    return [line for line in highest[: MOST_LINES - 1] if line.ages.max() >= least]
