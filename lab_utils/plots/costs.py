"""What a pipeline costs as its load grows, and how near it comes to its limits."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lab_utils.plots.style import (
    BLUE,
    FUNCTION_COLOURS,
    GREEN,
    GRID,
    INK,
    ORANGE,
    PAPER,
    SMALL,
    TEXT,
    VERMILLION,
    Frame,
    name_y,
    new_axes,
    say,
)
from lab_utils.plots.timeline import draw_key

DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)))
"""One for each of the colours, so that lines differ without them."""
MARKS = ((GREEN, "o"), (BLUE, "s"), (ORANGE, "D"))
LEAST = 1e-4  #: a smaller share is drawn here
ROW = 0.47  #: inches for a limit and its name


def plot_costs(frame: Frame, ax: Axes | None = None, *, of: str = "USD a million messages") -> Axes:
    """Draw what each of several designs costs over the rate of messages, both on log scales.

    `frame` is indexed by messages a second, a column for each design, at most five; its values are
    what the y axis is called after, `of`.
    """
    if frame.empty:
        return say(ax or new_axes(height=2.0), "nothing to compare")
    _at_most(frame, len(FUNCTION_COLOURS), "designs")
    ax = ax or new_axes(height=3.8)
    rates = frame.index.to_numpy(dtype=float)
    lines = []
    for name, colour, dash in zip(frame.columns, FUNCTION_COLOURS, DASHES, strict=False):
        costs = frame[name].to_numpy(dtype=float)
        ax.plot(rates, costs, color=colour, linestyle=dash, linewidth=2.2)
        lines.append(Line2D([], [], color=colour, linestyle=dash, linewidth=2.2, label=f" {name}"))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(rates.min(), rates.max())
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    ax.minorticks_off()
    ax.set_xlabel("messages a second", fontsize=TEXT, color=INK)
    name_y(ax, of)
    draw_key(ax, lines, columns=1)
    return ax


def plot_limits(frame: Frame, ax: Axes | None = None) -> Axes:
    """Draw how much of each limit is used, a row for each limit and a mark for each column.

    `frame` is indexed by the limits' names, from the top, with a column for each of up to three
    loads; a value of 1 is a limit reached. What is reached is filled with the colour of trouble.
    The x axis is logarithmic, in percent; a smaller share than a hundredth percent is drawn there.
    """
    if frame.empty:
        return say(ax or new_axes(height=2.0), "no limits")
    _at_most(frame, len(MARKS), "loads")
    ax = ax or new_axes(height=0.9 + ROW * len(frame))
    shares = frame.clip(lower=LEAST)
    right = max(10.0, float(shares.to_numpy().max()) * 2)
    for row, name in enumerate(frame.index):
        ax.axhline(row, color=GRID, linewidth=0.8, zorder=1)
        ax.annotate(str(name), (LEAST, row), (2, 5), textcoords="offset points",
                    fontsize=SMALL, color=INK, ha="left", va="bottom")  # fmt: skip
    handles = []
    for column, (colour, mark) in zip(frame.columns, MARKS, strict=False):
        values = shares[column].to_numpy(dtype=float)
        fills = [VERMILLION if value >= 1 else PAPER for value in values]
        ax.scatter(values, range(len(values)), s=58, marker=mark, c=fills, edgecolors=colour,
                   linewidths=2, zorder=4)  # fmt: skip
        handles.append(Line2D([], [], linestyle="", marker=mark, markersize=7, color=colour,
                              markerfacecolor=PAPER, markeredgewidth=2, label=column))  # fmt: skip
    handles.append(Line2D([], [], linestyle="", marker="s", markersize=7, color=VERMILLION,
                          label="limit reached"))  # fmt: skip
    ax.axvline(1, color=INK, linewidth=1.2, zorder=2)
    ax.set_xscale("log")
    ax.set_xlim(LEAST * 0.8, right)
    ax.set_ylim(len(frame) - 0.6, -1.0)
    ax.set_yticks([])
    ax.minorticks_off()
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value * 100:,.10g} %")
    ax.set_xlabel("of the limit used", fontsize=TEXT, color=INK)
    draw_key(ax, handles)
    return ax


def _at_most(frame: Frame, most: int, what: str) -> None:
    if len(frame.columns) > most:
        raise ValueError(f"There are {len(frame.columns)} {what}: give at most {most} columns.")
