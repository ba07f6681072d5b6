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
REST = tint(MUTED, 0.45)
FIRST_MINUTE = "the first minute"


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
    point at its start. A line joins those of a shard; where a shard has several lanes, and with
    `by="function"` a function several shards, it is the highest of their lines. Of more than five
    lines those that rise highest, four at most, have a name, and the others are grey. Tries that
    failed are marked. The x axis counts from `origin` (UTC; the first start by default), and is
    named after it by `since`.

    The frame of `lab.iterator_age()` will do as well: one line, with a point for each minute.
    """
    if by not in ("shard", "function"):
        raise ValueError(f"by is 'shard' or 'function', not {by!r}.")
    if "age" in invocations:
        invocations = _like_invocations(invocations)
        since = FIRST_MINUTE if since == FIRST else since
    aged = invocations[invocations["iterator_age"].notna()]
    if not len(aged):
        return say(ax or new_axes(height=2.0), "no iterator age yet")
    ax = ax or new_axes(height=3.4)
    aged = aged.sort_values("started", kind="stable")
    time = TimeAxis.over(origin or invocations["started"].min(), aged["started"].max())
    unit, size = unit_for(float(aged["iterator_age"].max()))
    times, ages = time.of(aged["started"]), aged["iterator_age"].to_numpy(dtype=float) / size
    ax.set_xlim(min(0.0, float(times[0])), max(float(times[-1]), 0.0) or 1.0)
    ax.set_ylim(0, float(ages.max()) * 1.1 or 1.0)
    lines = _lines(aged, times, ages, by)
    named = _named(lines)
    colours = function_colours(invocations["function"] if by == "function" else named)
    points = _draw(ax, lines, {name: colours[name] for name in named})
    rest = len(lines) - len(named)
    grey = Line2D([], [], color=REST, label=f" {rest} more {by}" + "s" * (rest != 1))
    handles = [grey] if rest else []
    handles += mark_points(ax, times, ages, list(aged["outcome"]))
    draw_key(ax, handles)
    time.label(ax, since)
    name_y(ax, f"iterator age ({unit})")
    label_points(ax, points)
    return ax


def _like_invocations(ages: Frame) -> Frame:
    """CloudWatch's minutes, as if each were an invocation of whose shard nobody knows."""
    frame = ages.rename(columns={"at": "started", "age": "iterator_age"})
    return frame.assign(function="highest in a minute", shard=None, lane=0, outcome="ok")


def _lines(aged: Frame, times: Numbers, ages: Numbers, by: str) -> list[_Line]:
    """A line for each shard of each function, or for each function."""
    functions = list(dict.fromkeys(aged["function"]))
    lanes = aged.groupby(["shard", "lane"], sort=False, dropna=False).ngroup().to_numpy()
    lines = []
    for function in functions:
        own = (aged["function"] == function).to_numpy()
        unknown = aged["shard"].isna().to_numpy() if by == "shard" else True
        chosen = {function: own & unknown} if (own & unknown).any() else {}
        if by == "shard":
            start = f"{function} " if len(functions) > 1 else ""
            chosen |= {
                start + short: own & (aged["shard"] == shard).to_numpy()
                for shard, short in shard_names(aged["shard"][own].dropna()).items()
            }
        for name, mine in chosen.items():
            highest = _highest(times[mine], ages[mine], lanes[mine])
            lines.append(_Line(name, times[mine], highest))
    return lines


def _highest(times: Numbers, ages: Numbers, lanes: Numbers) -> Numbers:
    """At each of the times, the highest of the lines that join each lane's own ages."""
    heights = [
        np.interp(times, times[lanes == lane], ages[lanes == lane], left=0.0, right=0.0)
        for lane in np.unique(lanes)
    ]
    return np.max([ages, *heights], axis=0)


def _named(lines: list[_Line]) -> list[str]:
    """The names of all lines, or of many the few that stand out."""
    if len(lines) <= MOST_LINES:
        return [line.name for line in lines]
    tops = sorted((float(line.ages.max()) for line in lines), reverse=True)
    least = max(tops[MOST_LINES - 2], LOW * tops[0])
    return [line.name for line in lines if line.ages.max() >= least][: MOST_LINES - 1]


def _draw(ax: Axes, lines: list[_Line], colours: dict[str, str]) -> list[Point]:
    """The lines, those that have a colour in front; their names, at their highest points."""
    points: list[Point] = []
    for line in sorted(lines, key=lambda line: float(line.ages.max())):
        if line.name not in colours:
            ax.plot(line.times, line.ages, color=REST, linewidth=1.0, zorder=2)
            continue
        few = len(line.times) <= MOST_POINTS
        ax.plot(line.times, line.ages, color=colours[line.name], linewidth=2.0, zorder=3,
                marker="o" if few else "", markersize=4)  # fmt: skip
        top = int(line.ages.argmax())
        x, y = float(line.times[top]), float(line.ages[top])
        points.append((x, y, line.name, colours[line.name]))
    return points
