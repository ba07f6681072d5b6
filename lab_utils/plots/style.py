"""What all pictures share: colours, sizes, time axes, shard names and labels that avoid each other.

The colours are Okabe and Ito's, which people with any colour vision can tell apart. Vermillion is
kept for what went wrong and never stands for a function.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

Frame: TypeAlias = Any  #: a pandas.DataFrame, which comes without types
Column: TypeAlias = Any  #: a pandas.Series
Numbers: TypeAlias = Any  #: a numpy array of floats
Point: TypeAlias = tuple[float, float, str, str]  #: x, y, text, colour

BLUE = "#0072B2"
ORANGE = "#E69F00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
YELLOW = "#F0E442"
VERMILLION = "#D55E00"
BLACK = "#000000"

INK = "#1B1F24"
MUTED = "#57606A"
GRID = "#E3E6EA"
PAPER = "#FFFFFF"

FUNCTION_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY)

WIDTH = 7.0  #: inches; half of it is a phone's width
DPI = 130
TEXT = 12.0  #: points
SMALL = 11.0

UNITS = (
    (2.0, "milliseconds", 0.001),
    (180.0, "seconds", 1.0),
    (3 * 3600.0, "minutes", 60.0),
    (4 * 86400.0, "hours", 3600.0),
    (math.inf, "days", 86400.0),
)


def new_axes(width: float = WIDTH, height: float = 4.0) -> Axes:
    """One dressed axes in a new figure of so many inches."""
    figure = plt.figure(figsize=(width, height), dpi=DPI, facecolor=PAPER, layout="constrained")
    return dress(figure.add_subplot())


def canvas(width: float, height: float) -> Axes:
    """Axes that fill a new figure of so many inches, without ticks, for a drawing."""
    figure = plt.figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)
    return figure.add_axes((0.0, 0.0, 1.0, 1.0))


def dress(ax: Axes) -> Axes:
    """Give axes the book's look, whatever the reader's matplotlib settings are."""
    ax.set_facecolor(PAPER)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    ax.tick_params(colors=INK, labelsize=SMALL, length=3, width=0.8)
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


def say(ax: Axes, text: str) -> Axes:
    """Empty axes that say in the middle why they are empty."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center",
            fontsize=TEXT, color=MUTED)  # fmt: skip
    return ax


def name_y(ax: Axes, label: str) -> None:
    """Put the y axis's name above it, where it can be read without turning the head."""
    ax.set_ylabel(label, rotation=0, ha="left", va="bottom", fontsize=TEXT, color=INK)
    ax.yaxis.set_label_coords(0.0, 1.02)


def whole_numbers(ax: Axes) -> None:
    """A y axis that counts things: no halves, a comma in the thousands, a little room above."""
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def tint(colour: str, strength: float) -> str:
    """The colour mixed with white: 1 is the colour itself, 0 is white."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def text_on(colour: str) -> str:
    """Black or white, whichever is easier to read on the colour."""
    return PAPER if _luminance(colour) < 0.18 else BLACK


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def function_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each function, in the order in which the names first appear."""
    ordered = list(dict.fromkeys(names))
    return {name: FUNCTION_COLOURS[i % len(FUNCTION_COLOURS)] for i, name in enumerate(ordered)}


def unit_for(seconds: float) -> tuple[str, float]:
    """The unit in which such a time makes a number that one reads, and its seconds."""
    return next((unit, size) for limit, unit, size in UNITS if seconds < limit)


@dataclass(frozen=True)
class TimeAxis:
    """Times counted from an origin, in the unit that suits their span."""

    origin: datetime
    unit: str
    size: float  #: seconds in one unit

    @classmethod
    def over(cls, origin: datetime, last: datetime) -> TimeAxis:
        """The axis for times between the two."""
        return cls(origin, *unit_for((last - origin).total_seconds()))

    def of(self, times: Column) -> Numbers:
        """A column of timestamps as an array of numbers on this axis (NaN where unknown)."""
        return (times - self.origin).dt.total_seconds().to_numpy(dtype=float) / self.size

    def at(self, time: datetime) -> float:
        """One instant as a number on this axis."""
        return (time - self.origin).total_seconds() / self.size

    def label(self, ax: Axes, since: str) -> None:
        """Name the x axis, for instance 'seconds since the first invocation'."""
        ax.set_xlabel(f"{self.unit} since {since}", fontsize=TEXT, color=INK)
        steps = [1, 2, 3, 4, 6, 10] if self.unit == "hours" else [1, 2, 5, 10]
        ax.xaxis.set_major_locator(MaxNLocator(nbins=7, steps=steps))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def shard_names(shards: Iterable[str]) -> dict[str, str]:
    """Short names: Kinesis shards keep their number, DynamoDB's are numbered by age, s0 first.

    >>> shard_names(["shardId-000000000007"])
    {'shardId-000000000007': 's7'}
    """
    ordered = sorted(set(shards))
    kinesis = [re.fullmatch(r"shardId-(\d{12})", shard) for shard in ordered]
    numbers = [int(match[1]) if match else None for match in kinesis]
    if None in numbers:
        return {shard: f"s{i}" for i, shard in enumerate(ordered)}
    return {shard: f"s{number}" for shard, number in zip(ordered, numbers, strict=True)}


@dataclass(frozen=True)
class _Box:
    """A rectangle in inches, from its lower left corner."""

    left: float
    bottom: float
    width: float
    height: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.bottom < other.bottom + other.height
            and other.bottom < self.bottom + self.height
        )


def label_points(ax: Axes, points: Sequence[Point]) -> None:
    """Write (x, y, text, colour) labels above their points, higher where they would overlap.

    To be called last: the y axis grows if the labels need more room than there is.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # settles how large the axes are
    high = size_in_inches(ax)[1]
    for _ in range(20):
        boxes = _label_boxes(ax, points)
        need = max((box.bottom + box.height for box in boxes), default=0.0)
        if need <= high:
            break
        bottom, top = ax.get_ylim()
        ax.set_ylim(bottom, bottom + (top - bottom) * need / high * 1.01)
    halo = withStroke(linewidth=3, foreground=PAPER)
    wide = size_in_inches(ax)[0]
    for box, (_, _, text, colour) in zip(boxes, points, strict=True):
        place = (box.left / wide, box.bottom / high)
        ax.text(*place, text, transform=ax.transAxes, fontsize=TEXT, fontweight="bold",
                color=darker(colour), ha="left", va="bottom", zorder=6,
                path_effects=[halo])  # fmt: skip


def _label_boxes(ax: Axes, points: Sequence[Point]) -> list[_Box]:
    """Where the labels go: above their points, above each other."""
    left, right = ax.get_xlim()
    bottom, top = ax.get_ylim()
    wide, high = size_in_inches(ax)
    placed: list[_Box] = []
    for x, y, text, _ in points:
        width = text_width(text, TEXT)
        centre = (x - left) / (right - left) * wide
        start = min(max(centre - width / 2, 0.05), max(wide - width, 0.05))
        box = _Box(start, (y - bottom) / (top - bottom) * high + 0.05, width, 0.21)
        while any(box.overlaps(other) for other in placed):
            box = replace(box, bottom=box.bottom + 0.05)
        placed.append(box)
    return placed


def size_in_inches(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes: roughly, until a drawing has settled the layout."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    place = ax.get_position()
    wide, high = figure.get_size_inches()
    return float(place.width * wide), float(place.height * high)


def text_width(text: str, points: float) -> float:
    """Roughly how many inches the text is wide."""
    return len(text) * points * 0.64 / 72


def darker(colour: str) -> str:
    """The colour dark enough to be read as text on white."""
    parts = to_rgb(colour)
    while _luminance(to_hex(parts)) > 0.18:
        parts = (parts[0] * 0.9, parts[1] * 0.9, parts[2] * 0.9)
    return to_hex(parts)
