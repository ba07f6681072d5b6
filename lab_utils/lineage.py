"""Which shard came from which: DescribeStream or ListShards as a graph.

Only the public API is used, so it works on every target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import networkx as nx

from lab_utils.errors import LabError

Position = Literal["TRIM_HORIZON", "LATEST"]
_BORN = re.compile(r"shardId-(\d{20})-")


@dataclass(frozen=True)
class ShardLineage:
    """The shards of one stream at one moment, and who descends from whom.

    `graph` leads from parent to child; its nodes are ShardIds with the attributes `state` ("open",
    "closed", or "trimmed" for a parent that is named but gone), `started` and `ended` (UTC, or None
    where nothing tells). A DynamoDB shard's id tells when it was born; that its parent ended then
    follows. Kinesis tells neither.
    """

    stream: str
    graph: nx.DiGraph

    def _in_state(self, state: str) -> list[str]:
        return sorted(
            shard for shard, each in self.graph.nodes(data=True) if each["state"] == state
        )

    @cached_property
    def open_shards(self) -> list[str]:
        """Shards that still grow."""
        return self._in_state("open")

    @cached_property
    def closed_shards(self) -> list[str]:
        """Shards that have an EndingSequenceNumber and can still be read."""
        return self._in_state("closed")

    @cached_property
    def roots(self) -> list[str]:
        """Readable shards none of whose parents is readable any more: the oldest of each line."""
        readable = self._readable()
        return sorted(
            shard
            for shard in readable
            if not any(parent in readable for parent in self.graph.predecessors(shard))
        )

    def frontier(self, position: Position) -> list[str]:
        """Where a reader begins: the oldest shards of all (TRIM_HORIZON), or the open (LATEST)."""
        if position not in ("TRIM_HORIZON", "LATEST"):
            raise LabError(f"frontier({position!r}) must be 'TRIM_HORIZON' or 'LATEST'.")
        return self.roots if position == "TRIM_HORIZON" else self.open_shards

    def reading_order(self) -> list[list[str]]:
        """Generations of readable shards: each stands after all of its parents."""
        readable = self.graph.subgraph(self._readable())
        return [sorted(generation) for generation in nx.topological_generations(readable)]

    def _readable(self) -> set[str]:
        return {shard for shard, each in self.graph.nodes(data=True) if each["state"] != "trimmed"}

    def __repr__(self) -> str:
        return (
            f"<lineage of {len(self._readable())} shards, {len(self.open_shards)} open, "
            f"{len(self.roots)} roots>"
        )


def read_lineage(client: Any, stream: str) -> ShardLineage:
    """The lineage of a stream, from a dynamodbstreams or a kinesis client; reads every page.

    `stream` is the stream's ARN, or a name for Kinesis.
    """
    service = client.meta.service_model.service_name
    if service == "dynamodbstreams":
        shards = list(_table_stream_shards(client, stream))
    elif service == "kinesis":
        shards = list(_data_stream_shards(client, stream))
    else:
        raise LabError(f"read_lineage needs a dynamodbstreams or kinesis client, not {service}.")
    graph = nx.DiGraph()
    for shard in sorted(shards, key=lambda each: str(each["ShardId"])):
        closed = "EndingSequenceNumber" in shard["SequenceNumberRange"]
        graph.add_node(
            shard["ShardId"],
            state="closed" if closed else "open",
            started=_born(shard["ShardId"]),
            ended=None,
        )
    for shard in shards:
        for name in ("ParentShardId", "AdjacentParentShardId"):
            if name in shard:
                _link(graph, shard[name], shard["ShardId"])
    return ShardLineage(stream, graph)


def _link(graph: nx.DiGraph, parent: str, child: str) -> None:
    if parent not in graph:
        graph.add_node(parent, state="trimmed", started=_born(parent), ended=None)
    graph.add_edge(parent, child)
    graph.nodes[parent]["ended"] = graph.nodes[child]["started"]


def _table_stream_shards(client: Any, arn: str) -> Iterator[dict[str, Any]]:
    page: dict[str, Any] = {}
    while True:
        description = client.describe_stream(StreamArn=arn, **page)["StreamDescription"]
        yield from description["Shards"]
        if "LastEvaluatedShardId" not in description:
            return
        page = {"ExclusiveStartShardId": description["LastEvaluatedShardId"]}


def _data_stream_shards(client: Any, stream: str) -> Iterator[dict[str, Any]]:
    page = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
    while True:
        answer = client.list_shards(**page)
        yield from answer["Shards"]
        if "NextToken" not in answer:
            return
        page = {"NextToken": answer["NextToken"]}


def _born(shard_id: str) -> datetime | None:
    """A DynamoDB shard's id begins with the milliseconds of its birth (observed, not promised)."""
    found = _BORN.match(shard_id)
    return datetime.fromtimestamp(int(found.group(1)) / 1000, UTC) if found else None
