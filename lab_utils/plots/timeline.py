"""What timelines of invocations share: rows in groups, bars, marks of trouble, a key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    name_y,
    new_axes,
    size_in_inches,
    text_on,
    text_width,
    tint,
)

#: what went wrong: colour of the bar and shape of the mark at its end
TROUBLE = {
    "error": (VERMILLION, "X"),
    "timeout": (BLACK, "D"),
    "partial": (YELLOW, "P"),
    "throttled": (PAPER, "v"),
}
SHADES = [tint(colour, strength) for strength in (1.0, 0.5) for colour in FUNCTION_COLOURS]
"""For what may be more than the functions are: shards, instances. They repeat after the tenth."""
FIRST = "the first invocation"
ROW = 0.14  #: inches that a row needs to have a name
MANY_MARKS = 150  #: more of a kind are drawn small, or their pale edges would wipe each other out
MOST_WORDS = 200  #: a function that ran more often has nothing written into its bars


@dataclass(frozen=True)
class Row:
    """One row of a timeline: a lane of a shard, or (without a shard) an instance."""

    function: str
    shard: str | None
    number: int


@dataclass(frozen=True)
class Timeline:
    """What is drawn; `rows`, `colours` and `words` have one element per invocation."""

    invocations: Frame
    rows: Sequence[Row]
    colours: Sequence[str]  #: of a bar that went well
    words: Sequence[str]  #: written into a bar that has room
    points: float  #: how large
    names: Mapping[Row, str]
    things: str  #: what a row is, for instance "shard"
    headings: Mapping[str, str] = field(default_factory=dict)  #: colours of functions' names
    key: Mapping[str, str] = field(default_factory=dict)  #: what the bars' colours mean
    firsts: Sequence[int] = ()  #: which bars are the first of their rows, if that is to be shown


@dataclass(frozen=True)
class Bars:
    """Horizontal bars, one number each, in the units of the axes."""

    starts: Numbers
    widths: Numbers
    rows: Numbers
    fills: Sequence[str]


def draw_timeline(
    line: Timeline, ax: Axes | None, origin: datetime | None, since: str = FIRST
) -> Axes:
    """Draw rows of bars, functions apart, over an axis that counts from `origin`."""
    functions = list(dict.fromkeys(line.invocations["function"]))
    places, bottom = _place(line.rows, functions)
    ax = ax or new_axes(height=_height(bottom))
    starts, widths = _columns(ax, line.invocations, origin, since)
    fills = fills_of(line.invocations["outcome"], line.colours)
    bars = Bars(starts, widths, np.array([places[row] for row in line.rows]), fills)
    ax.set_ylim(bottom, 0)
    draw_bars(ax, bars)
    _write_words(ax, bars, line)
    handles = [swatch(name, colour) for name, colour in line.key.items()]
    handles += _mark_firsts(ax, bars, line.firsts)
    handles += mark_trouble(ax, bars, list(line.invocations["outcome"]))
    draw_key(ax, handles)
    _name_rows(ax, places, line.names)
    name_y(ax, line.things)
    _name_groups(ax, line, places)
    return ax


def _height(rows: float) -> float:
    """Inches for so many rows: roomy when they are few."""
    return min(8.0, 1.05 + min(0.3 * rows, 1.0 + 0.19 * rows))


def _place(rows: Iterable[Row], functions: list[str]) -> tuple[dict[Row, float], float]:
    """A y for each row, and where they end.

    There is room for a heading above each function, and some between shards that have lanes.
    """
    order = {name: i for i, name in enumerate(functions)}
    places: dict[Row, float] = {}
    y, last = 0.0, None
    laned = {row.function for row in rows if row.shard and row.number}
    for row in sorted(set(rows), key=lambda a: (order[a.function], a.shard or "", a.number)):
        if last is None or row.function != last.function:
            y += 1.6 if last is None else 2.0
        elif row.shard != last.shard and row.function in laned:
            y += 0.5
        places[row] = y
        y, last = y + 1, row
    return places, y - 0.3


# --- the x axis -----------------------------------------------------------------------------


def _columns(
    ax: Axes, invocations: Frame, origin: datetime | None, since: str
) -> tuple[Numbers, Numbers]:
    """Where bars start and how wide they are; sets up the x axis."""
    time = time_axis(invocations, origin)
    starts, ends = time.of(invocations["started"]), time.of(ended(invocations))
    left, right = min(float(np.nanmin(starts)), 0.0), float(np.nanmax(ends))
    span = (right - left) or 1.0
    ax.set_xlim(left - 0.015 * span, left + 1.015 * span)
    time.label(ax, since)
    return starts, np.maximum(ends - starts, span / 400)


def time_axis(invocations: Frame, origin: datetime | None) -> TimeAxis:
    """An axis on which all of the invocations lie."""
    last = max(ended(invocations).max(), invocations["started"].max())
    return TimeAxis.over(origin or invocations["started"].min(), last)


def ended(invocations: Frame) -> Frame:
    """When each ended; what still runs, runs to the edge of the picture."""
    known = invocations["ended"].max()
    latest = invocations["started"].max()
    return invocations["ended"].fillna(latest if known != known else max(known, latest))


# --- bars -----------------------------------------------------------------------------------


def fills_of(outcomes: Iterable[str], colours: Iterable[str]) -> list[str]:
    """The colour of each bar: of its trouble, or else its own."""
    return [
        TROUBLE[outcome][0] if outcome in TROUBLE else colour
        for outcome, colour in zip(outcomes, colours, strict=True)
    ]


def draw_bars(ax: Axes, bars: Bars, edge: str = PAPER) -> None:
    """Draw the bars, each a little less than a row high."""
    corners = [
        [(x, y - 0.4), (x + w, y - 0.4), (x + w, y + 0.4), (x, y + 0.4)]
        for x, w, y in zip(bars.starts, bars.widths, bars.rows, strict=True)
    ]
    ax.add_collection(
        PolyCollection(corners, facecolors=bars.fills, edgecolors=edge, linewidths=0.5, zorder=2)
    )


def row_height(ax: Axes) -> float:
    """Inches from one row to the next."""
    bottom, top = ax.get_ylim()
    return size_in_inches(ax)[1] / (bottom - top)


def _write_words(ax: Axes, bars: Bars, line: Timeline) -> None:
    """Words in the bars that have room for them, of functions that ran not too often."""
    left, right = ax.get_xlim()
    wide = size_in_inches(ax)[0]
    if row_height(ax) < 0.13:
        return
    runs = line.invocations["function"].value_counts()
    for i, (row, text) in enumerate(zip(line.rows, line.words, strict=True)):
        room = bars.widths[i] / (right - left) * wide
        if not text or runs[row.function] > MOST_WORDS or text_width(text, line.points) > room:
            continue
        ax.text(bars.starts[i] + bars.widths[i] / 2, bars.rows[i], text, fontsize=line.points,
                color=text_on(bars.fills[i]), ha="center", va="center_baseline", zorder=3,
                clip_on=True, in_layout=False)  # fmt: skip


def _mark_firsts(ax: Axes, bars: Bars, firsts: Sequence[int]) -> list[Line2D]:
    """A dark edge at the left of the first bars; what it means, for the key."""
    if not firsts:
        return []
    x, y = bars.starts[firsts], bars.rows[firsts]
    ax.vlines(x, y - 0.42, y + 0.42, color=INK, linewidth=2.5, zorder=3.5)
    return [Line2D([], [], label="first run", marker="|", markersize=10, markeredgewidth=2.5,
                   linestyle="none", color=INK)]  # fmt: skip


def mark_trouble(ax: Axes, bars: Bars, outcomes: Sequence[str]) -> list[Line2D]:
    """Put a mark at the end of each bar that went wrong; what the marks mean, for the key."""
    return mark_points(ax, bars.starts + bars.widths, bars.rows, outcomes)


def mark_points(ax: Axes, x: Numbers, y: Numbers, outcomes: Sequence[str]) -> list[Line2D]:
    """Put a mark at each point that stands for trouble; what the marks mean, for the key."""
    handles = []
    for outcome, (colour, marker) in TROUBLE.items():
        chosen = [i for i, value in enumerate(outcomes) if value == outcome]
        if not chosen:
            continue
        edge = INK if outcome in ("partial", "throttled") else PAPER
        look: dict[str, Any] = {"marker": marker, "markersize": 8, "linestyle": "none"}
        look |= {"markerfacecolor": colour, "markeredgecolor": edge, "markeredgewidth": 0.9}
        small = {"markersize": 4, "markeredgewidth": 0.9 * (edge == INK)}
        drawn = look | (small if len(chosen) > MANY_MARKS else {})
        ax.plot(x[chosen], y[chosen], zorder=4, clip_on=False, **drawn)
        handles.append(Line2D([], [], label=outcome, **look))
    return handles


# --- words around the bars ------------------------------------------------------------------


def swatch(name: str, colour: str) -> Line2D:
    """A square of a colour, for the key."""
    return Line2D([], [], label=name, marker="s", markersize=9, linestyle="none",
                  markerfacecolor=colour, markeredgecolor=PAPER)  # fmt: skip


def draw_key(ax: Axes, handles: Sequence[Line2D], columns: int = 7) -> None:
    """Say above the axes, at the right, what marks and colours mean, in rows of so many."""
    if not handles:
        return
    columns = -(-len(handles) // -(-len(handles) // columns))  # no row much shorter than others
    downwards = [each for i in range(columns) for each in handles[i::columns]]
    ax.legend(handles=downwards, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns,
              frameon=False, fontsize=SMALL, labelcolor=INK, handletextpad=0.0,
              columnspacing=0.9, borderaxespad=0.0, borderpad=0.1)  # fmt: skip


def _name_rows(ax: Axes, places: Mapping[Row, float], names: Mapping[Row, str]) -> None:
    """Short names at the left, as many as can be read."""
    every = max(1, int(np.ceil(ROW / row_height(ax))))
    shown = []
    for function in dict.fromkeys(row.function for row in places):
        group = [row for row in places if row.function == function]
        shown += group[::every]
    ax.set_yticks([places[row] for row in shown], [names[row] for row in shown])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", color=tint(MUTED, 0.2), linewidth=0.8)
    ax.spines["left"].set_visible(False)


def _name_groups(ax: Axes, line: Timeline, places: Mapping[Row, float]) -> None:
    """Each function's name above its rows, with how often it ran."""
    ran = line.invocations["outcome"] != "throttled"
    runs = ran.groupby(line.invocations["function"], sort=False).sum()
    left = ax.get_xlim()[0]
    for function, count in runs.items():
        top = min(y for row, y in places.items() if row.function == function)
        ax.axhline(top - 1.45, color=tint(MUTED, 0.35), linewidth=0.8, zorder=1)
        words = f" {count:,} invocation" + "s" * (count != 1)
        colour = darker(line.headings.get(function, INK))
        name = ax.annotate(function, (left, top - 0.6), fontsize=TEXT, fontweight="bold",
                           color=colour, va="bottom", zorder=5)  # fmt: skip
        ax.annotate(words, (1, 0), xycoords=name, fontsize=SMALL, color=MUTED, va="bottom")
