"""A recorded stream: its shards over time, and how closely one knows when they came and ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

from lab_utils.errors import LabError
from lab_utils.plots.lanes import STATES, Lanes, State, lay_out
from lab_utils.plots.lineage import (
    HALF,
    MOST_LANES,
    draw_lanes,
    explain,
    height_of,
    sum_up,
    what_is_what,
)
from lab_utils.plots.style import (
    DPI,
    MUTED,
    PAPER,
    SMALL,
    WIDTH,
    TimeAxis,
    dress,
    new_axes,
    say,
    text_width,
    tint,
    unit_for,
)
from lab_utils.recordings import Between, Life, Recording

MARGIN = 0.03  #: so far bars run on past the first and the last look, as a part of the whole
LATE = 2.0  #: looks that are so many times their interval apart leave a hole
TALLEST = 12.0  #: inches of two panels
KEY = 0.4  #: inches of an entry's colour in the legend, with the room around it
UNSURE = tint(MUTED, 0.6)
UNSEEN = tint(MUTED, 0.16)
NAMES: dict[State, str] = {"trimmed": "never seen", "ended": "never seen open"}

Span = tuple[float, float]


def plot_recording(recording: Recording, ax: Axes | None = None) -> Axes:
    """Draw the shards of a recorded stream from the first look to the last, time to the right.

    A bar stands where its shard was listed as open for certain. It ended, and the next one came,
    between two looks: a grey mark as wide as the time between them, a hair's breadth if one looked
    often. Bars that touch the left edge were there at the first look; shards that had ended by then
    are left out. Where nobody looked for long, the picture is shaded. Dashed bars came and ended
    between the same two looks: known afterwards, or only by name, in this order and at no time. A
    LabError says so if `recording` is not what `read_recording` returned.
    """
    scene = _scene(recording, recording.hours if isinstance(recording, Recording) else 0.0)
    ax = ax or new_axes(height=height_of(scene.lanes) if scene else 2.0)
    if scene is None:
        return say(ax, _why_nothing(recording))
    _draw(ax, scene, scene.lanes.right)
    scene.time.label(ax, "the first look")
    _explain(ax, _words(scene, recording), scene.legend)
    return ax


def plot_recordings(
    real: Recording,
    model: Recording,
    *,
    labels: tuple[str, str] = ("The real table", "The model"),
) -> tuple[Axes, Axes]:
    """Draw two recordings one above the other, each from its own first look, on one time axis.

    What it draws is what `plot_recording` draws; `labels` are the panels' names.
    """
    recordings = (real, model)
    hours = max(each.hours if isinstance(each, Recording) else 0.0 for each in recordings)
    scenes = [_scene(each, hours) for each in recordings]
    heights = [height_of(scene.lanes) - 0.35 if scene else 1.5 for scene in scenes]
    figure = plt.figure(figsize=(WIDTH, min(sum(heights), TALLEST)), dpi=DPI, facecolor=PAPER,
                        layout="constrained")  # fmt: skip
    panels = [dress(panel) for panel in figure.subplots(2, 1, height_ratios=heights)]
    drawn = [scene for scene in scenes if scene]
    legend = {entry.get_label(): entry for scene in drawn for entry in scene.legend}
    for panel, scene, each, label in zip(panels, scenes, recordings, labels, strict=True):
        if scene is None:
            say(panel, f"{label}: {_why_nothing(each)}")
            continue
        _draw(panel, scene, max(scene.lanes.right for scene in drawn))
        scene.time.label(panel, "the first look")
        _explain(panel, f"{label}: {_words(scene, each)}", list(legend.values()))
        legend = {}  # once is enough
    return panels[0], panels[1]


@dataclass(frozen=True)
class _Scene:
    """A recording in its lanes, counted from its first look.

    `unsure`: rows, and the two looks between which something happened there; `holes`: where nobody
    looked.
    """

    lanes: Lanes
    time: TimeAxis
    unsure: list[tuple[float, Span]]
    holes: list[Span]

    @property
    def legend(self) -> list[Any]:
        more = []
        if self.unsure:
            more.append(Patch(facecolor=UNSURE, label="between looks"))
        if self.holes:
            more.append(Patch(facecolor=UNSEEN, label="no look"))
        return what_is_what(self.lanes, NAMES) + more


def _scene(recording: Recording, hours: float) -> _Scene | None:
    """What there is to draw on an axis for so many hours; None if it is nothing."""
    if not isinstance(recording, Recording):
        raise LabError(
            f"A {type(recording).__name__} is no recording: give what read_recording(path) or "
            "record_stream(...) returned."
        )
    graph, lives = _watched(recording)
    if not recording.hours or not len(graph):
        return None
    time = TimeAxis(recording.looks[0].at, *unit_for(hours * 3600))
    lanes = _lanes(graph, lives, time, time.at(recording.looks[-1].at))
    unsure = _unsure(lanes, lives, time) if lanes.count <= MOST_LANES else []
    return _Scene(lanes, time, unsure, _holes(recording, time))


def _explain(ax: Axes, words: str, legend: list[Any]) -> None:
    """Words and legend; in two rows if one is too short."""
    wide = sum(KEY + text_width(str(entry.get_label()), SMALL) for entry in legend)
    explain(ax, words, legend, 6 if wide < WIDTH else 3)


def _words(scene: _Scene, recording: Recording) -> str:
    return f"{sum_up(scene.lanes)}, {len(recording.looks):,} looks"


def _why_nothing(recording: Recording) -> str:
    return "no shard was open" if recording.hours else "one look tells no times"


# --- what was watched -------------------------------------------------------------------------


def _watched(recording: Recording) -> tuple[nx.DiGraph, dict[str, Life]]:
    """The shards that had not ended at the first look, with parents that nobody saw meanwhile."""
    lives = {
        shard: life
        for shard, life in recording.lives.items()
        if life.opened.after is not None or life.closed.after is not None
    }
    graph = nx.DiGraph()
    for shard, life in lives.items():
        graph.add_node(shard, state="closed" if life.closed.before else "open")
    for shard, life in lives.items():
        for parent in life.shard.parents:
            unseen = parent not in recording.lives and life.opened.after is not None
            if unseen and parent not in graph:
                graph.add_node(parent, state="trimmed")
            if unseen or parent in lives:
                graph.add_edge(parent, shard)
    return graph, lives


def _lanes(graph: nx.DiGraph, lives: dict[str, Life], time: TimeAxis, last: float) -> Lanes:
    """The lanes of the shards, with bars where each was open for certain."""
    lanes = lay_out(graph)
    margin = MARGIN * last
    states = lanes.states.copy()
    starts, ends = np.full(len(states), -margin), np.full(len(states), last + margin)
    hidden = _hidden(graph, lives)
    for i, shard in enumerate(lanes.shards):
        if shard in hidden:
            starts[i], ends[i] = _share(graph, shard, hidden, time)
            states[i] = STATES.index("ended" if shard in lives else "trimmed")
            continue
        opened, closed = lives[shard].opened, lives[shard].closed
        if opened.after is not None:
            starts[i] = time.at(_known(opened.before))
        if closed.before is not None:
            ends[i] = time.at(_known(closed.after))
    return replace(lanes, states=states, starts=starts, ends=np.maximum(starts, ends), time=time,
                   left=0.0, right=last + margin)  # fmt: skip


def _hidden(graph: nx.DiGraph, lives: dict[str, Life]) -> dict[str, Between]:
    """Shards that came and ended between the same two looks, and these looks.

    So did a parent that was never seen: it was not there at the look before its child was not.
    """
    return {
        shard: bounds for shard in graph if (bounds := _bounds(graph, shard, lives)) is not None
    }


def _bounds(graph: nx.DiGraph, shard: str, lives: dict[str, Life]) -> Between | None:
    life = lives.get(shard)
    if life is None:
        return min(lives[child].opened for child in graph.succ[shard])
    return life.opened if life.opened == life.closed else None


def _share(graph: nx.DiGraph, shard: str, hidden: dict[str, Between], time: TimeAxis) -> Span:
    """A part of the time between two looks: all that one knows of such shards is their order."""
    before = _steps(graph.pred, shard, hidden)
    count = before + 1 + _steps(graph.succ, shard, hidden)
    start, end = _span(*hidden[shard], time)
    part = (end - start) / count
    return start + before * part, start + (before + 1) * part


def _steps(kin: Any, shard: str, hidden: dict[str, Between]) -> int:
    """How many generations of parents, or of children, came and ended between the same looks."""
    near = [each for each in kin[shard] if hidden.get(each) == hidden[shard]]
    return 1 + max(_steps(kin, each, hidden) for each in near) if near else 0


def _unsure(lanes: Lanes, lives: dict[str, Life], time: TimeAxis) -> list[tuple[float, Span]]:
    """Where a shard came or ended, not closer than the looks tell."""
    return [
        (row, _span(*bounds, time))
        for shard, row in zip(lanes.shards, lanes.rows, strict=True)
        if shard in lives
        for bounds in (lives[shard].opened, lives[shard].closed)
        if None not in bounds
    ]


def _holes(recording: Recording, time: TimeAxis) -> list[Span]:
    longest = LATE * recording.header.every
    return [
        (time.at(one.at), time.at(next_one.at))
        for one, next_one in pairwise(recording.looks)
        if (next_one.at - one.at).total_seconds() > longest
    ]


def _span(after: datetime | None, before: datetime | None, time: TimeAxis) -> Span:
    return time.at(_known(after)), time.at(_known(before))


def _known(moment: datetime | None) -> datetime:
    assert moment is not None, "whoever asks has seen to it"
    return moment


# --- drawing ----------------------------------------------------------------------------------


def _draw(ax: Axes, scene: _Scene, right: float) -> None:
    ax.set_xlim(0.0, right)
    ax.grid(visible=False)
    for hole in scene.holes:
        ax.axvspan(*hole, color=UNSEEN, linewidth=0, zorder=0)
    draw_lanes(ax, scene.lanes)
    ax.set_xlim(0.0, right)
    ax.grid(visible=True, axis="x", color=tint(MUTED, 0.2), linewidth=0.8)
    _mark(ax, scene.unsure)


def _mark(ax: Axes, unsure: Iterable[tuple[float, Span]]) -> None:
    """Half as high as the bars, and never thinner than a hair."""
    boxes = [
        [(start, row - HALF / 2), (end, row - HALF / 2), (end, row + HALF / 2),
         (start, row + HALF / 2)]
        for row, (start, end) in unsure
    ]  # fmt: skip
    ax.add_collection(PolyCollection(boxes, facecolors=UNSURE, edgecolors=UNSURE, linewidths=0.8,
                                     zorder=2.5))  # fmt: skip
