"""When which function ran, for which shard, and how many ran at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D

from lab_utils.plots.style import (
    BLACK,
    FUNCTION_COLOURS,
    INK,
    MUTED,
    PAPER,
    SMALL,
    TEXT,
    VERMILLION,
    YELLOW,
    Frame,
    Numbers,
    TimeAxis,
    darker,
    function_colours,
    label_points,
    name_y,
    new_axes,
    say,
    shard_names,
    size_in_inches,
    text_on,
    text_width,
    tint,
    whole_numbers,
)

#: what went wrong: colour of the bar and shape of the mark at its end
TROUBLE = {
    "error": (VERMILLION, "X"),
    "timeout": (BLACK, "D"),
    "partial": (YELLOW, "P"),
    "throttled": (PAPER, "v"),
}
FIRST = "the first invocation"
MOST_SIZES = 200  #: a function that ran more often has no batch sizes written into its bars


@dataclass(frozen=True)
class _Lane:
    """One row of the timeline: a lane of a shard, or an instance that was called directly."""

    function: str
    shard: str | None
    lane: int


@dataclass(frozen=True)
class _Bars:
    """The bars of a timeline, one number each per invocation, in the units of the axes."""

    starts: Numbers
    widths: Numbers
    rows: Numbers
    fills: list[str]


def plot_invocations(
    invocations: Frame,
    ax: Axes | None = None,
    function: str | None = None,
    *,
    origin: datetime | None = None,
    since: str = FIRST,
    by: str = "function",
) -> Axes:
    """Draw a timeline: one row per shard (and lane), one bar per invocation, functions apart.

    `invocations` is the frame of `lab.invocations()`: function, instance, shard (None for a direct
    call), lane, batch_size, started and ended (UTC), outcome, attempt, iterator_age (seconds).
    A bar's number is its batch size, where it fits and its function ran at most 200 times. A bar
    is at least 1/400 of the axis wide, however short the run was. Good bars have their function's
    colour, or with `by="instance"` one per instance; bars that went wrong have their own colour
    and a mark.

    `function` shows one function alone. The x axis counts from `origin` (UTC; the first start
    by default), and is named after it by `since`.
    """
    if by not in ("function", "instance"):
        raise ValueError(f"by is 'function' or 'instance', not {by!r}.")
    colours = function_colours(invocations["function"]) if len(invocations) else {}
    if function is not None:
        invocations = invocations[invocations["function"] == function]
    if not len(invocations):
        return say(ax or new_axes(height=2.0), "no invocations")
    lanes = _lanes(invocations)
    rows, bottom = _rows(lanes, list(dict.fromkeys(invocations["function"])))
    ax = ax or new_axes(height=_height(bottom))
    starts, widths = _columns(ax, invocations, origin, since)
    heights = np.array([rows[lane] for lane in lanes])
    bars = _Bars(starts, widths, heights, _fills(invocations, colours, by))
    ax.set_ylim(bottom, 0)
    _draw_bars(ax, bars)
    _write_sizes(ax, bars, invocations)
    _mark_trouble(ax, bars, list(invocations["outcome"]))
    _name_rows(ax, rows)
    _name_groups(ax, invocations, rows, colours if by == "function" else {})
    return ax


def _height(rows: float) -> float:
    """Inches for so many rows: roomy when they are few."""
    return min(8.0, 1.05 + min(0.3 * rows, 1.0 + 0.19 * rows))


def _columns(
    ax: Axes, invocations: Frame, origin: datetime | None, since: str
) -> tuple[Numbers, Numbers]:
    """Where bars start and how wide they are; sets up the x axis."""
    time = _time_axis(invocations, origin)
    starts, ends = time.of(invocations["started"]), time.of(_ended(invocations))
    left, right = min(float(np.nanmin(starts)), 0.0), float(np.nanmax(ends))
    span = (right - left) or 1.0
    ax.set_xlim(left - 0.015 * span, left + 1.015 * span)
    time.label(ax, since)
    return starts, np.maximum(ends - starts, span / 400)


def _time_axis(invocations: Frame, origin: datetime | None) -> TimeAxis:
    last = max(_ended(invocations).max(), invocations["started"].max())
    return TimeAxis.over(origin or invocations["started"].min(), last)


def _ended(invocations: Frame) -> Frame:
    """When each ended; what still runs, runs to the edge of the picture."""
    ended = invocations["ended"]
    known = ended.max()
    latest = invocations["started"].max()
    return ended.fillna(latest if known != known else max(known, latest))


def _lanes(invocations: Frame) -> list[_Lane]:
    """The lane of each invocation. Direct calls have one per instance."""
    direct: dict[tuple[str, str], int] = {}
    lanes = []
    columns = zip(
        invocations["function"],
        invocations["shard"],
        invocations["lane"],
        invocations["instance"],
        strict=True,
    )
    for function, shard, lane, instance in columns:
        if isinstance(shard, str):
            lanes.append(_Lane(function, shard, int(lane) if lane == lane and lane else 0))
        else:
            number = direct.setdefault((function, str(instance)), len(direct))
            lanes.append(_Lane(function, None, number))
    return lanes


def _rows(lanes: Sequence[_Lane], functions: list[str]) -> tuple[dict[_Lane, float], float]:
    """A y for each lane, with room for a heading above each function; and where they end."""
    order = {name: i for i, name in enumerate(functions)}
    rows: dict[_Lane, float] = {}
    y, current = 0.0, None
    for lane in sorted(set(lanes), key=lambda a: (order[a.function], a.shard or "", a.lane)):
        if lane.function != current:
            y += 1.6 if current is None else 2.0
            current = lane.function
        rows[lane] = y
        y += 1
    return rows, y - 0.3


def _fills(invocations: Frame, colours: dict[str, str], by: str) -> list[str]:
    """The colour of each bar."""
    if by == "instance":
        names = list(dict.fromkeys(invocations["instance"]))
        shades = [tint(c, s) for s in (1.0, 0.5) for c in FUNCTION_COLOURS]
        usual = [shades[names.index(name) % len(shades)] for name in invocations["instance"]]
    else:
        usual = [colours[name] for name in invocations["function"]]
    return [
        TROUBLE[outcome][0] if outcome in TROUBLE else colour
        for outcome, colour in zip(invocations["outcome"], usual, strict=True)
    ]


def _draw_bars(ax: Axes, bars: _Bars) -> None:
    corners = [
        [(x, y - 0.4), (x + w, y - 0.4), (x + w, y + 0.4), (x, y + 0.4)]
        for x, w, y in zip(bars.starts, bars.widths, bars.rows, strict=True)
    ]
    ax.add_collection(
        PolyCollection(corners, facecolors=bars.fills, edgecolors=PAPER, linewidths=0.5, zorder=2)
    )


def _write_sizes(ax: Axes, bars: _Bars, invocations: Frame) -> None:
    """Batch sizes, in the bars that have room for them, of functions that ran not too often."""
    left, right = ax.get_xlim()
    wide, high = size_in_inches(ax)
    if high / (ax.get_ylim()[0] - ax.get_ylim()[1]) < 0.13:
        return
    runs = invocations["function"].value_counts()
    for i, (function, size) in enumerate(
        zip(invocations["function"], invocations["batch_size"], strict=True)
    ):
        room = bars.widths[i] / (right - left) * wide
        if not size > 0 or runs[function] > MOST_SIZES or text_width(f"{size:,.0f}", 9) > room:
            continue
        ax.text(bars.starts[i] + bars.widths[i] / 2, bars.rows[i], f"{size:,.0f}", fontsize=9,
                color=text_on(bars.fills[i]), ha="center", va="center_baseline", zorder=3,
                clip_on=True, in_layout=False)  # fmt: skip


def _mark_trouble(ax: Axes, bars: _Bars, outcomes: list[str]) -> None:
    """A mark at the end of each bar that went wrong, and a line that says what the marks mean."""
    handles = []
    ends = bars.starts + bars.widths
    for outcome, (colour, marker) in TROUBLE.items():
        chosen = [i for i, value in enumerate(outcomes) if value == outcome]
        if not chosen:
            continue
        edge = INK if outcome in ("partial", "throttled") else PAPER
        look: dict[str, Any] = {"marker": marker, "markersize": 8, "linestyle": "none"}
        look |= {"markerfacecolor": colour, "markeredgecolor": edge, "markeredgewidth": 0.9}
        ax.plot(ends[chosen], bars.rows[chosen], zorder=4, clip_on=False, **look)
        handles.append(Line2D([], [], label=outcome, **look))
    if handles:
        ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4,
                  frameon=False, fontsize=SMALL, labelcolor=INK, handletextpad=0.0,
                  columnspacing=0.9, borderaxespad=0.0, borderpad=0.1)  # fmt: skip


def _name_rows(ax: Axes, rows: dict[_Lane, float]) -> None:
    """Short shard names at the left, as many as can be read."""
    names = _row_names(list(rows))
    high = size_in_inches(ax)[1] / (ax.get_ylim()[0] - ax.get_ylim()[1])
    every = max(1, int(np.ceil(0.17 / high)))
    shown = []
    for function in dict.fromkeys(lane.function for lane in rows):
        group = [lane for lane in rows if lane.function == function]
        shown += group[::every]
    ax.set_yticks([rows[lane] for lane in shown], [names[lane] for lane in shown])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", color=tint(MUTED, 0.2), linewidth=0.8)
    name_y(ax, "shard")
    ax.spines["left"].set_visible(False)


def _row_names(lanes: list[_Lane]) -> dict[_Lane, str]:
    names = {}
    for function in dict.fromkeys(lane.function for lane in lanes):
        group = [lane for lane in lanes if lane.function == function]
        short = shard_names(lane.shard for lane in group if lane.shard)
        several = any(lane.lane for lane in group if lane.shard)
        for lane in group:
            suffix = f".{lane.lane}" if several else ""
            names[lane] = f"{short[lane.shard]}{suffix}" if lane.shard else "direct"
    return names


def _name_groups(
    ax: Axes, invocations: Frame, rows: dict[_Lane, float], colours: dict[str, str]
) -> None:
    """Each function's name above its rows, with how often it ran."""
    ran = invocations["outcome"] != "throttled"
    runs = ran.groupby(invocations["function"], sort=False).sum()
    left = ax.get_xlim()[0]
    for function, count in runs.items():
        top = min(y for lane, y in rows.items() if lane.function == function)
        ax.axhline(top - 1.45, color=tint(MUTED, 0.35), linewidth=0.8, zorder=1)
        words = f" {count:,} invocation" + "s" * (count != 1)
        colour = darker(colours.get(function, INK))
        name = ax.annotate(function, (left, top - 0.6), fontsize=TEXT, fontweight="bold",
                           color=colour, va="bottom", zorder=5)  # fmt: skip
        ax.annotate(words, (1, 0), xycoords=name, fontsize=SMALL, color=MUTED, va="bottom")


# --- how many at once -----------------------------------------------------------------------


def plot_concurrency(
    invocations: Frame,
    ax: Axes | None = None,
    *,
    origin: datetime | None = None,
    since: str = FIRST,
) -> Axes:
    """Draw how many instances of each function ran at once, over time.

    `invocations` is the frame of `lab.invocations()`; throttled ones did not run and do not
    count. The x axis counts from `origin` (UTC; the first start by default).
    """
    ran = invocations[invocations["outcome"] != "throttled"] if len(invocations) else invocations
    if not len(ran):
        return say(ax or new_axes(height=2.0), "no invocations")
    ax = ax or new_axes(height=3.2)
    time = _time_axis(ran, origin)
    colours = function_colours(invocations["function"])
    points = []
    for function, colour in colours.items():
        mine = ran[ran["function"] == function]
        if not len(mine):
            continue
        times, running = _running(time.of(mine["started"]), time.of(_ended(mine)))
        ax.fill_between(times, running, step="post", color=colour, alpha=0.14, linewidth=0)
        ax.step(times, running, where="post", color=colour, linewidth=1.8)
        top = int(running.max())
        points.append((float(times[running.argmax()]), top, f"{function}, at most {top:,}", colour))
    ax.set_xlim(right=time.at(_ended(ran).max()), left=min(0.0, time.at(ran["started"].min())))
    ax.set_ylim(0, max(point[1] for point in points) * 1.1)
    whole_numbers(ax)
    time.label(ax, since)
    name_y(ax, "instances running")
    label_points(ax, points)
    return ax


def _running(starts: Numbers, ends: Numbers) -> tuple[Numbers, Numbers]:
    """Times at which the number of running instances changes, and the number from then on."""
    times = np.concatenate([starts, ends])
    steps = np.concatenate([np.ones(len(starts)), -np.ones(len(ends))])
    moments, which = np.unique(times, return_inverse=True)
    changes = np.bincount(which.ravel(), weights=steps)
    return (
        np.concatenate([moments[:1], moments]),
        np.concatenate([[0.0], np.cumsum(changes)]),
    )
