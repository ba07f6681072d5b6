"""The lineage of shards, read through the public API only."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

import lab_utils as lu
from lab_utils.lineage import ShardLineage

FOUR_HOURS = 4 * 3600.0


@pytest.fixture
def lab() -> Any:
    with lu.open_lab("embedded", physics=lu.Physics(rollover=(FOUR_HOURS, FOUR_HOURS))) as lab:
        yield lab


def table_stream(lab: Any) -> str:
    description = lab.client("dynamodb").create_table(
        TableName="Changes",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    return str(description["TableDescription"]["LatestStreamArn"])


def lineage_of(lab: Any, arn: str) -> ShardLineage:
    return lu.read_lineage(lab.client("dynamodbstreams"), arn)


def test_a_new_stream_has_four_open_roots(lab: Any) -> None:
    lineage = lineage_of(lab, table_stream(lab))
    assert len(lineage.open_shards) == 4
    assert lineage.roots == lineage.open_shards
    assert lineage.closed_shards == []
    assert lineage.reading_order() == [lineage.open_shards]


def test_a_roll_over_gives_each_shard_one_child(lab: Any) -> None:
    arn = table_stream(lab)
    before = lineage_of(lab, arn)
    lab.clock.advance(hours=5)
    after = lineage_of(lab, arn)
    assert after.closed_shards == before.open_shards == after.roots
    assert after.reading_order() == [before.open_shards, after.open_shards]
    assert sorted(degree for _, degree in after.graph.out_degree()) == [0] * 4 + [1] * 4
    for parent, child in after.graph.edges:
        ended, started = after.graph.nodes[parent]["ended"], after.graph.nodes[child]["started"]
        assert ended == started is not None


def test_a_split_gives_one_shard_two_children(lab: Any) -> None:
    arn = table_stream(lab)
    lab.split_partition("Changes", 2)
    lineage = lineage_of(lab, arn)
    assert len(lineage.open_shards) == 5
    (parent,) = lineage.closed_shards
    assert lineage.graph.out_degree(parent) == 2
    assert nx.is_forest(lineage.graph.to_undirected())


def test_every_page_is_read_and_frontiers_differ(lab: Any) -> None:
    arn = table_stream(lab)
    for _ in range(6):
        for partition in list(lab.partitions("Changes").index):
            lab.split_partition("Changes", partition)
    lineage = lineage_of(lab, arn)
    assert len(lineage.open_shards) == 4 * 2**6
    assert len(lineage.graph) == 4 * (2**7 - 1)
    assert len(lineage.frontier("TRIM_HORIZON")) == 4
    assert lineage.frontier("LATEST") == lineage.open_shards


def test_a_parent_that_is_gone_is_named_and_ghosted(lab: Any) -> None:
    arn = table_stream(lab)
    first = lineage_of(lab, arn).open_shards
    lab.clock.advance(hours=28, seconds=1)
    lineage = lineage_of(lab, arn)
    trimmed = [
        shard for shard, each in lineage.graph.nodes(data=True) if each["state"] == "trimmed"
    ]
    assert sorted(trimmed) == first
    assert len(lineage.roots) == 4
    assert not set(first) & {shard for row in lineage.reading_order() for shard in row}


def test_kinesis_by_name_and_by_arn(lab: Any) -> None:
    kinesis = lab.client("kinesis")
    kinesis.create_stream(StreamName="numbers", ShardCount=3)
    summary = kinesis.describe_stream_summary(StreamName="numbers")["StreamDescriptionSummary"]
    by_name = lu.read_lineage(kinesis, "numbers")
    by_arn = lu.read_lineage(kinesis, summary["StreamARN"])
    assert (
        by_name.open_shards
        == by_arn.open_shards
        == [f"shardId-{number:012d}" for number in range(3)]
    )


def test_bad_input_names_the_remedy(lab: Any) -> None:
    with pytest.raises(lu.LabError, match="dynamodbstreams or kinesis"):
        lu.read_lineage(lab.client("sqs"), "x")
    with pytest.raises(lu.LabError, match="TRIM_HORIZON"):
        lineage_of(lab, table_stream(lab)).frontier("OLDEST")  # type: ignore[arg-type]
