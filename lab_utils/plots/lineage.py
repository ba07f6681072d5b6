"""The family tree of a stream's shards over time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lab_utils.plots.style import (
    BLUE,
    INK,
    MUTED,
    PAPER,
    SKY,
    SMALL,
    TEXT,
    Numbers,
    TimeAxis,
    name_y,
    new_axes,
    say,
    size_in_inches,
    text_on,
    text_width,
    tint,
)

FILLS = {"closed": tint(SKY, 0.5), "open": BLUE, "trimmed": PAPER}
EDGES = {"closed": BLUE, "open": BLUE, "trimmed": MUTED}
HALF = 0.3  #: half a bar's height, in rows
GAP = 0.016  #: between a bar and its successor, as a part of the x axis
YOUNG = 60.0  #: seconds; a stream of that age has no history to measure


class Lineage(Protocol):
    """What `plot_lineage` reads of a lineage."""

    @property
    def graph(self) -> Any:
        """A networkx.DiGraph of shard ids, parent -> child."""


@dataclass(frozen=True)
class _Span:
    """One shard's bar on the x axis."""

    start: float
    end: float
    row: float
    state: str


def plot_lineage(lineage: Lineage, ax: Axes | None = None) -> Axes:
    """Draw a stream's shards as a family tree, time from left to right.

    `lineage.graph` is a networkx.DiGraph of shard ids, parent -> child, whose nodes have
    `started` and `ended` (UTC, or None where unknown) and `state` ("open", "closed" or
    "trimmed"). A roll-over continues in its parent's row, a split forks, a merge joins.
    An open shard has no right end; a trimmed one, known only because its children name it, is a
    ghost of unknown length. Where the shards' times are not known (Kinesis does not tell them),
    the x axis counts generations instead.
    """
    graph = lineage.graph
    if not len(graph):
        return say(ax or new_axes(height=2.0), "no shards")
    rows = _rows(graph)
    bottom = max(rows.values()) + 0.7
    ax = ax or new_axes(height=min(8.0, max(2.2, 1.2 + 0.42 * bottom)))
    spans = _timed_spans(ax, graph, rows) or _generation_spans(ax, graph, rows)
    ax.set_ylim(bottom, -0.7)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    _draw_links(ax, graph, spans)
    _draw_bars(ax, spans)
    _write_ids(ax, spans)
    _explain(ax, {span.state for span in spans.values()})
    name_y(ax, "shards")
    return ax


# --- rows -----------------------------------------------------------------------------------


def _rows(graph: Any) -> dict[str, float]:
    """A row for each shard: the childless have one each, a parent is amidst its children.

    A child of two parents belongs to the first; a parent whose children all belong to others has
    a row of its own.
    """
    rows: dict[str, float] = {}
    owned: dict[str, list[str]] = {shard: [] for shard in graph}
    free = 0.0
    for root in sorted(shard for shard, degree in graph.in_degree() if not degree):
        stack = [root]
        while stack:
            shard = stack[-1]
            fresh = [child for child in sorted(graph[shard]) if child not in rows]
            if fresh:
                owned[shard].append(fresh[0])
                stack.append(fresh[0])
                continue
            stack.pop()
            if owned[shard]:
                rows[shard] = float(np.mean([rows[child] for child in owned[shard]]))
            else:
                rows[shard], free = free, free + 1
    return rows


# --- columns --------------------------------------------------------------------------------


def _timed_spans(ax: Axes, graph: Any, rows: dict[str, float]) -> dict[str, _Span]:
    """Spans in time; none if a shard that is still listed has no known start."""
    nodes = graph.nodes
    listed = [shard for shard in nodes if nodes[shard]["state"] != "trimmed"]
    if not listed or any(nodes[shard]["started"] is None for shard in listed):
        return {}
    known = [nodes[s][key] for s in nodes for key in ("started", "ended") if nodes[s].get(key)]
    young = (max(known) - min(known)).total_seconds() < YOUNG
    time = TimeAxis.over(min(known), max(known) + timedelta(hours=3 if young else 0))
    last = time.at(max(known))
    ghost = 1.0 if young else 0.16 * last
    right = last + (ghost if any(nodes[shard]["state"] == "open" for shard in listed) else 0)
    spans = {shard: _span(graph, shard, time, rows[shard], right, ghost) for shard in nodes}
    left = min(span.start for span in spans.values())
    ax.set_xlim(left, right)
    time.label(ax, "the first shard opened" if left == 0 else "the oldest listed shard opened")
    if young:
        ax.set_xticks([0])
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", color=tint(MUTED, 0.2), linewidth=0.8)
    return spans


def _span(graph: Any, shard: str, time: TimeAxis, row: float, right: float, ghost: float) -> _Span:
    node = graph.nodes[shard]
    state = node["state"]
    end = _end(graph, shard, time, right)
    start = end - ghost if node["started"] is None else time.at(node["started"])
    return _Span(start, end, row, state)


def _end(graph: Any, shard: str, time: TimeAxis, right: float) -> float:
    """When a shard ended: as recorded, or when its first child began."""
    node = graph.nodes[shard]
    if node["state"] == "open":
        return right
    if node["ended"] is not None:
        return time.at(node["ended"])
    began = [graph.nodes[child]["started"] for child in graph[shard]]
    return min((time.at(start) for start in began if start is not None), default=right)


def _generation_spans(ax: Axes, graph: Any, rows: dict[str, float]) -> dict[str, _Span]:
    """One column per generation, for shards whose times are not known."""
    generations: dict[str, int] = {}
    waiting = sorted(graph)
    while waiting:
        ready = [shard for shard in waiting if all(p in generations for p in graph.pred[shard])]
        for shard in ready:
            parents = [generations[parent] for parent in graph.pred[shard]]
            generations[shard] = max(parents, default=0) + 1
        waiting = [shard for shard in waiting if shard not in generations]
    last = max(generations.values()) + 0.5
    ax.set_xlim(0.5, last)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    ax.set_xlabel("generation", fontsize=TEXT, color=INK)
    ax.grid(visible=False)
    spans = {}
    for shard, number in generations.items():
        state = graph.nodes[shard]["state"]
        end = last if state == "open" else number + 0.35
        spans[shard] = _Span(number - 0.35, end, rows[shard], state)
    return spans


# --- drawing --------------------------------------------------------------------------------


def _draw_bars(ax: Axes, spans: dict[str, _Span]) -> None:
    """Bars by state; an open one points on to the right."""
    for state in ("trimmed", "closed", "open"):
        shapes = [_shape(span, ax) for span in spans.values() if span.state == state]
        ax.add_collection(
            PolyCollection(shapes, facecolors=FILLS[state], edgecolors=EDGES[state],
                           linewidths=1.4, zorder=3,
                           linestyles=[(0, (2.5, 2))] if state == "trimmed" else "solid")
        )  # fmt: skip


def _shape(span: _Span, ax: Axes) -> list[tuple[float, float]]:
    """A bar's corners, with a little room between it and its successor."""
    left, right = ax.get_xlim()
    gap = (right - left) * GAP
    start, top, low = span.start + gap / 2, span.row - HALF, span.row + HALF
    end = max(span.end - gap / 2, start)
    if span.state != "open":
        return [(start, top), (end, top), (end, low), (start, low)]
    neck = max(end - (right - left) * 0.02, start)
    return [(start, top), (neck, top), (end, span.row), (neck, low), (start, low)]


def _draw_links(ax: Axes, graph: Any, spans: dict[str, _Span]) -> None:
    """A line from each parent to its child; a curve where the row changes."""
    left, right = ax.get_xlim()
    gap = (right - left) * GAP
    lines = [_link(spans[parent], spans[child], gap) for parent, child in sorted(graph.edges)]
    ax.add_collection(LineCollection(lines, colors=INK, linewidths=2.2, zorder=2))


def _link(parent: _Span, child: _Span, gap: float) -> Numbers:
    """Along the parent's row, then in a curve to the child's."""
    start, end = parent.end - gap / 2, child.start + gap / 2
    bend = max(start, end - 4 * gap)
    t = np.linspace(0, 1, 40)
    ease = t * t * (3 - 2 * t)
    curve = np.column_stack([bend + (end - bend) * t, parent.row + (child.row - parent.row) * ease])
    return np.vstack([[start, parent.row], curve])


def _write_ids(ax: Axes, spans: dict[str, _Span]) -> None:
    """The last characters of a shard's id, where its bar has room for them."""
    left, right = ax.get_xlim()
    wide, high = size_in_inches(ax)
    if high / (ax.get_ylim()[0] - ax.get_ylim()[1]) * 2 * HALF < 0.13:
        return
    for shard, span in spans.items():
        text = _tail(shard)
        start, end = max(span.start, left), min(span.end, right)
        if text_width(text, SMALL) < (end - start) / (right - left) * wide - 0.2:
            colour = MUTED if span.state == "trimmed" else text_on(FILLS[span.state])
            ax.text((start + end) / 2, span.row, text, fontsize=SMALL, color=colour,
                    ha="center", va="center_baseline", zorder=5)  # fmt: skip


def _tail(shard: str) -> str:
    """'7' of Kinesis's shardId-000000000007, '1a2b' of DynamoDB's shardId-...-...1a2b."""
    kinesis = re.fullmatch(r"shardId-0*(\d+)", shard)
    return kinesis[1] if kinesis else shard[-4:]


def _explain(ax: Axes, states: Iterable[str]) -> None:
    """What the fills mean, for the states that there are."""
    handles: list[Patch | Line2D] = [
        Patch(facecolor=FILLS[state], edgecolor=EDGES[state], label=state, linewidth=1.2,
              linestyle=(0, (2, 1.5)) if state == "trimmed" else "solid")
        for state in ("trimmed", "closed", "open") if state in set(states)
    ]  # fmt: skip
    ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3,
              frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.4, handletextpad=0.4,
              columnspacing=1.0, borderaxespad=0.0, borderpad=0.1)  # fmt: skip
