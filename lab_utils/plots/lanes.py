"""Where the shards of a lineage lie in a picture: a lane for each line of descent, over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from lab_utils.errors import LabError
from lab_utils.plots.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    SKY,
    Numbers,
    TimeAxis,
    tint,
)

YOUNG = 60.0  #: seconds; a stream of that age has no history to measure
AHEAD = 0.14  #: how far an open shard runs on past the last known moment, as a part of the whole

State = Literal["trimmed", "closed", "ended", "open"]
STATES: tuple[State, ...] = ("trimmed", "closed", "ended", "open")
"""As in the graph; "ended" is a closed shard without a child, so that nothing tells when."""
Kind = Literal["roll-over", "split", "merge"]
KINDS: tuple[Kind, ...] = ("roll-over", "split", "merge")

DASHED = (0, (2.5, 2))
SHARDS: dict[State, tuple[str, str, Any]] = {
    "trimmed": (tint(MUTED, 0.18), MUTED, DASHED),
    "closed": (tint(SKY, 0.5), BLUE, "solid"),
    "ended": (tint(SKY, 0.25), BLUE, DASHED),
    "open": (BLUE, BLUE, "solid"),
}
"""How a shard in each state looks: fill, outline and its line style."""
LINKS: dict[Kind, str] = {"roll-over": INK, "split": ORANGE, "merge": GREEN}


class Lineage(Protocol):
    """What `plot_lineage` reads of a lineage."""

    @property
    def graph(self) -> Any:
        """A networkx.DiGraph of shard ids, parent -> child."""


@dataclass(frozen=True)
class Lanes:
    """Every shard's place; arrays have one number per shard, in the order of `shards`.

    A shard without children has one lane, a parent all lanes from `first` to `last` of its
    descendants, and is drawn in their middle, `row`. `starts` and `ends` are numbers on the x axis:
    times on `time`, or generations if that is None. `links` has a row (parent, child, kind) per
    edge, each the index of a shard or of `KINDS`.
    """

    shards: list[str]
    states: Numbers
    first: Numbers
    last: Numbers
    starts: Numbers
    ends: Numbers
    links: Numbers
    time: TimeAxis | None
    left: float
    right: float
    young: bool = False

    @cached_property
    def count(self) -> int:
        """How many lanes there are."""
        return int(self.last.max()) + 1

    @cached_property
    def rows(self) -> Numbers:
        return (self.first + self.last) / 2

    def in_state(self, state: State) -> Numbers:
        """The indices of the shards in a state."""
        return np.flatnonzero(self.states == STATES.index(state))


def graph_of(lineage: Lineage) -> Any:
    """The graph, or a sentence that says where to get one."""
    graph: Any = getattr(lineage, "graph", None)
    if not (hasattr(graph, "pred") and hasattr(graph, "nodes")):
        raise LabError(
            f"plot_lineage cannot draw a {type(lineage).__name__}: "
            "give it what read_lineage(client, stream) returned."
        )
    lame = next((s for s, each in graph.nodes(data=True) if each.get("state") not in STATES), None)
    if lame is not None:
        raise LabError(
            f"Shard {lame} has no state open, closed or trimmed: "
            "give plot_lineage what read_lineage(client, stream) returned."
        )
    return graph


def lay_out(graph: Any) -> Lanes:
    """Lanes from top to bottom, time (or generations) from left to right."""
    shards = sorted(graph)
    index = {shard: i for i, shard in enumerate(shards)}
    generations = _generations(graph, shards)
    spans = _lanes(graph)
    links = np.array(
        [(index[a], index[b], _kind(graph, a, b)) for a, b in graph.edges], dtype=int
    ).reshape(-1, 3)
    lanes = np.array([spans[shard] for shard in shards])
    columns = _times(graph, shards) or _columns(graph, shards, generations)
    order = np.lexsort((links[:, 1], links[:, 0]))
    return Lanes(shards=shards, first=lanes[:, 0], last=lanes[:, 1], links=links[order], **columns)


def _kind(graph: Any, parent: str, child: str) -> int:
    if len(graph.pred[child]) > 1:
        return KINDS.index("merge")
    return KINDS.index("split" if len(graph.succ[parent]) > 1 else "roll-over")


def _lanes(graph: Any) -> dict[str, tuple[int, int]]:
    """The first and the last lane of each shard: a new lane per childless one, roots by age.

    A child of two parents belongs to the first; a parent whose children all belong to others has
    a lane of its own.
    """
    lanes: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    free = 0
    for root in sorted(shard for shard in graph if not graph.pred[shard]):
        stack = [(root, free, iter(sorted(graph.succ[root])))]
        while stack:
            shard, first, children = stack[-1]
            child = next((each for each in children if each not in seen), None)
            if child is not None:
                seen.add(child)
                stack.append((child, free, iter(sorted(graph.succ[child]))))
                continue
            stack.pop()
            free = max(free, first + 1)
            lanes[shard] = (first, free - 1)
    return lanes


# --- columns --------------------------------------------------------------------------------


def _times(graph: Any, shards: list[str]) -> dict[str, Any] | None:
    """Starts and ends in time; None if a shard that is still listed has no known start."""
    nodes = graph.nodes
    listed = [nodes[shard] for shard in shards if nodes[shard]["state"] != "trimmed"]
    if not listed or any(each.get("started") is None for each in listed):
        return None
    ended = {shard: _ended(graph, shard) for shard in shards}
    origin = min(each["started"] for each in listed)
    latest = max([each["started"] for each in listed] + [e for e in ended.values() if e])
    young = (latest - origin).total_seconds() < YOUNG
    time = TimeAxis.over(origin, latest + timedelta(hours=3 if young else 0))
    last = time.at(latest)
    states = np.array([_state(nodes[shard]["state"], ended[shard]) for shard in shards])
    ahead = 1.0 if young else AHEAD * last
    goes_on = np.isin(states, [STATES.index("ended"), STATES.index("open")]).any()
    right = last + ahead if goes_on or young else last
    ends = np.array([right if e is None else time.at(e) for e in ended.values()])
    begun = [nodes[shard].get("started") for shard in shards]
    starts = np.array(
        [end - ahead if b is None else time.at(b) for b, end in zip(begun, ends, strict=True)]
    )
    return {"states": states, "starts": starts, "ends": np.maximum(starts, ends), "time": time,
            "left": float(starts.min()), "right": right, "young": young}  # fmt: skip


def _ended(graph: Any, shard: str) -> datetime | None:
    """When a shard ended: as recorded, or when its first child began. None: open, or unknown."""
    node = graph.nodes[shard]
    if node["state"] == "open":
        return None
    if node.get("ended") is not None:
        return node["ended"]  # type: ignore[no-any-return]
    began = (graph.nodes[child].get("started") for child in graph.succ[shard])
    return min((start for start in began if start is not None), default=None)


def _state(state: State, ended: datetime | None) -> int:
    return STATES.index("ended" if state == "closed" and ended is None else state)


def _generations(graph: Any, shards: list[str]) -> dict[str, int]:
    """1 for shards without parents, 2 for their children...: one more than the eldest parent's."""
    numbers: dict[str, int] = {}
    missing = {shard: len(graph.pred[shard]) for shard in shards}
    ready = [shard for shard in shards if not missing[shard]]
    while ready:
        following: list[str] = []
        for shard in ready:
            numbers[shard] = 1 + max((numbers[parent] for parent in graph.pred[shard]), default=0)
            for child in graph.succ[shard]:
                missing[child] -= 1
                if not missing[child]:
                    following.append(child)
        ready = following
    knot = next((shard for shard in shards if shard not in numbers), None)
    if knot is not None:
        raise LabError(
            f"Shard {knot} descends from itself: "
            "give plot_lineage what read_lineage(client, stream) returned."
        )
    return numbers


def _columns(graph: Any, shards: list[str], generations: dict[str, int]) -> dict[str, Any]:
    """One column per generation, for shards whose times are not known."""
    middle = np.array([float(generations[shard]) for shard in shards])
    states = np.array([STATES.index(graph.nodes[shard]["state"]) for shard in shards])
    right = float(middle.max()) + 0.5
    ends = np.where(states == STATES.index("open"), right, middle + 0.35)
    return {"states": states, "starts": middle - 0.35, "ends": ends, "time": None,
            "left": 0.5, "right": right}  # fmt: skip
