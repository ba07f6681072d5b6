"""How one batch was cut in two, and again, until what fails stood alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from lab_utils.plots.style import (
    BLUE,
    INK,
    MUTED,
    PAPER,
    TEXT,
    Frame,
    name_y,
    new_axes,
    say,
    size_in_inches,
    text_on,
    text_width,
)
from lab_utils.plots.timeline import (
    ROW,
    TROUBLE,
    Bars,
    draw_bars,
    draw_key,
    fills_of,
    mark_trouble,
    row_height,
    swatch,
)

BATCH = ["function", "shard", "lane", "batch"]  #: what tells batches apart
NARROWEST = 1 / 110  #: of the axis: a record of a large batch still has a bar
WORDS = 10.0  #: points


@dataclass(frozen=True)
class _Part:
    """A part of the batch, handed over `count` times in a row with one outcome; one row."""

    first: int
    size: int
    outcome: str
    number: int  #: of the first of these tries
    count: int

    @property
    def end(self) -> int:
        return self.first + self.size

    def holds(self, other: _Part) -> bool:
        return self.first <= other.first and other.end <= self.end


def plot_bisections(tries: Frame, ax: Axes | None = None) -> Axes:
    """Draw what became of one batch: a bar per part that was tried, in order from the top.

    `tries` are the rows of one batch in the frame of `lab.tries()`: function, shard, lane, batch,
    first (offset of the part's first record), size, attempt, outcome, started. A bar covers its
    records and says how many they are; tries of one part that follow each other with one outcome
    share it. A line leads from each part to those that it was cut into.
    """
    if not len(tries):
        return say(ax or new_axes(height=2.0), "no tries yet")
    batches = tries[BATCH].drop_duplicates()
    if len(batches) > 1:
        raise ValueError(
            f"These are tries of {len(batches)} batches: filter them by `batch` (and by function "
            "and shard, if needed), so that one is left."
        )
    parts = _parts(tries)
    ax = ax or new_axes(height=min(8.0, 1.2 + 0.27 * len(parts)))
    left = min(part.first for part in parts)
    right = max(part.end for part in parts)
    span = (right - left) or 1
    ax.set_xlim(left - 0.015 * span, right + 0.015 * span)
    ax.set_ylim(len(parts) - 0.3, -0.7)
    bars = _bars(parts, right, span)
    _draw_links(ax, parts)
    draw_bars(ax, bars, edge=MUTED)
    outcomes = [part.outcome for part in parts]
    good = [swatch("ok", BLUE)] if "ok" in outcomes else []
    draw_key(ax, good + mark_trouble(ax, bars, outcomes))
    _write_words(ax, parts, bars)
    _name_axes(ax, parts)
    return ax


def _parts(tries: Frame) -> list[_Part]:
    """The rows of the picture."""
    parts: list[_Part] = []
    columns = zip(tries["first"], tries["size"], tries["outcome"], strict=True)
    for number, (first, size, outcome) in enumerate(columns, 1):
        again = parts and (parts[-1].first, parts[-1].size, parts[-1].outcome)
        if again == (first, size, outcome):
            last = parts.pop()
            parts.append(_Part(last.first, last.size, outcome, last.number, last.count + 1))
        else:
            parts.append(_Part(int(first), int(size), outcome, number, 1))
    return parts


def _bars(parts: Sequence[_Part], right: int, span: int) -> Bars:
    widths = np.maximum([part.size for part in parts], span * NARROWEST)
    starts = np.minimum([part.first for part in parts], right - widths)
    fills = fills_of([part.outcome for part in parts], [BLUE] * len(parts))
    return Bars(starts, widths, np.arange(len(parts), dtype=float), fills)


def _draw_links(ax: Axes, parts: Sequence[_Part]) -> None:
    """From each part down to those that it was cut into; they cross no bar in between."""
    lines = []
    for row, part in enumerate(parts):
        above = [i for i in range(row) if parts[i].holds(part)]
        if above:
            middle = part.first + part.size / 2
            lines.append([(middle, above[-1]), (middle, row)])
    ax.add_collection(LineCollection(lines, colors=MUTED, linewidths=1.0, zorder=1))


def _write_words(ax: Axes, parts: Sequence[_Part], bars: Bars) -> None:
    """How many records, how many tries: in the bar, or beside it where it is too narrow."""
    if row_height(ax) < 0.13:
        return
    left, right = ax.get_xlim()
    unit = size_in_inches(ax)[0] / (right - left)
    halo = [withStroke(linewidth=2.5, foreground=PAPER)]
    for i, part in enumerate(parts):
        text = f"{part.size:,}" + (" record" + "s" * (part.size != 1)) * (i == 0)
        text += f", {part.count:,} tries" * (part.count > 1)
        begin, end = bars.starts[i], bars.starts[i] + bars.widths[i]
        need, mark = text_width(text, WORDS), 0.1 * (part.outcome in TROUBLE)
        look: dict[str, Any] = {"color": INK, "path_effects": halo}
        if bars.widths[i] * unit - 2 * mark > need:
            x, align, look = (begin + end) / 2, "center", {"color": text_on(bars.fills[i])}
        elif (right - end) * unit > need + mark:
            x, align = end + (0.06 + mark) / unit, "left"
        else:
            x, align = begin - 0.06 / unit, "right"
        ax.text(x, i, text, fontsize=WORDS, ha=align, va="center_baseline", zorder=5,
                in_layout=False, **look)  # fmt: skip


def _name_axes(ax: Axes, parts: Sequence[_Part]) -> None:
    every = max(1, int(np.ceil(ROW / row_height(ax))))
    rows = range(0, len(parts), every)
    ax.set_yticks(list(rows), [f"{parts[row].number:,}" for row in rows])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(visible=False)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set_xlabel("records of the batch, from its first", fontsize=TEXT, color=INK)
    name_y(ax, "try")
