"""The lineage of shards, read through the public API only."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest
from botocore.exceptions import ClientError

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


def test_nodes_say_what_the_listing_says(lab: Any) -> None:
    arn = table_stream(lab)
    lab.clock.advance(hours=29)
    answer = lab.client("dynamodbstreams").describe_stream(StreamArn=arn)["StreamDescription"]
    listed = {shard["ShardId"]: shard for shard in answer["Shards"]}
    lineage = lineage_of(lab, arn)
    for shard, node in lineage.graph.nodes(data=True):
        numbers = listed.get(shard, {}).get("SequenceNumberRange", {})
        assert str(node["starting"]) == numbers.get("StartingSequenceNumber", "None")
        assert str(node["ending"]) == numbers.get("EndingSequenceNumber", "None")
        assert node["started"].timestamp() * 1000 == pytest.approx(int(shard[8:28]))
        assert node["size"] is None
        assert node["repaired"] is False
    assert lineage.trimmed == sorted(set(lineage.graph) - set(listed))
    assert lineage.gaps == [
        (parent, child)
        for parent in lineage.trimmed
        for child in sorted(lineage.graph.successors(parent))
    ]
    assert len(lineage.gaps) == 4
    assert lineage.childless == []
    assert lineage.enabled


def test_a_disabled_stream_ends_in_leaves_that_are_final(lab: Any) -> None:
    arn = table_stream(lab)
    lab.client("dynamodb").update_table(
        TableName="Changes", StreamSpecification={"StreamEnabled": False}
    )
    asked = lab.clock.now()
    lineage = lineage_of(lab, arn)
    assert (lineage.enabled, lineage.open_shards, lineage.childless) == (False, [], [])
    assert len(lineage.closed_shards) == 4
    assert (lab.clock.now() - asked).total_seconds() < 1, "nothing was waited for"


def test_a_parent_that_still_looks_open_counts_as_closed() -> None:
    physics = lu.Physics(on_demand_partitions=30, rollover=(FOUR_HOURS, FOUR_HOURS))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn, streams = table_stream(lab), lab.client("dynamodbstreams")
        lab.clock.advance(hours=12, minutes=1)
        first = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        looks_open = {
            s["ShardId"] for s in first if "EndingSequenceNumber" not in s["SequenceNumberRange"]
        }
        assert len(looks_open) == 10, "ten of thirty are on the first page"
        pages = []

        def roll_over_after_the_first_page(**_: Any) -> None:
            pages.append(1)
            if len(pages) == 1:
                lab.clock.advance(hours=4)

        event = "after-call.dynamodb-streams.DescribeStream"
        streams.meta.events.register(event, roll_over_after_the_first_page)
        lineage = lu.read_lineage(streams, arn)
    repaired = {shard for shard, node in lineage.graph.nodes(data=True) if node["repaired"]}
    assert repaired == looks_open
    assert repaired <= set(lineage.closed_shards)
    assert {lineage.graph.nodes[shard]["ending"] for shard in repaired} == {None}
    assert len(lineage.open_shards) == 30


def closed_without_children(streams: Any, arn: str) -> list[str]:
    found = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    parents = {shard.get("ParentShardId") for shard in found}
    return [
        shard["ShardId"]
        for shard in found
        if "EndingSequenceNumber" in shard["SequenceNumberRange"]
        and shard["ShardId"] not in parents
    ]


def test_children_that_are_listed_late_are_waited_for() -> None:
    physics = lu.Physics(rollover=(FOUR_HOURS, FOUR_HOURS), listing_lag=(0.0, 60.0))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn, streams = table_stream(lab), lab.client("dynamodbstreams")
        lab.clock.advance(hours=4)
        while not (early := closed_without_children(streams, arn)):
            lab.clock.advance(seconds=1)
        lineage = lu.read_lineage(streams, arn)
        assert lineage.childless == []
        assert set(early) <= {parent for parent, _ in lineage.graph.edges}


def test_children_that_do_not_come_are_waited_for_a_minute_only() -> None:
    physics = lu.Physics(on_demand_partitions=20, listing_lag=(0.0, 3600.0))
    with lu.open_lab("embedded", physics=physics) as lab:
        arn, streams = table_stream(lab), lab.client("dynamodbstreams")
        lab.clock.advance(hours=1)
        for partition in list(lab.partitions("Changes").index):
            lab.split_partition("Changes", int(partition))
        spent = 0.0
        for _ in range(20):
            lab.clock.advance(minutes=2)
            asked = lab.clock.now()
            lineage = lu.read_lineage(streams, arn)
            spent = (lab.clock.now() - asked).total_seconds()
            if lineage.childless:
                break
        assert lineage.childless
        assert set(lineage.childless) <= set(lineage.closed_shards)
        assert 60 < spent < 70


def test_a_parent_that_is_listed_later_than_its_child_is_looked_for() -> None:
    with lu.open_lab("embedded", physics=lu.Physics(listing_lag=(0.0, 60.0))) as lab:
        arn, streams = table_stream(lab), lab.client("dynamodbstreams")
        for partition in range(4):
            lab.split_partition("Changes", partition)
        lab.clock.advance(seconds=30)
        found = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        listed = {shard["ShardId"] for shard in found}
        assert {s["ParentShardId"] for s in found if "ParentShardId" in s} - listed
        lineage = lu.read_lineage(streams, arn)
        assert lineage.trimmed == []


def test_the_reading_order_is_of_generations(lab: Any) -> None:
    arn = table_stream(lab)
    lab.clock.advance(hours=29)
    lineage = lineage_of(lab, arn)
    order = lineage.reading_order()
    place = {shard: number for number, row in enumerate(order) for shard in row}
    assert len(place) == 28
    assert all(
        place[parent] < place[child]
        for parent, child in lineage.graph.edges
        if parent not in lineage.trimmed
    )
    order[0].clear()
    assert lineage.reading_order()[0] == lineage.roots, "the caller's list is the caller's"


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
    with pytest.raises(lu.LabError, match="names no stream: take the LatestStreamArn"):
        lineage_of(lab, "arn:aws:dynamodb:us-east-1:table/x/stream/y/and/so/on")
    with pytest.raises(lu.LabError, match=r"There is no stream .*: take the LatestStreamArn"):
        lineage_of(lab, table_stream(lab)[:-1] + "x")
    with pytest.raises(lu.LabError, match="There is no stream absent here: give the name"):
        lu.read_lineage(lab.client("kinesis"), "absent")
    lab.client("dynamodb").delete_table(TableName="Changes")
    with pytest.raises(lu.LabError, match="TRIM_HORIZON"):
        lineage_of(lab, table_stream(lab)).frontier("OLDEST")  # type: ignore[arg-type]


def test_whoever_may_not_list_is_told_so(lab: Any) -> None:
    arn, streams = table_stream(lab), lab.client("dynamodbstreams")

    def refuse(params: dict[str, Any], **_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "DescribeStream")

    streams.meta.events.register("before-parameter-build.dynamodb-streams", refuse)
    for ask in (lu.read_lineage, lu.StreamReader):
        with pytest.raises(lu.LabError, match=r"Listing the shards .* you may not DescribeStream"):
            ask(streams, arn)
