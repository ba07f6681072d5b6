"""Which shard came from which: DescribeStream or ListShards as a graph.

Only the public API is used, so it works on every target. A listing is no snapshot and may lag, so
what it shows is repaired first, as AWS's adapter for its Kinesis library does: whoever is named as
a parent has ended, and who must be listed but is not is looked for again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import networkx as nx

from lab_utils.clock import pause
from lab_utils.errors import LabError
from lab_utils.refusals import explained
from lab_utils.sources import (
    LAG_WAITS,
    Shards,
    Source,
    born,
    children_of,
    open_source,
    unlisted_parents,
)

Position = Literal["TRIM_HORIZON", "LATEST"]


@dataclass(frozen=True)
class ShardLineage:
    """The shards of one stream at one moment, and who descends from whom.

    `graph` leads from parent to child; its nodes are ShardIds with the attributes
    - `state`: "open", "closed", or "trimmed" for a parent that is named but gone,
    - `started`, `ended`: UTC, or None where nothing tells. A DynamoDB shard's id tells when it was
      born; that its parent ended then follows. Kinesis tells neither,
    - `starting`, `ending`: sequence numbers, or None,
    - `size`: its share of the hashes, 0 to 1 (Kinesis; DynamoDB does not tell, so None),
    - `repaired`: True if it was listed as open and yet has a child, so that it counts as closed.

    `enabled` says whether the stream still grows.
    """

    stream: str
    graph: nx.DiGraph
    enabled: bool = True

    def _in_state(self, state: str) -> list[str]:
        return sorted(shard for shard, each in self.graph.nodes.data("state") if each == state)

    @cached_property
    def open_shards(self) -> list[str]:
        """Shards that still grow."""
        return self._in_state("open")

    @cached_property
    def closed_shards(self) -> list[str]:
        """Shards that have ended and can still be read."""
        return self._in_state("closed")

    @cached_property
    def trimmed(self) -> list[str]:
        """Parents that are named, and listed no more."""
        return self._in_state("trimmed")

    @cached_property
    def roots(self) -> list[str]:
        """Readable shards none of whose parents is readable any more: the oldest of each line."""
        return self._generations[0] if self._generations else []

    @cached_property
    def gaps(self) -> list[tuple[str, str]]:
        """Where the listing breaks off: (trimmed parent, child), sorted."""
        return [(gone, child) for gone in self.trimmed for child in sorted(self.graph.succ[gone])]

    @cached_property
    def childless(self) -> list[str]:
        """Closed shards whose children nobody knows: the listing lags, or they closed just now.

        A disabled stream has none: its last shards end their lines.
        """
        if not self.enabled:
            return []
        return [shard for shard in self.closed_shards if not self.graph.succ[shard]]

    def frontier(self, position: Position) -> list[str]:
        """Where a reader begins: the oldest shards of all (TRIM_HORIZON), or the open (LATEST)."""
        if position not in ("TRIM_HORIZON", "LATEST"):
            raise LabError(f"frontier({position!r}) must be 'TRIM_HORIZON' or 'LATEST'.")
        return self.roots if position == "TRIM_HORIZON" else self.open_shards

    def reading_order(self) -> list[list[str]]:
        """Generations of readable shards: each stands after all of its parents."""
        return [list(generation) for generation in self._generations]

    @cached_property
    def _generations(self) -> list[list[str]]:
        parents, children = self.graph.pred, self.graph.succ
        gone = set(self.trimmed)
        unread = {
            shard: sum(parent not in gone for parent in parents[shard])
            for shard in self.graph
            if shard not in gone
        }
        generation = sorted(shard for shard, count in unread.items() if not count)
        found = []
        while generation:
            found.append(generation)
            following = []
            for shard in generation:
                for child in children[shard]:
                    unread[child] -= 1
                    if not unread[child]:
                        following.append(child)
            generation = sorted(following)
        return found

    def __repr__(self) -> str:
        readable = len(self.graph) - len(self.trimmed)
        return (
            f"<lineage of {readable} shards, {len(self.open_shards)} open, {len(self.roots)} roots>"
        )


def read_lineage(client: Any, stream: str) -> ShardLineage:
    """The lineage of a stream, from a dynamodbstreams or a kinesis client; reads every page.

    `stream` is the stream's ARN, or a name for Kinesis. Where the listing cannot be complete it
    looks again, for about a minute at most; what is still missing then stays so: a parent counts as
    "trimmed", a closed shard as `childless`. LabError if there is no such stream.
    """
    source = open_source(client, stream, "read_lineage")
    with explained("listing the shards of the stream"):
        shards = source.shards()
        for wait in LAG_WAITS:
            leaves = _leaves(shards) if source.enabled else []
            parents = any(unlisted_parents(shards, source.now))
            if not leaves and not parents:
                break
            pause(client, wait)
            shards = _look_again(source, shards, leaves, everything=parents)
    return ShardLineage(stream, graph_of(shards), source.enabled)


def _look_again(source: Source, shards: Shards, leaves: list[str], *, everything: bool) -> Shards:
    """The shards with the children of `leaves`, asked for in whichever way takes fewer calls."""
    if everything or len(leaves) > source.pages:
        return source.shards()
    found = [child for leaf in leaves for child in source.children(leaf)]
    return dict(sorted((shards | {child.id: child for child in found}).items()))


def _leaves(shards: Shards) -> list[str]:
    """Closed shards without a child."""
    parents = {parent for shard in shards.values() for parent in shard.parents}
    return [
        shard.id
        for shard in shards.values()
        if shard.ending is not None and shard.id not in parents
    ]


def graph_of(shards: Shards) -> nx.DiGraph:
    """Listed shards as the graph of a `ShardLineage`."""
    children = children_of(shards.values())
    births = {shard: born(shard) for shard in shards}
    ended = {
        parent: min((at for each in found if (at := births[each]) is not None), default=None)
        for parent, found in children.items()
    }
    graph = nx.DiGraph()
    graph.add_nodes_from(
        (
            shard.id,
            {
                "state": "open" if shard.ending is None and shard.id not in children else "closed",
                "started": births[shard.id],
                "ended": ended.get(shard.id),
                "starting": shard.starting,
                "ending": shard.ending,
                "size": shard.size,
                "repaired": shard.ending is None and shard.id in children,
            },
        )
        for shard in shards.values()
    )
    graph.add_nodes_from(
        (
            parent,
            {
                "state": "trimmed",
                "started": born(parent),
                "ended": ended[parent],
                "starting": None,
                "ending": None,
                "size": None,
                "repaired": False,
            },
        )
        for parent in sorted(children)
        if parent not in shards
    )
    graph.add_edges_from(
        (parent, shard.id) for shard in shards.values() for parent in shard.parents
    )
    return graph
