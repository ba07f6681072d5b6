"""The pipeline with its shards: stores above, functions below, shards falling into functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from lab_utils.plots.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    SMALL,
    TEXT,
    VERMILLION,
    Numbers,
    canvas,
    darker,
    new_axes,
    say,
    tint,
)

KIND_COLOURS = {"stream": BLUE, "function": ORANGE, "table": GREEN}

# inches
HALF_WIDTH = 0.71
STORE_HEIGHT = 1.0
FUNCTION_HEIGHT = 0.88
DROP = 1.36  #: from a store's lower edge to a function's upper edge
STEP = 0.85  #: to the right, from a store to its function
MARGIN = 0.08
LINE = 0.19  #: from one line of text to the next
FEW = 6  #: shards that are drawn as thick lines with an arrow head each


class Stage(Protocol):
    """One step of a pipeline, as `plot_pipeline` reads it."""

    @property
    def name(self) -> str:
        """Its resource's name."""

    @property
    def kind(self) -> str:
        """ "stream", "function" or "table"."""

    @property
    def shards(self) -> int:
        """Open shards of its stream; 0 if it has no stream."""

    @property
    def link(self) -> str:
        """How the stage before feeds it: "", "direct", "connected" or "missing"."""

    @property
    def detail(self) -> str:
        """A few words below its name, such as "batch 100"."""


@dataclass(frozen=True)
class _Place:
    """Where a stage is drawn, in inches."""

    stage: Stage
    x: float
    bottom: float
    height: float

    @property
    def top(self) -> float:
        return self.bottom + self.height

    @property
    def colour(self) -> str:
        return KIND_COLOURS[self.stage.kind]

    @property
    def starved(self) -> bool:
        return self.stage.link == "missing"


def plot_pipeline(stages: Sequence[Stage], ax: Axes | None = None) -> Axes:
    """Draw a pipeline: streams and tables above, functions below, one line per open shard.

    `stages` are in the order in which data passes them. Each has `name`, `kind` ("stream",
    "table" or "function"), `shards` (open shards of its stream, 0 for none), `link` (how the
    stage before feeds it: "direct" for plain calls, "connected" or "missing" for an event source
    mapping that is there or not, "" for nothing) and `detail` (a few words).
    """
    unknown = [stage.kind for stage in stages if stage.kind not in KIND_COLOURS]
    if unknown:
        raise ValueError(f"A stage is a stream, a table or a function, not {unknown[0]!r}.")
    if not stages:
        return say(ax or new_axes(height=2.0), "no stages yet")
    places = _places(stages)
    width = places[-1].x + HALF_WIDTH + MARGIN
    height = places[0].top + MARGIN if len(places) == 1 else max(p.top for p in places) + MARGIN
    floor = min(place.bottom for place in places) - MARGIN
    ax = ax or canvas(width, height - floor)
    ax.set(xlim=(0, width), ylim=(floor, height), aspect="equal")
    ax.axis("off")
    for before, after in pairwise(places):
        _draw_link(ax, before, after)
    for place in places:
        _draw_stage(ax, place)
    return ax


def _places(stages: Sequence[Stage]) -> list[_Place]:
    """Stores above and functions below, each a step to the right of the one before."""
    places: list[_Place] = []
    x = HALF_WIDTH + MARGIN
    for stage in stages:
        function = stage.kind == "function"
        if places:
            same_level = (places[-1].stage.kind == "function") == function
            x += 2 * STEP if same_level else STEP
        bottom = 0.0 if function else FUNCTION_HEIGHT + DROP
        places.append(_Place(stage, x, bottom, FUNCTION_HEIGHT if function else STORE_HEIGHT))
    return places


# --- stages ---------------------------------------------------------------------------------


def _draw_stage(ax: Axes, place: _Place) -> None:
    shape = {"stream": _pipe, "table": _cylinder, "function": _card}[place.stage.kind]
    shape(ax, place)
    _write_name(ax, place)


def _fill(place: _Place) -> str:
    return PAPER if place.starved else tint(place.colour, 0.2)


def _card(ax: Axes, place: _Place) -> None:
    """A function: a rounded card with a lambda in its corner."""
    ax.add_patch(
        FancyBboxPatch(
            (place.x - HALF_WIDTH + 0.12, place.bottom + 0.12),
            2 * HALF_WIDTH - 0.24,
            place.height - 0.24,
            boxstyle="round,pad=0.12,rounding_size=0.16",
            facecolor=_fill(place),
            edgecolor=place.colour,
            linewidth=2.0,
            linestyle=(0, (3, 2)) if place.starved else "solid",
            zorder=3,
        )
    )
    ax.text(place.x - HALF_WIDTH + 0.06, place.top - 0.05, "λ", fontsize=17, fontweight="bold",
            color=tint(place.colour, 0.75), ha="left", va="top", zorder=4)  # fmt: skip


def _cylinder(ax: Axes, place: _Place) -> None:
    """A table: the drum that stands for stored data."""
    left, right, lip = place.x - HALF_WIDTH, place.x + HALF_WIDTH, 0.1
    top = place.top - lip
    curve = 0.55 * HALF_WIDTH
    low = place.bottom + lip
    vertices = [
        (left, top), (left, low),
        (left, low - lip * 0.55), (place.x - curve, place.bottom), (place.x, place.bottom),
        (place.x + curve, place.bottom), (right, low - lip * 0.55), (right, low),
        (right, top),
    ]  # fmt: skip
    codes = [Path.MOVETO, Path.LINETO, *[Path.CURVE4] * 6, Path.LINETO]
    ax.add_patch(
        PathPatch(Path(vertices, codes), facecolor=_fill(place), edgecolor=place.colour,
                  linewidth=2.0, zorder=3)
    )  # fmt: skip
    ax.add_patch(
        Ellipse((place.x, top), 2 * HALF_WIDTH, 2 * lip, facecolor=tint(place.colour, 0.45),
                edgecolor=place.colour, linewidth=2.0, zorder=3.1)
    )  # fmt: skip


def _pipe(ax: Axes, place: _Place) -> None:
    """A stream: a pipe that lies on its side, open at the left."""
    left, right, lip = place.x - HALF_WIDTH, place.x + HALF_WIDTH, 0.08
    start, end = left + lip, right - lip
    bottom, top, middle = place.bottom, place.top, place.bottom + place.height / 2
    curve = 0.55 * place.height / 2
    vertices = [
        (start, top), (end, top),
        (end + lip * 0.55, top), (right, middle + curve), (right, middle),
        (right, middle - curve), (end + lip * 0.55, bottom), (end, bottom),
        (start, bottom),
    ]  # fmt: skip
    codes = [Path.MOVETO, Path.LINETO, *[Path.CURVE4] * 6, Path.LINETO]
    ax.add_patch(
        PathPatch(Path(vertices, codes), facecolor=_fill(place), edgecolor=place.colour,
                  linewidth=2.0, zorder=3)
    )  # fmt: skip
    ax.add_patch(
        Ellipse((start, middle), 2 * lip, place.height, facecolor=tint(place.colour, 0.45),
                edgecolor=place.colour, linewidth=2.0, zorder=3.1)
    )  # fmt: skip


def _write_name(ax: Axes, place: _Place) -> None:
    """The name in bold, on two lines if it is long, and the detail below."""
    stream, table = place.stage.kind == "stream", place.stage.kind == "table"
    room = 2 * HALF_WIDTH - (0.32 if stream else 0.12)
    names, details = _two_lines(place.stage.name), _two_parts(place.stage.detail)
    name_size = _fitting(names, TEXT, room, "bold")
    detail_size = _fitting(details, SMALL, room, "normal")
    x = place.x + (0.06 if stream else 0.0)
    y = place.bottom + place.height / 2 - (0.06 if table else 0.0)
    y += LINE * (len(names) + len(details) - 1) / 2
    for line in names:
        ax.text(x, y, line, fontsize=name_size, fontweight="bold", color=INK,
                ha="center", va="center_baseline", zorder=5)  # fmt: skip
        y -= LINE
    for line in details:
        ax.text(x, y, line, fontsize=detail_size, color=MUTED,
                ha="center", va="center_baseline", zorder=5)  # fmt: skip
        y -= LINE


def _fitting(lines: list[str], size: float, room: float, weight: str) -> float:
    """The size, or a smaller one at which the longest line fits into so many inches."""
    font = FontProperties(size=size, weight=weight)
    widths = [TextPath((0, 0), line, prop=font).get_extents().width / 72 for line in lines]
    return size * min(1.0, room / max(widths, default=room))


def _two_parts(detail: str) -> list[str]:
    """A long detail, cut at the comma that leaves its halves about equally long."""
    commas = [match.start() for match in re.finditer(", ", detail)]
    if len(detail) <= 17 or not commas:
        return [detail] if detail else []
    cut = min(commas, key=lambda comma: max(comma, len(detail) - comma))
    return [detail[: cut + 1], detail[cut + 2 :]]


def _two_lines(name: str) -> list[str]:
    """A name cut where a word begins, so that its halves are about as long as each other."""
    starts = [match.start() for match in re.finditer(r"(?<=[a-z0-9])[A-Z]|(?<=[-_. ])\w", name)]
    if len(name) <= 8 or not starts:
        return [name]
    cut = min(starts, key=lambda start: max(start, len(name) - start))
    return [name[:cut].rstrip(), name[cut:]]


# --- links ----------------------------------------------------------------------------------


def _draw_link(ax: Axes, before: _Place, after: _Place) -> None:
    if after.stage.link == "direct":
        _draw_write(ax, before, after)
    elif after.stage.link in ("connected", "missing"):
        _draw_shards(ax, before, after)


def _draw_write(ax: Axes, before: _Place, after: _Place) -> None:
    """A plain call: one arrow."""
    colour = tint(INK, 0.35) if before.starved else INK
    if before.stage.kind == "function" and after.stage.kind != "function":
        start, end = (before.x + 0.45, before.top), (after.x - 0.4, after.bottom)
    elif before.bottom == after.bottom:
        middle = before.bottom + before.height / 2
        start, end = (before.x + HALF_WIDTH, middle), (after.x - HALF_WIDTH, middle)
    else:
        start, end = (before.x + 0.3, before.bottom), (after.x - 0.3, after.top)
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>,head_length=7,head_width=4", color=colour,
                        linewidth=2.0, shrinkA=1, shrinkB=1, mutation_scale=1, zorder=2)
    )  # fmt: skip


def _draw_shards(ax: Axes, before: _Place, after: _Place) -> None:
    """An event source mapping: every open shard falls into the function, or would."""
    count = max(before.stage.shards, 1)
    leave = before.x + (0.16 if before.stage.link else 0.0)
    starts = _spread(leave, min(0.9, 0.2 * count), count)
    ends = _spread(after.x - 0.2, min(0.6, 0.13 * count), count)
    many = count > FEW
    end = after.top + (0.13 if many else 0.07)
    lines = [_curve(s, before.bottom + 0.1, e, end) for s, e in zip(starts, ends, strict=True)]
    width = 1.5 if many else 3.0
    if after.stage.link == "missing":
        _draw_gap(ax, before, lines, width)
    else:
        colour = before.colour if before.stage.shards else MUTED
        ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=2))
        heads = (
            [(ends[0] - 0.06, ends[-1] + 0.06)] if many else [(e - 0.055, e + 0.055) for e in ends]
        )
        _draw_heads(ax, heads, end, after.top, colour)
    _count_shards(ax, before, after)


def _spread(centre: float, width: float, count: int) -> list[float]:
    """So many places, evenly across the width; one place is the centre."""
    if count == 1:
        return [centre]
    return [centre - width / 2 + width * i / (count - 1) for i in range(count)]


def _draw_heads(
    ax: Axes, spans: list[tuple[float, float]], top: float, tip: float, colour: str
) -> None:
    """Arrow heads that point down: one for each shard, or one for them all if they are many."""
    triangles = [[(left, top), (right, top), ((left + right) / 2, tip)] for left, right in spans]
    ax.add_collection(PolyCollection(triangles, facecolors=colour, edgecolors="none", zorder=2))


def _curve(x0: float, y0: float, x1: float, y1: float) -> Numbers:
    """Sixty points of an S-shaped line that leaves and arrives vertically."""
    t = np.linspace(0, 1, 60)
    ease = t * t * (3 - 2 * t)
    return np.column_stack([x0 + (x1 - x0) * ease, y0 + (y1 - y0) * t])


def _draw_gap(ax: Axes, before: _Place, lines: list[Numbers], width: float) -> None:
    """Shards that lead nowhere: cut off below their store, a dashed trace to the function."""
    if before.stage.shards:
        stubs = [line[:18] for line in lines]
        ax.add_collection(LineCollection(stubs, colors=before.colour, linewidths=width, zorder=2))
    few = lines if len(lines) <= FEW else [lines[round(i * (len(lines) - 1) / 4)] for i in range(5)]
    ax.add_collection(
        LineCollection([line[20:] for line in few], colors=tint(VERMILLION, 0.7), linewidths=1.6,
                       linestyles=[(0, (2.2, 2.2))], zorder=1.9)
    )  # fmt: skip
    middle = np.mean([line[35] for line in lines], axis=0)
    ax.text(middle[0], middle[1], "not\nconnected", fontsize=TEXT, fontweight="bold",
            color=darker(VERMILLION), ha="center", va="center", linespacing=1.0, zorder=4,
            bbox={"boxstyle": "round,pad=0.25", "facecolor": PAPER, "edgecolor": VERMILLION,
                  "linewidth": 1.5})  # fmt: skip


def _count_shards(ax: Axes, before: _Place, after: _Place) -> None:
    """Say how many shards there are, left of where they arrive."""
    shards = before.stage.shards
    text = "no\nstream" if not shards else f"{shards:,}\nshard" + "s" * (shards > 1)
    colour = darker(before.colour) if shards else MUTED
    ax.text(before.x - 0.07, after.top + 0.22, text, fontsize=TEXT, color=colour, ha="center",
            va="center", linespacing=1.05, zorder=4)  # fmt: skip
