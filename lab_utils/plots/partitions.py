"""A table's partitions on the ring of hashes: what is in them, how hot they are, how they split."""

from __future__ import annotations

import textwrap
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from lab_utils.errors import LabError
from lab_utils.plots.ring import CELL, HEAT, Past, Ring, rows_of
from lab_utils.plots.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PAPER,
    PURPLE,
    SKY,
    SMALL,
    TEXT,
    VERMILLION,
    Frame,
    Numbers,
    new_axes,
    say,
    size_in_inches,
    text_on,
    text_width,
    tint,
)

GONE = tint(MUTED, 0.16)
CAUSES = {
    "heat": (INK, "^"),
    "size": (BLUE, "s"),
    "throughput": (GREEN, "D"),
    "asked": (PURPLE, "o"),
    "refused": (VERMILLION, "X"),
}
"""Colour and mark of a split by what caused it, and of one that was refused."""
MOST_NOTES = 5  #: refusals that are told in words

# More heights, as in `ring`.
ROOM = 0.42  #: between the cells and the bars, for words
BAR = 1.0  #: of the bar with the most items
OVER = 0.54  #: above it, for its number and for words
FEW = 128  #: so many partitions have gaps between them and large marks


def plot_partitions(
    partitions: Frame,
    ax: Axes | None = None,
    *,
    splits: Frame | None = None,
    origin: datetime | None = None,
    since: str | None = None,
) -> Axes:
    """Draw the ring of key hashes, unrolled: each partition's range, its items and its heat.

    `partitions` is the frame of `lab.partitions(table)`: by partition id, in the order of the ring,
    low and high (hashes), items, write_rate and read_rate (units a second). Heat is the busier of
    the two as a part of the ceiling in `partitions.attrs` (write_ceiling, read_ceiling). A range
    that is too narrow to be seen, such as that of a single key, is drawn wider; where collections
    were cut (sort_from, sort_to) is told below. A table without items that has bytes, as traffic
    makes it, shows bytes instead.

    `splits` is the frame of `lab.splits(table)`: at (UTC), partition, cause, parts (ids; none if
    the split was refused) and reason. With it the cells go back in time, downwards: a partition
    reaches from its birth to its split, and refusals are marked and told below. The y axis then has
    a tick per split; it counts from `origin` (UTC; by default when the table was created), and is
    named after it by `since`. Long times are drawn longer, but not in proportion.

    A LabError says so if the frames are others, or do not belong together.
    """
    _check(partitions, splits)
    if not len(partitions):
        return say(ax or new_axes(height=2.0), "no partitions")
    ring = Ring(partitions.sort_values(["low", "high"], kind="stable"))
    past = Past(ring, rows_of(splits), origin, since)
    floor = past.height + ROOM
    top = floor + (BAR + OVER if ring.stock[1].any() else 0.0)
    ax = ax or new_axes(height=1.5 + top)
    ax.set(xlim=(0, 1), ylim=(0, top))
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    _draw_cells(ax, ring, past)
    _draw_splits(ax, ring, past)
    ticks = _times(past)
    if top > floor:
        ticks |= _draw_bars(ax, ring, floor)
    ax.set_yticks(list(ticks), list(ticks.values()))
    _name_ring(ax, ring)
    _name_cells(ax, past)
    _explain(ax, ring, past)
    _fill_in(ax, ring, past, floor)
    return ax


def _check(partitions: Frame, splits: Frame | None) -> None:
    if not {"low", "high"} <= set(getattr(partitions, "columns", ())):
        raise LabError(
            f"plot_partitions cannot draw a {type(partitions).__name__} without the columns low "
            "and high: give it what lab.partitions(table) returned."
        )
    if not {"write_ceiling", "read_ceiling"} <= set(partitions.attrs):
        raise LabError(
            "plot_partitions finds no write_ceiling and read_ceiling in the frame's attrs: give it "
            "what lab.partitions(table) returned, and not a part or a copy."
        )
    wanted = {"at", "partition", "cause", "parts", "reason"}
    if splits is not None and not wanted <= set(getattr(splits, "columns", ())):
        raise LabError(
            f"plot_partitions(splits=...) cannot draw a {type(splits).__name__} without the "
            f"columns {', '.join(sorted(wanted))}: give it what lab.splits(table) returned."
        )


# --- drawing --------------------------------------------------------------------------------


def _box(left: float, right: float, low: float, high: float) -> list[tuple[float, float]]:
    return [(left, low), (right, low), (right, high), (left, high)]


def _draw_cells(ax: Axes, ring: Ring, past: Past) -> None:
    """Each partition's cell: its range wide, its life high. The living have the colour of heat."""
    line = 1.2 if ring.count <= FEW else 0.0
    for partitions, fills in ((past.gone, GONE), (ring.ids, ring.fills)):
        boxes = [_box(*past.spans[each], *past.life(each)) for each in partitions]
        ax.add_collection(
            PolyCollection(boxes, facecolors=fills, edgecolors=PAPER, linewidths=line, zorder=2)
        )


def _draw_bars(ax: Axes, ring: Ring, floor: float) -> dict[float, str]:
    """A bar of items above each cell. Their ticks."""
    left, right = ring.edges[:-1], ring.edges[1:]
    gap = np.minimum(0.15 * (right - left), 0.012) * (ring.count <= FEW)
    tops = _tops(ring, floor)
    boxes = [
        _box(begin, end, floor, top)
        for begin, end, top in zip(left + gap, right - gap, tops, strict=True)
    ]
    ax.add_collection(PolyCollection(boxes, facecolors=SKY, linewidths=0, zorder=2))
    ax.axhline(floor, color=MUTED, linewidth=0.8, zorder=3)
    unit, stock = ring.stock
    ax.text(0.0, floor + BAR + 0.26, unit, fontsize=TEXT, color=INK, va="bottom", zorder=5)
    most = stock.max()
    ticks = MaxNLocator(nbins=3, integer=True).tick_values(0, most)
    return {floor + BAR * n / most: f"{n:,.0f}" for n in ticks if 0 <= n <= most}


def _tops(ring: Ring, floor: float) -> Numbers:
    stock = ring.stock[1]
    return floor + BAR * stock / stock.max()


def _draw_splits(ax: Axes, ring: Ring, past: Past) -> None:
    """A mark at each cut and each refusal."""
    marks: dict[str, list[tuple[float, float]]] = {}
    for split in past.splits:
        level = past.levels[split.at]
        cuts = sorted(past.spans[part][0] for part in split.parts)[1:]
        marks.setdefault(split.cause, []).extend((cut, level) for cut in cuts)
        if not split.parts and split.partition in past.spans:
            place = sum(past.spans[split.partition]) / 2
            marks.setdefault("refused", []).append((place, level))
    for cause, points in marks.items():
        if points:
            ax.plot(*zip(*points, strict=True), zorder=6, clip_on=False, **_mark(cause, ring))


def _times(past: Past) -> dict[float, str]:
    """The ticks of the splits, as many as can be read, and of the present."""
    ticks: dict[float, str] = {}
    if past.time is None:
        return ticks
    last = -1.0
    for moment, level in past.levels.items():
        if level - last > 0.2 and past.height - level > 0.2:
            ticks[level] = f"{past.time.at(moment):,.1f}".removesuffix(".0")
            last = level
    return ticks | {past.height: "now"}


def _mark(cause: str, ring: Ring) -> dict[str, Any]:
    """How a split of that cause is marked."""
    colour, marker = CAUSES.get(cause, (INK, "X"))
    size = 9 if ring.count <= FEW else 4
    return {"linestyle": "none", "marker": marker, "markersize": size, "markerfacecolor": colour,
            "markeredgecolor": PAPER, "markeredgewidth": 1.0}  # fmt: skip


def _name_ring(ax: Axes, ring: Ring) -> None:
    """The x axis: quarters of the ring, wherever wider ranges have moved them."""
    quarters = np.linspace(0, 1, 5)
    places = np.interp(quarters, ring.hashes, ring.edges)
    ax.set_xticks(places, ["0", "¼", "½", "¾", "2¹²⁸"])
    wider = "; narrow ranges are drawn wider" if ring.widened else ""
    ax.set_xlabel(f"key hash, from 0 to 2¹²⁸{wider}", fontsize=TEXT, color=INK)


def _name_cells(ax: Axes, past: Past) -> None:
    """What the cells show, above them."""
    words = "partitions and their heat"
    if past.time is not None:
        words += f"; upwards: {past.time.unit} since {past.since}"
    ax.text(0.0, past.height + 0.06, words, fontsize=TEXT, color=INK, va="bottom", zorder=5)


# --- words in cells -------------------------------------------------------------------------


def _fill_in(ax: Axes, ring: Ring, past: Past, floor: float) -> None:
    """Write into cells and above bars what there is room for, once the layout is settled."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    for partition in past.gone:
        _write(ax, past, partition, [([str(partition)], 0)], MUTED)
    for place, partition in enumerate(ring.ids):
        _write(ax, past, partition, _words(ring, place), text_on(ring.fills[place]))
    wide = size_in_inches(ax)[0]
    unit, stock = ring.stock
    if not stock.any():
        return
    for partition, top, count in zip(ring.ids, _tops(ring, floor), stock, strict=True):
        left, right = past.spans[partition]
        text = f"{count:,.0f}" if unit == "items" else f"{count:,.1f}"
        if text_width(text, SMALL) + 0.04 <= (right - left) * wide:
            ax.text((left + right) / 2, top + 0.02, text, fontsize=SMALL, color=INK, ha="center",
                    va="bottom", zorder=5)  # fmt: skip


def _words(ring: Ring, place: int) -> list[tuple[list[str], int]]:
    """What to write into a living partition's cell and how to turn it, the best first."""
    partition, kept = ring.ids[place], ring.kept(place)
    heat = f"{100 * ring.heat[place]:.0f} %"
    more = [kept] if kept else []
    return [
        ([f"partition {partition}", f"{heat} of {ring.busier(place)}", *more], 0),
        ([str(partition), heat, *more], 0),
        ([", ".join([f"{partition}: {heat}", *more])], 90),
        ([str(partition), heat], 0),
        ([f"{partition}: {heat}"], 90),
        ([str(partition)], 0),
    ]


def _write(
    ax: Axes, past: Past, partition: int, choices: list[tuple[list[str], int]], colour: str
) -> None:
    """The first choice that fits into a partition's cell, at its upper end."""
    (left, right), (low, high) = past.spans[partition], past.life(partition)
    low = max(low, past.refused.get(partition, -1.0) + 0.1)  # not over the mark
    wide, tall = size_in_inches(ax)
    scale = tall / ax.get_ylim()[1]
    room = (right - left) * wide, (high - low) * scale
    for lines, angle in choices:
        size = max(text_width(line, SMALL) for line in lines), 0.17 * len(lines)
        across, along = size if not angle else size[::-1]
        if across + 0.06 <= room[0] and along + 0.06 <= room[1]:
            middle = high - max(min(CELL, high - low) / 2, (along / 2 + 0.05) / scale)
            ax.text((left + right) / 2, middle, "\n".join(lines), fontsize=SMALL, color=colour,
                    rotation=angle, ha="center", va="center", linespacing=1.1,
                    zorder=5)  # fmt: skip
            return


# --- words ----------------------------------------------------------------------------------


def _explain(ax: Axes, ring: Ring, past: Past) -> None:
    """Above: how many, how hot, and what colours and marks mean. Below: what was refused."""
    look: dict[str, Any] = {
        "loc": "lower left", "frameon": False, "fontsize": SMALL, "ncols": 5, "labelcolor": INK,
        "handlelength": 1.1, "handletextpad": 0.4, "columnspacing": 0.9, "borderaxespad": 0.0,
        "borderpad": 0.1,
    }  # fmt: skip
    shades: list[Any] = [
        Patch(facecolor=to_hex(HEAT(part)), edgecolor=MUTED, linewidth=0.6, label=label)
        for part, label in ((0.0, "idle"), (0.5, "50 %"), (1.0, "100 % of its ceiling"))
    ]
    figure = ax.get_figure(root=True)
    assert figure is not None
    above = ax.transAxes
    if past.ended:
        shades.append(Patch(facecolor=GONE, label="was split"))
    found = {split.cause if split.parts else "refused" for split in past.splits}
    causes = sorted(found, key=lambda cause: [*CAUSES, cause].index(cause))
    if causes:
        marks = [Line2D([], [], label=_cause(cause), **_mark(cause, ring)) for cause in causes]
        lower = ax.legend(handles=marks, bbox_to_anchor=(0.0, 1.0), **look)
        ax.add_artist(lower)
        above = above + ScaledTranslation(0, 0.22, figure.dpi_scale_trans)
    upper = ax.legend(handles=shades, bbox_to_anchor=(0, 1), bbox_transform=above, **look)
    ax.annotate(_sum_up(ring), (0.0, 1.0), xycoords=upper, xytext=(2, 2), fontsize=TEXT,
                textcoords="offset points", color=INK, va="bottom")  # fmt: skip
    notes = _notes(ring, past)
    if notes:
        ax.annotate(notes, (0.0, 0.0), xycoords=("axes fraction", ax.xaxis.label), fontsize=SMALL,
                    xytext=(0, -6), textcoords="offset points", color=INK, va="top")  # fmt: skip


def _cause(cause: str) -> str:
    return {"asked": "split as asked", "refused": "not split"}.get(cause, f"split for {cause}")


def _sum_up(ring: Ring) -> str:
    """'4 partitions, hottest is 2: 83 % of its writes; a model 1 : 100'."""
    words = f"{ring.count:,} partition{'s' * (ring.count != 1)}"
    hottest = int(ring.heat.argmax())
    if ring.heat[hottest] > 0 and ring.count > 1:
        percent = f"{100 * ring.heat[hottest]:.0f} %"
        words += f", hottest is {ring.ids[hottest]}: {percent} of its {ring.busier(hottest)}"
    scale = ring.attrs.get("scale") or 1
    return words if scale == 1 else f"{words}; a model 1 : {scale:,}"


def _notes(ring: Ring, past: Past) -> str:
    """Which splits were refused and why, each once; and where collections were cut."""
    told = [
        f"partition {split.partition} was not split for {split.cause} ({split.reason})"
        for split in past.splits
        if not split.parts
    ]
    told += [
        f"partition {partition} has sort keys {bounds}"
        for place, partition in enumerate(ring.ids)
        if (bounds := ring.sort_range(place))
    ]
    told = list(dict.fromkeys(told))
    lines = [textwrap.fill(each, 80, subsequent_indent="   ") for each in told[:MOST_NOTES]]
    if len(told) > MOST_NOTES:
        lines.append(f"and {len(told) - MOST_NOTES:,} more")
    return "\n".join(lines)
