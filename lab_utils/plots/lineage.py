"""The family tree of a stream's shards over time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lab_utils.plots.density import draw_density
from lab_utils.plots.lanes import (
    KINDS,
    LINKS,
    SHARDS,
    STATES,
    Kind,
    Lanes,
    Lineage,
    State,
    graph_of,
    lay_out,
)
from lab_utils.plots.style import (
    INK,
    MUTED,
    SMALL,
    TEXT,
    Numbers,
    new_axes,
    say,
    size_in_inches,
    text_on,
    text_width,
    tint,
)

HALF = 0.32  #: half a bar's height, in rows
GAP = 0.016  #: between a bar and its successor, as a part of the x axis
TIP = 0.02  #: the point of an open shard's bar, as a part of the x axis
MOST_LANES = 300  #: more do not fit as bars, and are drawn as a picture of their density
ROOMY = 0.13  #: inches; lower bars have no outline and no id
NAMES: dict[State, str] = {"ended": "closed, nothing tells when"}


def plot_lineage(lineage: Lineage, ax: Axes | None = None) -> Axes:
    """Draw a stream's shards as a family tree, time from left to right.

    `lineage.graph` is a networkx.DiGraph of shard ids, parent -> child, whose nodes have
    `started` and `ended` (UTC, or None where unknown) and `state` ("open", "closed" or
    "trimmed"). A roll-over continues in its parent's lane, a split forks, a merge joins.
    An open shard has no right end; a trimmed one, known only because its children name it, is a
    ghost, of unknown length if its times are unknown. Where the times of listed shards are not
    known (Kinesis does not tell them), the x axis counts generations instead.

    Up to 300 lanes are drawn as bars, thinner the more there are; more lanes as a picture in which
    a row stands for several of them, below a strip that counts the shards that begin. A LabError
    says so if `lineage` is not what `read_lineage` returned.
    """
    graph = graph_of(lineage)
    if not len(graph):
        return say(ax or new_axes(height=2.0), "no shards")
    lanes = lay_out(graph)
    ax = ax or new_axes(height=height_of(lanes))
    _draw_time(ax, lanes)
    draw_lanes(ax, lanes)
    explain(ax, sum_up(lanes), what_is_what(lanes))
    return ax


def height_of(lanes: Lanes) -> float:
    """Inches for a picture of its own, with words above and below."""
    return min(8.0, max(2.3, 1.35 + 0.42 * (lanes.count + 0.4)))


def draw_lanes(ax: Axes, lanes: Lanes) -> None:
    """Every shard in its lane: as a bar, or thousands of them as a picture of their density."""
    if lanes.count > MOST_LANES:
        draw_density(ax, lanes)
    else:
        _draw_tree(ax, lanes)


def _draw_time(ax: Axes, lanes: Lanes) -> None:
    """The x axis: hours or generations."""
    ax.set_xlim(lanes.left, lanes.right)
    ax.grid(visible=False)
    if lanes.time is None:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        ax.set_xlabel("generation", fontsize=TEXT, color=INK)
        return
    ghosts = lanes.in_state("trimmed").size
    lanes.time.label(ax, f"the {'oldest listed' if ghosts else 'first'} shard opened")
    if lanes.young:
        ax.set_xticks([0])
    ax.grid(visible=True, axis="x", color=tint(MUTED, 0.2), linewidth=0.8)


def _draw_tree(ax: Axes, lanes: Lanes) -> None:
    """A bar for each shard, a line for each link."""
    ax.set_ylim(lanes.count - 0.3, -0.7)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    height = 2 * HALF * size_in_inches(ax)[1] / (lanes.count + 0.4)
    _draw_links(ax, lanes, height)
    _draw_bars(ax, lanes, height)
    if height >= ROOMY:
        _write_ids(ax, lanes)


def _gap(lanes: Lanes, height: float) -> float:
    """The room between a bar and its successor, on the x axis: less if bars are thin."""
    return (lanes.right - lanes.left) * GAP * (1.0 if height >= ROOMY else 0.6)


# --- bars -----------------------------------------------------------------------------------


def _draw_bars(ax: Axes, lanes: Lanes, height: float) -> None:
    """Bars by state; an open one points on to the right."""
    width = 1.4 if height >= ROOMY else 0.5 if height >= ROOMY / 2 else 0.0
    for state in STATES:
        fill, edge, style = SHARDS[state]
        shapes = _shapes(lanes, state, _gap(lanes, height))
        ax.add_collection(
            PolyCollection(list(shapes), facecolors=fill, edgecolors=edge, linewidths=width,
                           zorder=3, linestyles=style if width else "solid")
        )  # fmt: skip


def _shapes(lanes: Lanes, state: State, gap: float) -> Numbers:
    """The bars' corners, with a little room between each and its successor."""
    mine = lanes.in_state(state)
    start, row = lanes.starts[mine] + gap / 2, lanes.rows[mine]
    end = np.maximum(lanes.ends[mine] - gap / 2, start)
    top, low = row - HALF, row + HALF
    if state != "open":
        corners = [(start, top), (end, top), (end, low), (start, low)]
    else:
        neck = np.maximum(end - (lanes.right - lanes.left) * TIP, start)
        corners = [(start, top), (neck, top), (end, row), (neck, low), (start, low)]
    return np.array(corners).transpose(2, 0, 1)


def _write_ids(ax: Axes, lanes: Lanes) -> None:
    """The last characters of a shard's id, where its bar has room for them."""
    wide = size_in_inches(ax)[0] / (lanes.right - lanes.left)
    for shard, state, start, end, row in zip(
        lanes.shards, lanes.states, lanes.starts, lanes.ends, lanes.rows, strict=True
    ):
        text, fill = _tail(shard), SHARDS[STATES[state]][0]
        end -= TIP * (lanes.right - lanes.left) * (STATES[state] == "open")
        if text_width(text, SMALL) < (end - start) * wide - 0.1:
            colour = MUTED if STATES[state] == "trimmed" else text_on(fill)
            ax.text((start + end) / 2, row, text, fontsize=SMALL, color=colour,
                    ha="center", va="center_baseline", zorder=5)  # fmt: skip


def _tail(shard: str) -> str:
    """'7' of Kinesis's shardId-000000000007, '1a2b' of DynamoDB's shardId-...-...1a2b."""
    kinesis = re.fullmatch(r"shardId-0*(\d+)", shard)
    return kinesis[1] if kinesis else shard[-4:]


# --- links ----------------------------------------------------------------------------------


def _draw_links(ax: Axes, lanes: Lanes, height: float) -> None:
    """A line from each parent to its child; a curve where the row changes."""
    gap = _gap(lanes, height)
    kinds = lanes.links[:, 2]
    thick = min(2.2, max(1.2, 20 * height))
    ax.add_collection(
        LineCollection([_link(lanes, parent, child, gap) for parent, child, _ in lanes.links],
                       colors=[LINKS[KINDS[kind]] for kind in kinds], zorder=2,
                       linewidths=np.where(kinds == 0, thick, max(thick, 1.8)))
    )  # fmt: skip


def _link(lanes: Lanes, parent: int, child: int, gap: float) -> Numbers:
    """Along the parent's row, then in a curve to the child's."""
    start, end = lanes.ends[parent] - gap / 2, lanes.starts[child] + gap / 2
    here, there = lanes.rows[parent], lanes.rows[child]
    if here == there:
        return np.array([(start, here), (end, there)])
    bend = max(start, end - 4 * gap)
    t = np.linspace(0, 1, 40)
    ease = t * t * (3 - 2 * t)
    curve = np.column_stack([bend + (end - bend) * t, here + (there - here) * ease])
    return np.vstack([[start, here], curve])


# --- words ----------------------------------------------------------------------------------


def explain(ax: Axes, words: str, handles: Sequence[Any], columns: int = 6) -> None:
    """Above the picture: words, and below them what fills and lines mean."""
    legend = ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns,
                       frameon=False, fontsize=SMALL, labelcolor=INK, handlelength=1.3,
                       handletextpad=0.4, columnspacing=1.0, borderaxespad=0.0,
                       borderpad=0.1)  # fmt: skip
    ax.annotate(words, (0.0, 1.0), xycoords=legend, xytext=(2, 2),
                textcoords="offset points", fontsize=TEXT, color=INK, va="bottom")  # fmt: skip


def what_is_what(lanes: Lanes, names: Mapping[State, str] = NAMES) -> list[Any]:
    """An entry of the legend for each state and each kind of link that there is."""
    handles: list[Any] = []
    for state in STATES:
        fill, edge, style = SHARDS[state]
        if lanes.in_state(state).size:
            handles.append(Patch(facecolor=fill, edgecolor=edge, linestyle=style, linewidth=1.2,
                                 label=names.get(state, state)))  # fmt: skip
    for kind in _kinds(lanes):
        handles.append(Line2D([], [], color=LINKS[kind], linewidth=2.2, label=kind))
    return handles


def _kinds(lanes: Lanes) -> list[Kind]:
    """The kinds of links that there are."""
    return [kind for number, kind in enumerate(KINDS) if number in lanes.links[:, 2]]


def sum_up(lanes: Lanes) -> str:
    """'28 shards in 4 lanes, 4 open'."""
    shards, is_open = len(lanes.shards), lanes.in_state("open").size
    return (
        f"{shards:,} shard{'s' * (shards != 1)} in {lanes.count:,} "
        f"lane{'s' * (lanes.count != 1)}, {f'{is_open:,}' if is_open else 'none'} open"
    )
