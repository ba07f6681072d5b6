"""A lineage of thousands of lanes as a picture: what one would see of its bars from far away."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from lab_utils.plots.lanes import KINDS, LINKS, SHARDS, STATES, Lanes
from lab_utils.plots.style import INK, PAPER, TEXT, Numbers, name_y

MOST_ROWS = 360  #: rows of the picture
COLUMNS = 600
STRIP = 0.24  #: height of the strip of counts, as a part of the height of the picture
HEAD = 1.25  #: the strip and the words above it, in heights of the strip
DARK = 0.85  #: how much ink the pixel has in which most lanes roll over
BINS = {
    60: "minute",
    300: "5 minutes",
    600: "10 minutes",
    1800: "30 minutes",
    3600: "hour",
    14400: "4 hours",
    86400: "day",
}
"""Seconds that a bar of the strip may stand for."""


def draw_density(ax: Axes, lanes: Lanes) -> None:
    """Lanes from top to bottom, several to a row of pixels, and above them a strip of counts.

    Each pixel mixes the colours of the shards that it covers, as a smaller print would; it is the
    darker, the more of its lanes roll over there. Splits and merges have marks of their own, so
    that a single one can be seen among thousands of shards.
    """
    per = -(-lanes.count // MOST_ROWS)
    picture = _paint(lanes, per)
    ax.imshow(picture, extent=(lanes.left, lanes.right, len(picture) * per, 0), aspect="auto",
              interpolation="nearest", zorder=1)  # fmt: skip
    _mark_forks(ax, lanes)
    top = -STRIP * lanes.count
    ticks = {**_draw_strip(ax, lanes, 0.26 * top, top), **_lane_ticks(lanes)}
    ax.set_xlim(lanes.left, lanes.right)
    ax.set_ylim(lanes.count, HEAD * top)
    ax.set_yticks(list(ticks), list(ticks.values()))
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
    shards = len(lanes.shards) / len(picture)
    name_y(ax, f" lanes: a row of pixels is {per:,} of them, about {shards:,.0f} shards")
    ax.yaxis.set_label_coords(0.0, 1 / (1 + HEAD * STRIP) + 0.005)


# --- the picture ----------------------------------------------------------------------------


def _paint(lanes: Lanes, per: int) -> Numbers:
    """Red, green and blue, 0 to 1, of each pixel: rows of `per` lanes, columns of time."""
    rows = -(-lanes.count // per)
    picture = np.ones((rows, COLUMNS, 3))
    for state in STATES:
        colour = np.array(to_rgb(SHARDS[state][0]))
        picture -= _covered(lanes, lanes.in_state(state), rows, per)[:, :, None] * (1 - colour)
    dark = _rolled(lanes, rows, per)
    dark = DARK * np.sqrt(dark / (dark.max() or 1.0))[:, :, None]
    ink = np.array(to_rgb(LINKS["roll-over"]))
    return np.clip(picture * (1 - dark) + ink * dark, 0, 1)


def _covered(lanes: Lanes, chosen: Numbers, rows: int, per: int) -> Numbers:
    """Which part of each pixel's lanes the chosen shards cover."""
    widths = lanes.last[chosen] - lanes.first[chosen] + 1
    shard = np.repeat(chosen, widths)  # once for each lane that the shard has
    before = np.repeat(np.cumsum(widths) - widths, widths)
    row = (lanes.first[shard] + np.arange(len(shard)) - before) // per
    begin, end = (_column(lanes, times[shard]) for times in (lanes.starts, lanes.ends))
    steps = _count(row, begin, rows) - _count(row, end, rows)
    return np.cumsum(steps, axis=1)[:, :COLUMNS] / _lanes_of_rows(lanes, rows, per)


def _rolled(lanes: Lanes, rows: int, per: int) -> Numbers:
    """Which part of each pixel's lanes roll over there."""
    child = lanes.links[lanes.links[:, 2] == KINDS.index("roll-over"), 1]
    row = lanes.rows[child].astype(int) // per
    count = _count(row, _column(lanes, lanes.starts[child]), rows)
    return count[:, :COLUMNS] / _lanes_of_rows(lanes, rows, per)


def _column(lanes: Lanes, times: Numbers) -> Numbers:
    """The columns of pixels in which times lie; COLUMNS is the right edge."""
    part = (times - lanes.left) / (lanes.right - lanes.left)
    return np.clip((part * COLUMNS).astype(int), 0, COLUMNS)


def _count(row: Numbers, column: Numbers, rows: int) -> Numbers:
    """How many of the points lie in each pixel, with a column more for the right edge."""
    wide = COLUMNS + 1
    return np.bincount(row * wide + column, minlength=rows * wide).reshape(rows, wide)


def _lanes_of_rows(lanes: Lanes, rows: int, per: int) -> Numbers:
    """How many lanes each row of pixels stands for: `per`, but the last may have fewer."""
    return np.minimum(per, lanes.count - per * np.arange(rows))[:, None]


def _mark_forks(ax: Axes, lanes: Lanes) -> None:
    """A mark where a shard split or shards merged; smaller when they are many."""
    for number, kind in enumerate(KINDS):
        parent, child = lanes.links[lanes.links[:, 2] == number, :2].T
        if kind == "roll-over" or not parent.size:
            continue
        once = np.unique(parent if kind == "split" else child)
        times = lanes.ends[once] if kind == "split" else lanes.starts[once]
        many = once.size > 100
        ax.scatter(times, lanes.rows[once] + 0.5, s=5 if many else 34, color=LINKS[kind],
                   edgecolors=PAPER, linewidths=0 if many else 0.9, zorder=3)  # fmt: skip


# --- the strip of counts --------------------------------------------------------------------


def _draw_strip(ax: Axes, lanes: Lanes, floor: float, top: float) -> dict[float, str]:
    """Between `floor` and `top`: how many shards follow another, over time. Its ticks."""
    name, size = _bin(lanes)
    edges = np.arange(np.floor(lanes.left / size), np.ceil(lanes.right / size) + 1) * size
    if lanes.time is None:
        edges = edges - 0.5
    begun = lanes.starts[lanes.links[:, 1]]
    counts = [np.histogram(begun[lanes.links[:, 2] == n], edges)[0] for n in range(len(KINDS))]
    highest = max(int(np.sum(counts, axis=0).max()), 1)
    below = np.zeros(len(edges) - 1)
    for kind, count in zip(KINDS, counts, strict=True):
        above = below + count
        low, high = (floor + (top - floor) * np.append(part, 0.0) / highest
                     for part in (below, above))  # fmt: skip
        ax.fill_between(edges, low, high, step="post", color=LINKS[kind], linewidth=0, zorder=2)
        below = above
    ax.text(lanes.left, 1.03 * top, f" shards that follow another, in each {name}",
            fontsize=TEXT, color=INK, va="bottom")  # fmt: skip
    return {floor: "0", top: f"{highest:,}"}


def _bin(lanes: Lanes) -> tuple[str, float]:
    """What a bar of the strip stands for, in words and on the x axis."""
    if lanes.time is None:
        return "generation", 1.0
    unit = lanes.time.size
    least = (lanes.right - lanes.left) * unit / 300
    seconds = next((each for each in BINS if each >= least), max(BINS))
    return BINS[seconds], seconds / unit


def _lane_ticks(lanes: Lanes) -> dict[float, str]:
    places = MaxNLocator(nbins=5, integer=True).tick_values(1, lanes.count)
    return {place: f"{place:,.0f}" for place in places if 0 < place <= lanes.count}
