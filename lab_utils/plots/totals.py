"""The running totals as a hierarchy: each level splits the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lab_utils.plots.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    SMALL,
    TEXT,
    VERMILLION,
    canvas,
    darker,
    say,
    tint,
)

COLOURS = (BLUE, GREEN, ORANGE, PURPLE, SKY)
STRENGTHS = (0.55, 0.35, 0.2)


def plot_totals(
    totals: Any, ax: Axes | None = None, *, expected: Mapping[str, Any] | None = None
) -> Axes:
    """Draw totals such as "PV", "PV:FXSpot" and "PV:FXSpot:EMEA", one column per level.

    `totals` maps keys to values, or is a pandas Series, or a frame with the columns Identifier and
    Value. Heights are proportional to the values (negative ones count as nothing); keys that stand
    for no level, such as message_count, are left out. With `expected`, totals that differ by more
    than 0.00001 are outlined and say by how much they are off.
    """
    values = _values(totals)
    depth = max((key.count(":") + 1 for key in values), default=0)
    if not depth:
        return say(ax or canvas(6.6, 2.0), "no totals yet")
    ax = ax or canvas(6.6, max(2.4, 0.36 * _leaves(values, depth) + 0.2))
    whole = sum(max(values[key], 0.0) for key in _children(values, "")) or 1.0
    ax.set(xlim=(-0.01, depth + 0.01), ylim=(1.01, -0.01))
    ax.axis("off")
    off = _differences(values, expected)
    y = 0.0
    for i, key in enumerate(_children(values, "")):
        _draw_branch(ax, values, key, y, whole, COLOURS[i % len(COLOURS)], off)
        y += max(values[key], 0.0) / whole
    return ax


def _values(totals: Any) -> dict[str, float]:
    if hasattr(totals, "columns"):
        keyed = totals.set_index("Identifier") if "Identifier" in totals.columns else totals
        totals = keyed["Value"]
    return {
        str(key): float(value)
        for key, value in totals.items()
        if not str(key).startswith(("message_count", "count", "timestamp"))
    }


def _children(values: Mapping[str, float], parent: str) -> list[str]:
    """The keys one level below, in alphabetical order."""
    start = f"{parent}:" if parent else ""
    return sorted(key for key in values if key.startswith(start) and ":" not in key[len(start) :])


def _leaves(values: Mapping[str, float], depth: int) -> int:
    return sum(key.count(":") + 1 == depth for key in values)


def _differences(
    values: Mapping[str, float], expected: Mapping[str, Any] | None
) -> dict[str, float]:
    if expected is None:
        return {}
    gaps = {key: value - float(expected.get(key, 0)) for key, value in values.items()}
    return {key: gap for key, gap in gaps.items() if abs(gap) > 1e-5}


def _draw_branch(
    ax: Axes,
    values: Mapping[str, float],
    key: str,
    y: float,
    whole: float,
    colour: str,
    off: Mapping[str, float],
) -> None:
    """A total, and to its right the totals it is made of."""
    height = max(values[key], 0.0) / whole
    level = key.count(":")
    fill = PAPER if key in off else tint(colour, STRENGTHS[min(level, len(STRENGTHS) - 1)])
    ax.add_patch(Rectangle((level, y), 1, height, facecolor=fill, edgecolor=PAPER, linewidth=2))
    if key in off:
        ax.add_patch(
            Rectangle((level + 0.015, y + 0.006), 0.97, max(height - 0.012, 0.0), facecolor="none",
                      edgecolor=VERMILLION, linewidth=2.5, zorder=3)
        )  # fmt: skip
    for name, x, align, text in _words(key, values[key], off):
        ax.text(level + x, y + height / 2, text, ha=align, va="center_baseline", zorder=4, **name)
    below = y
    for child in _children(values, key):
        _draw_branch(ax, values, child, below, whole, colour, off)
        below += max(values[child], 0.0) / whole


def _words(
    key: str, value: float, off: Mapping[str, float]
) -> Iterator[tuple[dict[str, Any], float, str, str]]:
    """The name at the left, the value or the error at the right."""
    yield {"fontsize": TEXT, "fontweight": "bold", "color": INK}, 0.06, "left", key.split(":")[-1]
    if key in off:
        look = {"fontsize": SMALL, "fontweight": "bold", "color": darker(VERMILLION)}
        yield look, 0.94, "right", f"{_short(off[key], '+')} off"
    else:
        yield {"fontsize": SMALL, "color": INK}, 0.94, "right", _short(value)


def _short(value: float, sign: str = "") -> str:
    """Three or four figures and a unit a reader of money knows."""
    for size, unit in ((1e9, " bn"), (1e6, " m"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:{sign}.1f}{unit}"
    return f"{value:{sign}.2f}"
