"""Kinesis shards that split and merge: the calls, what is listed and read, and who follows."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import networkx as nx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from running import COLLECTOR, connect, function, got, log_lines, send, stream

import lab_utils as lu
from lab_utils.lab import Lab

mpl.use("Agg")

RING = 2**128
ONCE = Config(retries={"total_max_attempts": 1})
ACCOUNT = "123456789012"
OF_STREAM = f"in stream Stream under account {ACCOUNT}"
Shard = dict[str, Any]


def name(number: int) -> str:
    return f"shardId-{number:012d}"


def listed(lab: Lab, **filtered: Any) -> list[Shard]:
    """All shards, or those of a filter, page by page."""
    kinesis, found = lab.client("kinesis"), []
    page: dict[str, Any] = {"StreamName": "Stream", **filtered}
    while page:
        answer = kinesis.list_shards(**page)
        found += answer["Shards"]
        page = {"NextToken": answer["NextToken"]} if "NextToken" in answer else {}
    return found


def ids(shards: list[Shard]) -> list[int]:
    return [int(shard["ShardId"][-12:]) for shard in shards]


def is_open(shard: Shard) -> bool:
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def span(shard: Shard) -> tuple[int, int]:
    hashes = shard["HashKeyRange"]
    return int(hashes["StartingHashKey"]), int(hashes["EndingHashKey"]) + 1


def spans(lab: Lab) -> list[tuple[int, int]]:
    """The ranges of the open shards, in order."""
    return sorted(span(shard) for shard in listed(lab) if is_open(shard))


def tiles(ranges: list[tuple[int, int]]) -> bool:
    return (
        ranges[0][0] == 0
        and ranges[-1][1] == RING
        and all(before[1] == after[0] for before, after in pairwise(ranges))
    )


def status(lab: Lab) -> str:
    summary = lab.client("kinesis").describe_stream_summary(StreamName="Stream")
    return str(summary["StreamDescriptionSummary"]["StreamStatus"])


def settle(lab: Lab) -> None:
    """Wait until the stream is ACTIVE, as one does on AWS."""
    lab.wait_until(lambda: status(lab) == "ACTIVE", timeout=3600)


def split(lab: Lab, number: int, point: int | None = None, wait: bool = True) -> None:
    """Split a shard, in its middle if no point is given."""
    low, high = span(listed(lab)[ids(listed(lab)).index(number)])
    lab.client("kinesis").split_shard(
        StreamName="Stream",
        ShardToSplit=name(number),
        NewStartingHashKey=str((low + high) // 2 if point is None else point),
    )
    if wait:
        settle(lab)


def merge(lab: Lab, first: int, second: int, wait: bool = True) -> None:
    lab.client("kinesis").merge_shards(
        StreamName="Stream", ShardToMerge=name(first), AdjacentShardToMerge=name(second)
    )
    if wait:
        settle(lab)


def scale(lab: Lab, count: int, wait: bool = True) -> dict[str, Any]:
    answer = lab.client("kinesis").update_shard_count(
        StreamName="Stream", TargetShardCount=count, ScalingType="UNIFORM_SCALING"
    )
    if wait:
        settle(lab)
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def refusal(call: Any, *arguments: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(*arguments, **request)
    error = caught.value.response["Error"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return error["Code"], error["Message"]


def key_in(low: int, high: int, number: int = 0) -> str:
    """A partition key, one of many, whose MD5 lies in a range."""
    found = 0
    for each in range(10**6):
        digest = hashlib.md5(f"key {each}".encode(), usedforsecurity=False).digest()
        if low <= int.from_bytes(digest, "big") < high:
            if found == number:
                return f"key {each}"
            found += 1
    raise AssertionError("the range is too small")


# -- splits ---------------------------------------------------------------------------------------


def test_a_split_closes_the_parent_and_begins_two_children(lab: Lab) -> None:
    stream(lab, shards=2)
    send(lab, "a", key=key_in(0, RING // 2))
    split(lab, 0)
    parent, other, low, high = listed(lab)
    assert ids([parent, other, low, high]) == [0, 1, 2, 3]
    assert [is_open(each) for each in (parent, other, low, high)] == [False, True, True, True]
    assert span(low) == (0, RING // 4)
    assert span(high) == (RING // 4, RING // 2)
    for child in (low, high):
        assert child["ParentShardId"] == name(0)
        assert "AdjacentParentShardId" not in child
        assert int(child["SequenceNumberRange"]["StartingSequenceNumber"]) > int(
            parent["SequenceNumberRange"]["EndingSequenceNumber"]
        )
    assert "ParentShardId" not in parent


def test_the_ending_number_lies_above_those_of_the_records(lab: Lab) -> None:
    stream(lab)
    put = lab.client("kinesis").put_record(StreamName="Stream", Data=b"x", PartitionKey="k")
    split(lab, 0)
    numbers = listed(lab)[0]["SequenceNumberRange"]
    assert len(numbers["EndingSequenceNumber"]) == 56
    assert int(put["SequenceNumber"]) < int(numbers["EndingSequenceNumber"])


def test_a_split_takes_a_while_in_which_all_goes_on(lab: Lab) -> None:
    """API reference: the answer comes at once, the stream is UPDATING until it is done."""
    stream(lab)
    split(lab, 0, wait=False)
    asked = lab.clock.now()
    assert status(lab) == "UPDATING"
    kinesis = lab.client("kinesis")
    assert len(listed(lab)) == 1
    put = {"StreamName": "Stream", "Data": b"x", "PartitionKey": "k"}
    assert kinesis.put_record(**put)["ShardId"] == name(0)
    settle(lab)
    waited = (lab.clock.now() - asked).total_seconds()
    assert 20 <= waited <= 42
    assert len(listed(lab)) == 3
    assert kinesis.put_record(**put)["ShardId"] in (name(1), name(2))


@pytest.mark.parametrize(
    "first", [lambda lab: split(lab, 0, wait=False), lambda lab: scale(lab, 3, wait=False)]
)
def test_a_stream_that_is_updating_takes_no_second_change(lab: Lab, first: Any) -> None:
    arn = stream(lab, shards=2)
    first(lab)
    expected = (
        "ResourceInUseException",
        f"Stream Stream under account {ACCOUNT} not ACTIVE, instead in state UPDATING",
    )
    kinesis = lab.client("kinesis")
    on_demand = {"StreamARN": arn, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}
    assert refusal(split, lab, 1) == expected
    assert refusal(merge, lab, 0, 1) == expected
    assert refusal(scale, lab, 4) == expected
    assert refusal(kinesis.update_stream_mode, **on_demand) == expected
    settle(lab)
    last = max((each for each in listed(lab) if is_open(each)), key=span)
    split(lab, *ids([last]))


@pytest.mark.parametrize("offset", [-1, 0, 1, RING // 2 - 1, RING // 2, RING])
def test_a_point_must_lie_inside_of_the_shard(lab: Lab, offset: int) -> None:
    stream(lab, shards=2)
    low, high = RING // 2, RING
    point = low + offset
    assert refusal(split, lab, 1, point) == (
        "InvalidArgumentException",
        (
            f"NewStartingHashKey {point} used in SplitShard() on shard {name(1)} {OF_STREAM} is "
            f"not both greater than one plus the shard's StartingHashKey {low} and less than the "
            f"shard's EndingHashKey {high - 1}."
        ),
    )
    assert status(lab) == "ACTIVE"


@pytest.mark.parametrize("point", [RING // 2 + 2, RING - 2])
def test_the_outermost_points(lab: Lab, point: int) -> None:
    stream(lab, shards=2)
    split(lab, 1, point)
    assert spans(lab) == [(0, RING // 2), (RING // 2, point), (point, RING)]


def test_a_shard_that_is_closed_or_not_there_is_not_split(lab: Lab) -> None:
    stream(lab)
    split(lab, 0)
    assert refusal(split, lab, 0) == (
        "InvalidArgumentException",
        (
            f"Shard {name(0)} {OF_STREAM} has already been merged or split, and thus is not "
            "eligible for merging or splitting."
        ),
    )
    kinesis = lab.client("kinesis")
    request = {"StreamName": "Stream", "NewStartingHashKey": "5", "ShardToSplit": name(9)}
    assert refusal(kinesis.split_shard, **request) == (
        "ResourceNotFoundException",
        f"Could not find shard {name(9)} {OF_STREAM}.",
    )
    assert refusal(kinesis.split_shard, **request | {"StreamName": "Nowhere"}) == (
        "ResourceNotFoundException",
        f"Stream Nowhere under account {ACCOUNT} not found.",
    )


def test_a_split_beyond_the_accounts_shards_is_refused() -> None:
    with lu.open_lab("embedded", physics=lu.Physics(kinesis_shards=2)) as lab:
        stream(lab, shards=2)
        for change in (lambda: split(lab, 0), lambda: scale(lab, 3)):
            code, words = refusal(change)
            assert code == "LimitExceededException"
            assert words.startswith("This request would exceed the shard limit for the account")
        merge(lab, 0, 1)
        split(lab, 2)


# -- merges ---------------------------------------------------------------------------------------


def test_a_merge_closes_two_parents_and_begins_one_child(lab: Lab) -> None:
    stream(lab, shards=3)
    merge(lab, 1, 2)
    _, first, second, child = listed(lab)
    assert [is_open(each) for each in (first, second, child)] == [False, False, True]
    assert child["ShardId"] == name(3)
    assert (child["ParentShardId"], child["AdjacentParentShardId"]) == (name(1), name(2))
    assert span(child) == (span(first)[0], span(second)[1])
    assert tiles(spans(lab))


@pytest.mark.parametrize(("first", "second"), [(0, 2), (1, 0), (1, 1)])
def test_only_neighbours_merge_the_lower_one_first(lab: Lab, first: int, second: int) -> None:
    stream(lab, shards=3)
    assert refusal(merge, lab, first, second) == (
        "InvalidArgumentException",
        (
            f"Shards {name(first)} and {name(second)} {OF_STREAM} are not an adjacent pair of "
            "shards eligible for merging"
        ),
    )


def test_a_closed_shard_does_not_merge(lab: Lab) -> None:
    stream(lab, shards=2)
    split(lab, 0)
    assert refusal(merge, lab, 0, 1) == (
        "InvalidArgumentException",
        (
            f"Shard {name(0)} {OF_STREAM} has already been merged or split, and thus is not "
            "eligible for merging or splitting."
        ),
    )
    merge(lab, 3, 1)
    assert spans(lab) == [(0, RING // 4), (RING // 4, RING)]


# -- scaling --------------------------------------------------------------------------------------


def test_doubling_splits_every_shard_and_halving_merges_them(lab: Lab) -> None:
    arn = stream(lab, shards=2)
    assert scale(lab, 4) == {
        "StreamName": "Stream",
        "CurrentShardCount": 2,
        "TargetShardCount": 4,
        "StreamARN": arn,
    }
    assert spans(lab) == [(RING * n // 4, RING * (n + 1) // 4) for n in range(4)]
    assert len(listed(lab)) == 6
    scale(lab, 2)
    assert spans(lab) == [(0, RING // 2), (RING // 2, RING)]
    assert len(listed(lab)) == 8
    assert all("AdjacentParentShardId" in each for each in listed(lab) if is_open(each))


@settings(max_examples=20)
@given(st.integers(1, 12), st.data())
def test_scaling_gives_equal_shards(start: int, data: st.DataObject) -> None:
    """And never tears the ring, however many shards live for a moment on the way."""
    target = data.draw(st.integers((start + 1) // 2, 2 * start))
    with lu.open_lab("embedded") as lab:
        stream(lab, shards=start)
        scale(lab, target, wait=False)
        while status(lab) == "UPDATING":
            assert tiles(spans(lab))
            lab.clock.advance(seconds=10)
        assert spans(lab) == [(RING * n // target, RING * (n + 1) // target) for n in range(target)]


def test_scaling_makes_unequal_shards_equal(lab: Lab) -> None:
    stream(lab, shards=1)
    split(lab, 0, 5)
    split(lab, 2, RING - 5)
    scale(lab, 3)
    assert spans(lab) == [(RING * n // 3, RING * (n + 1) // 3) for n in range(3)]


@pytest.mark.parametrize(
    ("there", "target", "words"),
    [
        (2, 5, "UpdateShardCount cannot scale up over double your current open shard count."),
        (5, 2, "UpdateShardCount cannot scale down below half your current open shard count."),
        (
            2,
            10_001,
            "Target shard count or number of open shards cannot be greater than 10000.",
        ),
    ],
)
def test_scaling_too_far_is_refused(lab: Lab, there: int, target: int, words: str) -> None:
    stream(lab, shards=there)
    assert refusal(scale, lab, target) == (
        "LimitExceededException",
        f"{words} Current open shard count: {there} Target shard count: {target}",
    )
    assert status(lab) == "ACTIVE"


def test_scaling_is_rationed(lab: Lab) -> None:
    """Ten times in 24 hours (API reference)."""
    stream(lab, shards=2)
    for time in range(10):
        scale(lab, 3 + time % 2)
    code, words = refusal(scale, lab, 2)
    assert code == "LimitExceededException"
    assert "10 times in 24 hours" in words
    lab.clock.advance(hours=24)
    scale(lab, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda lab: split(lab, 0, wait=False),
        lambda lab: merge(lab, 0, 1, wait=False),
        lambda lab: scale(lab, 3, wait=False),
    ],
)
def test_a_deleted_stream_does_not_come_back_when_its_change_is_due(lab: Lab, change: Any) -> None:
    stream(lab, shards=2)
    change(lab)
    lab.client("kinesis").delete_stream(StreamName="Stream")
    stream(lab)
    lab.clock.advance(minutes=5)
    assert ids(listed(lab)) == [0]


# -- modes ----------------------------------------------------------------------------------------


def switch(lab: Lab, arn: str, mode: str) -> None:
    lab.client("kinesis").update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": mode})
    assert status(lab) == "UPDATING"
    settle(lab)


def test_on_demand_the_shards_are_not_the_owners_to_count(lab: Lab) -> None:
    arn = stream(lab, shards=2)
    switch(lab, arn, "ON_DEMAND")
    assert spans(lab) == [(0, RING // 2), (RING // 2, RING)], "whoever switches keeps the shards"
    for change in (lambda: split(lab, 0), lambda: merge(lab, 0, 1), lambda: scale(lab, 3)):
        assert refusal(change)[0] == "ValidationException"
    switch(lab, arn, "PROVISIONED")
    split(lab, 0)


def test_switching_is_rationed(lab: Lab) -> None:
    arn = stream(lab)
    switch(lab, arn, "ON_DEMAND")
    switch(lab, arn, "PROVISIONED")
    code, words = refusal(switch, lab, arn, "ON_DEMAND")
    assert code == "LimitExceededException"
    assert "2 times in 24 hours" in words
    lab.clock.advance(hours=24)
    switch(lab, arn, "ON_DEMAND")


# -- what is listed -------------------------------------------------------------------------------


def filtered(lab: Lab, kind: str, **more: Any) -> list[int]:
    return ids(listed(lab, ShardFilter={"Type": kind, **more}))


def test_shards_of_a_moment_and_since_one(lab: Lab) -> None:
    """0 splits at one time into 2 and 3, and 3 merges with 1 into 4 at another."""
    stream(lab, shards=2)
    lab.clock.advance(hours=1)
    first = lab.clock.now()
    lab.clock.advance(hours=1)
    split(lab, 0)
    lab.clock.advance(hours=1)
    second = lab.clock.now()
    lab.clock.advance(hours=1)
    merge(lab, 3, 1)
    lab.clock.advance(hours=1)
    third = lab.clock.now()
    assert filtered(lab, "AT_LATEST") == [2, 4]
    assert filtered(lab, "FROM_TRIM_HORIZON") == [0, 1, 2, 3, 4]
    assert filtered(lab, "AT_TRIM_HORIZON") == [0, 1]
    assert [filtered(lab, "AT_TIMESTAMP", Timestamp=at) for at in (first, second, third)] == [
        [0, 1],
        [1, 2, 3],
        [2, 4],
    ]
    assert [filtered(lab, "FROM_TIMESTAMP", Timestamp=at) for at in (first, second, third)] == [
        [0, 1, 2, 3, 4],
        [1, 2, 3, 4],
        [2, 4],
    ]
    long_ago = first - timedelta(days=30)
    assert filtered(lab, "AT_TIMESTAMP", Timestamp=long_ago) == []
    assert filtered(lab, "FROM_TIMESTAMP", Timestamp=long_ago) == [0, 1, 2, 3, 4]
    assert filtered(lab, "AFTER_SHARD_ID", ShardId=name(2)) == [3, 4]


def test_the_oldest_shards_are_those_at_the_trim_horizon(lab: Lab) -> None:
    stream(lab)
    lab.clock.advance(hours=1)
    split(lab, 0)
    lab.clock.advance(hours=1)
    split(lab, 1)
    assert filtered(lab, "AT_TRIM_HORIZON") == [0]
    lab.clock.advance(hours=23)
    assert filtered(lab, "AT_TRIM_HORIZON") == [1, 2], "0 was closed more than a day ago"
    lab.clock.advance(hours=23)
    assert filtered(lab, "AT_TRIM_HORIZON") == filtered(lab, "AT_LATEST") == [2, 3, 4]


def test_a_filter_holds_on_every_page(lab: Lab) -> None:
    stream(lab, shards=3)
    for number in range(3):
        split(lab, number)
    kinesis, found = lab.client("kinesis"), []
    page: dict[str, Any] = {"StreamName": "Stream", "ShardFilter": {"Type": "AT_LATEST"}}
    while page:
        answer = kinesis.list_shards(**page, MaxResults=4)
        assert len(answer["Shards"]) <= 4
        found += ids(answer["Shards"])
        page = {"NextToken": answer["NextToken"]} if "NextToken" in answer else {}
    assert found == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("AFTER_SHARD_ID", {}),
        ("AT_TIMESTAMP", {}),
        ("FROM_TIMESTAMP", {"ShardId": "shardId-000000000000"}),
        ("AT_LATEST", {"ShardId": "shardId-000000000000"}),
        ("FROM_TRIM_HORIZON", {"Timestamp": 5}),
    ],
)
def test_a_filter_needs_what_its_type_needs_and_nothing_else(
    lab: Lab, kind: str, more: dict[str, Any]
) -> None:
    stream(lab)
    assert refusal(filtered, lab, kind, **more)[0] == "InvalidArgumentException"


def test_closed_shards_expire_and_are_named_by_their_children(lab: Lab) -> None:
    stream(lab, shards=2)
    send(lab, "old", key=key_in(0, RING // 2))
    merge(lab, 0, 1)
    lab.clock.advance(hours=23, minutes=58)
    assert ids(listed(lab)) == [0, 1, 2]
    lab.clock.advance(minutes=3)
    (child,) = listed(lab)
    assert (child["ParentShardId"], child["AdjacentParentShardId"]) == (name(0), name(1))
    kinesis = lab.client("kinesis")
    assert refusal(
        kinesis.get_shard_iterator,
        StreamName="Stream",
        ShardId=name(0),
        ShardIteratorType="TRIM_HORIZON",
    ) == ("ResourceNotFoundException", f"Could not find shard {name(0)} {OF_STREAM}.")


def test_shards_stay_listed_as_long_as_records_are_kept(lab: Lab) -> None:
    stream(lab)
    lab.client("kinesis").increase_stream_retention_period(
        StreamName="Stream", RetentionPeriodHours=48
    )
    split(lab, 0)
    lab.clock.advance(hours=47)
    assert ids(listed(lab)) == [0, 1, 2]
    lab.client("kinesis").decrease_stream_retention_period(
        StreamName="Stream", RetentionPeriodHours=24
    )
    assert ids(listed(lab)) == [1, 2]


def test_describe_stream_pages_over_closed_and_open_shards(lab: Lab) -> None:
    stream(lab, shards=3)
    scale(lab, 6)
    pages = (
        lab.client("kinesis")
        .get_paginator("describe_stream")
        .paginate(StreamName="Stream", PaginationConfig={"PageSize": 4})
    )
    found = [ids(page["StreamDescription"]["Shards"]) for page in pages]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


# -- what is read ---------------------------------------------------------------------------------


def read(lab: Lab, number: int, kind: str = "TRIM_HORIZON", **more: Any) -> dict[str, Any]:
    kinesis = lab.client("kinesis")
    iterator = kinesis.get_shard_iterator(
        StreamName="Stream", ShardId=name(number), ShardIteratorType=kind, **more
    )["ShardIterator"]
    return dict(kinesis.get_records(ShardIterator=iterator, Limit=2))


def test_the_end_of_a_closed_shard_names_its_children(lab: Lab) -> None:
    stream(lab)
    send(lab, "a", "b", "c", key="k")
    assert "ChildShards" not in read(lab, 0)
    split(lab, 0)
    first = read(lab, 0)
    assert [each["Data"] for each in first["Records"]] == [b"a", b"b"]
    assert "ChildShards" not in first, "not before the end"
    assert first["MillisBehindLatest"] > 0
    last = lab.client("kinesis").get_records(ShardIterator=first["NextShardIterator"])
    assert [each["Data"] for each in last["Records"]] == [b"c"]
    assert last.get("NextShardIterator") is None
    assert last["MillisBehindLatest"] == 0
    assert last["ChildShards"] == [
        {
            "ShardId": child["ShardId"],
            "ParentShards": [name(0)],
            "HashKeyRange": child["HashKeyRange"],
        }
        for child in listed(lab)[1:]
    ]


def test_both_parents_of_a_merged_shard_name_it(lab: Lab) -> None:
    stream(lab, shards=2)
    merge(lab, 0, 1)
    for parent in (0, 1):
        (child,) = read(lab, parent)["ChildShards"]
        assert (child["ShardId"], child["ParentShards"]) == (name(2), [name(0), name(1)])
        assert child["HashKeyRange"] == {
            "StartingHashKey": "0",
            "EndingHashKey": str(RING - 1),
        }


def test_iterators_of_a_closed_shard(lab: Lab) -> None:
    stream(lab)
    send(lab, "a", "b", key="k")
    split(lab, 0)
    assert read(lab, 0, "LATEST")["Records"] == []
    assert len(read(lab, 0, "LATEST")["ChildShards"]) == 2
    ending = listed(lab)[0]["SequenceNumberRange"]["EndingSequenceNumber"]
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        assert read(lab, 0, kind, StartingSequenceNumber=ending)["Records"] == []
    beyond = str(int(ending) + 10**11)
    code, words = refusal(read, lab, 0, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=beyond)
    assert code == "InvalidArgumentException"
    assert words.endswith("is invalid because it did not come from this stream.")


def test_a_key_moves_to_the_child_that_holds_it(lab: Lab) -> None:
    stream(lab)
    low, high = key_in(0, RING // 2), key_in(RING // 2, RING)
    split(lab, 0)
    kinesis = lab.client("kinesis")
    placed = [
        kinesis.put_record(StreamName="Stream", Data=b"x", PartitionKey=key)["ShardId"]
        for key in (low, high)
    ]
    assert placed == [name(1), name(2)]


def test_children_have_limits_of_their_own(lab: Lab) -> None:
    """That is what a split is for."""
    stream(lab)
    keys = [key_in(0, RING // 2), key_in(RING // 2, RING)]

    def taken() -> int:
        lab.clock.advance(seconds=10)
        records = [{"Data": b"x", "PartitionKey": keys[n % 2]} for n in range(500)]
        answers = [
            lab.client("kinesis").put_records(StreamName="Stream", Records=records)
            for _ in range(4)
        ]
        return 2000 - sum(answer["FailedRecordCount"] for answer in answers)

    assert 1000 <= taken() < 1100
    split(lab, 0)
    assert taken() == 2000


# -- lineage, reader and picture ------------------------------------------------------------------


def braid(lab: Lab) -> None:
    """0 splits into 2 and 3; 3 and 1 merge into 4; 4 splits into 5 and 6; 2 and 5 merge into 7."""
    split(lab, 0)
    merge(lab, 3, 1)
    split(lab, 4)
    merge(lab, 2, 5)


EDGES = {(0, 2), (0, 3), (3, 4), (1, 4), (4, 5), (4, 6), (2, 7), (5, 7)}


def test_the_lineage_of_splits_and_merges_is_a_graph(lab: Lab) -> None:
    stream(lab, shards=2)
    braid(lab)
    lineage = lu.read_lineage(lab.client("kinesis"), "Stream")
    assert set(lineage.graph.edges) == {(name(a), name(b)) for a, b in EDGES}
    assert nx.is_directed_acyclic_graph(lineage.graph)
    assert not nx.is_forest(lineage.graph.to_undirected())
    assert lineage.open_shards == [name(6), name(7)]
    assert lineage.roots == [name(0), name(1)]
    assert lineage.reading_order() == [
        [name(0), name(1)],
        [name(2), name(3)],
        [name(4)],
        [name(5), name(6)],
        [name(7)],
    ]
    shares = [lineage.graph.nodes[shard]["size"] for shard in lineage.open_shards]
    assert sum(shares) == 1
    assert lineage.childless == []


def test_a_trimmed_past_is_ghosted_and_both_parents_are_named(lab: Lab) -> None:
    stream(lab, shards=2)
    merge(lab, 0, 1)
    lab.clock.advance(hours=25)
    lineage = lu.read_lineage(lab.client("kinesis"), "Stream")
    assert lineage.trimmed == [name(0), name(1)]
    assert lineage.gaps == [(name(0), name(2)), (name(1), name(2))]
    assert lineage.roots == lineage.open_shards == [name(2)]


def test_the_picture_of_a_braid(lab: Lab) -> None:
    stream(lab, shards=2)
    braid(lab)
    ax = lu.plot_lineage(lu.read_lineage(lab.client("kinesis"), "Stream"))
    words = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {"open", "split", "merge"} <= words
    assert ax.get_xlabel() == "generation", "Kinesis does not tell when a shard began"
    shown = {text.get_text() for text in ax.texts}
    assert {str(number) for number in range(8)} <= shown


def test_a_reader_reads_both_parents_to_the_end_before_the_child(lab: Lab) -> None:
    stream(lab, shards=2)
    low, high = key_in(0, RING // 2), key_in(RING // 2, RING)
    send(lab, *[f"l{n}" for n in range(3)], key=low)
    send(lab, *[f"h{n}" for n in range(9)], key=high)
    merge(lab, 0, 1)
    send(lab, "after", key=low)
    reader = lu.StreamReader(lab.client("kinesis"), "Stream", limit=1)
    found = [record["Data"].decode() for record in reader]
    assert found[-1] == "after"
    assert sorted(found[:-1]) == sorted([f"l{n}" for n in range(3)] + [f"h{n}" for n in range(9)])
    assert [each for each in found if each[0] == "h"] == [f"h{n}" for n in range(9)]


def test_a_reader_goes_on_over_splits_and_merges_that_come_while_it_reads(lab: Lab) -> None:
    stream(lab, shards=2)
    keys, sent, found = [f"k{n}" for n in range(8)], defaultdict(list), defaultdict(list)
    kinesis, count = lab.client("kinesis"), 0
    reader = lu.StreamReader(kinesis, "Stream", limit=3)
    for change in (lambda: split(lab, 0), lambda: merge(lab, 3, 1), lambda: scale(lab, 4), None):
        for key in keys * 2:
            count += 1
            sent[key].append(count)
            kinesis.put_record(StreamName="Stream", Data=str(count).encode(), PartitionKey=key)
        for record in reader:
            found[record["PartitionKey"]].append(int(record["Data"]))
        if change is not None:
            change()
        reader = lu.StreamReader(kinesis, "Stream", checkpoint=reader.checkpoint(), limit=3)
    assert found == sent
    assert reader.gaps == []


def test_a_reader_of_a_stream_that_keeps_records_for_a_week(lab: Lab) -> None:
    stream(lab)
    lab.client("kinesis").increase_stream_retention_period(
        StreamName="Stream", RetentionPeriodHours=168
    )
    send(lab, "a")
    lab.clock.advance(hours=30)
    moment = lab.clock.now()
    send(lab, "b")
    split(lab, 0)
    send(lab, "c")
    lab.clock.advance(hours=72)
    since = lu.StreamReader(lab.client("kinesis"), "Stream", moment - timedelta(hours=1))
    assert [record["Data"] for record in since] == [b"b", b"c"]
    assert len(list(lu.StreamReader(lab.client("kinesis"), "Stream"))) == 3


def test_a_reader_from_latest_follows_a_split(lab: Lab) -> None:
    stream(lab)
    send(lab, "before")
    reader = lu.StreamReader(lab.client("kinesis"), "Stream", "LATEST")
    send(lab, "parent")
    split(lab, 0)
    send(lab, *[f"child {n}" for n in range(5)])
    found = [record["Data"].decode() for record in reader]
    assert found[0] == "parent"
    assert sorted(found[1:]) == [f"child {n}" for n in range(5)]


def test_a_reader_that_comes_too_late_says_so(lab: Lab) -> None:
    stream(lab)
    send(lab, "a", "b", key="k")
    reader = lu.StreamReader(lab.client("kinesis"), "Stream", limit=1)
    assert next(reader)["Data"] == b"a"
    checkpoint = reader.checkpoint()
    split(lab, 0)
    lab.clock.advance(hours=25)
    send(lab, "c")
    late = lu.StreamReader(lab.client("kinesis"), "Stream", checkpoint=checkpoint)
    with pytest.warns(lu.TrimmedRecordsWarning):
        assert [record["Data"] for record in late] == [b"c"]
    assert [gap.shard for gap in late.gaps] == [name(0)]


# -- mappings -------------------------------------------------------------------------------------


@pytest.fixture
def mapped(lab: Lab) -> Iterator[Lab]:
    """A stream of two shards that a function reads."""
    arn = stream(lab, shards=2)
    function(lab, COLLECTOR)
    connect(lab, arn)
    return lab


def batches(lab: Lab) -> list[tuple[str, Any]]:
    """(shard, start) of each invocation, in the order in which they began."""
    frame = lab.invocations("Worker")
    return list(zip(frame["shard"], frame["started"], strict=True))


def test_a_mapping_follows_a_split(mapped: Lab) -> None:
    low, high = key_in(0, RING // 4), key_in(RING // 4, RING // 2)
    send(mapped, "a", key=low)
    mapped.clock.advance(seconds=5)
    split(mapped, 0)
    send(mapped, "b", key=low)
    send(mapped, "c", key=high)
    mapped.clock.advance(seconds=10)
    assert sorted(got(mapped)) == ["a", "b", "c"]
    assert {shard for shard, _ in batches(mapped)} == {name(0), name(2), name(3)}


def test_a_mapping_follows_a_merge(mapped: Lab) -> None:
    low, high = key_in(0, RING // 2), key_in(RING // 2, RING)
    send(mapped, "a", key=low)
    send(mapped, "b", key=high)
    mapped.clock.advance(seconds=5)
    merge(mapped, 0, 1)
    send(mapped, "c", key=low)
    send(mapped, "d", key=high)
    mapped.clock.advance(seconds=10)
    assert sorted(got(mapped)) == ["a", "b", "c", "d"]
    assert [shard for shard, _ in batches(mapped)].count(name(2)) == 1, "one shard, one batch"


SLOW = """
    import base64, time

    def handler(event, context):
        for record in event["Records"]:
            what = base64.b64decode(record["kinesis"]["data"]).decode()
            if what.startswith("slow"):
                time.sleep(2)
            print("GOT", what, record["eventID"])
"""


@pytest.mark.parametrize("slow", [0, 1])
def test_a_merged_child_waits_for_both_parents(lab: Lab, slow: int) -> None:
    """Whichever of the two takes longer."""
    arn = stream(lab, shards=2)
    function(lab, SLOW, timeout=60)
    connect(lab, arn, BatchSize=1)
    keys = [key_in(0, RING // 2), key_in(RING // 2, RING)]
    send(lab, *[f"slow{n}" for n in range(40)], key=keys[slow])
    send(lab, "quick", key=keys[1 - slow])
    merge(lab, 0, 1)
    send(lab, "child", key=keys[1 - slow])
    lab.clock.advance(seconds=120)
    frame = lab.invocations("Worker")
    ended = frame[frame["shard"] != name(2)]["ended"].max()
    (began,) = frame[frame["shard"] == name(2)]["started"]
    assert began >= ended
    assert len(frame) == 42


def test_a_grandchild_waits_too(lab: Lab) -> None:
    """Split, merge and split again while the first parent is still being read."""
    arn = stream(lab)
    function(lab, SLOW, timeout=60)
    connect(lab, arn, BatchSize=1)
    low, high = key_in(0, RING // 2), key_in(RING // 2, RING)
    send(lab, *[f"slow{n}" for n in range(100)], key=low)
    split(lab, 0)
    send(lab, "1", key=low)
    merge(lab, 1, 2)
    send(lab, "2", key=high)
    split(lab, 3)
    send(lab, "3", key=low)
    send(lab, "4", key=high)
    lab.clock.advance(minutes=10)
    lines = [line for line in log_lines(lab) if line.startswith("GOT ")]
    order = [line.split()[2].partition(":")[0] for line in lines]
    assert order[:100] == [name(0)] * 100
    assert order[100:102] == [name(1), name(3)]
    assert sorted(order[102:]) == [name(4), name(5)]


def test_a_mapping_that_begins_at_the_trim_horizon_reads_a_braid_in_order(lab: Lab) -> None:
    arn = stream(lab, shards=2)
    keys, sent, count = [f"k{n}" for n in range(6)], [], 0
    for change in (
        lambda: split(lab, 0),
        lambda: merge(lab, 3, 1),
        lambda: split(lab, 4),
        lambda: merge(lab, 2, 5),
        lambda: None,
    ):
        for key in keys:
            count += 1
            sent.append(f"{key}.{count}")
            send(lab, f"{key}.{count}", key=key)
        change()
    function(lab, COLLECTOR)
    connect(lab, arn)
    lab.clock.advance(minutes=1)
    found = [line.split()[1] for line in in_order(lab)]
    assert sorted(found) == sorted(sent)
    for key in keys:
        mine = [each for each in found if each.startswith(f"{key}.")]
        assert mine == [each for each in sent if each.startswith(f"{key}.")]


def in_order(lab: Lab) -> list[str]:
    """What a function printed, of all its instances, in the order of time."""
    logs, group = lab.client("logs"), "/aws/lambda/Worker"
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    lines = []
    for each in streams:
        events = logs.get_log_events(
            logGroupName=group, logStreamName=each["logStreamName"], startFromHead=True
        )["events"]
        lines += [(event["timestamp"], event["message"]) for event in events]
    return [text for _, text in sorted(lines, key=lambda line: line[0]) if text.startswith("GOT")]


def test_a_mapping_from_latest_reads_the_children_from_their_start(lab: Lab) -> None:
    arn = stream(lab)
    function(lab, COLLECTOR)
    send(lab, "before")
    connect(lab, arn, start="LATEST")
    split(lab, 0)
    send(lab, *"abcdef")
    lab.clock.advance(seconds=10)
    assert sorted(got(lab)) == list("abcdef")


def test_a_mapping_follows_while_the_shards_are_scaled(lab: Lab) -> None:
    arn = stream(lab, shards=3)
    function(lab, COLLECTOR)
    connect(lab, arn, ParallelizationFactor=3)
    sent, count = [], 0
    for target in (5, 3, 6):
        scale(lab, target, wait=False)
        while status(lab) == "UPDATING":
            for key in range(10):
                count += 1
                sent.append(f"k{key}.{count}")
                send(lab, sent[-1], key=f"k{key}")
            lab.clock.advance(seconds=7)
    lab.clock.advance(minutes=1)
    found = [line.split()[1] for line in in_order(lab)]
    assert sorted(found) == sorted(sent)
    for key in range(10):
        mine = [each for each in found if each.startswith(f"k{key}.")]
        assert mine == [each for each in sent if each.startswith(f"k{key}.")]


def test_a_failing_batch_holds_back_the_children_too(lab: Lab) -> None:
    arn = stream(lab)
    function(
        lab,
        """
        import base64

        def handler(event, context):
            what = [base64.b64decode(each["kinesis"]["data"]) for each in event["Records"]]
            if b"bad" in what:
                raise ValueError("bad")
            print("GOT", *what, "-")
        """,
    )
    connect(lab, arn, MaximumRetryAttempts=8)
    send(lab, "bad", key="k")
    split(lab, 0)
    send(lab, "good", key="k")
    lab.clock.advance(seconds=30)
    assert not [line for line in log_lines(lab) if line.startswith("GOT ")]
    lab.clock.advance(seconds=100)
    assert [line for line in log_lines(lab) if line.startswith("GOT ")] == ["GOT b'good' -"]


def test_the_record_of_a_mapping_names_the_childs_shard(mapped: Lab) -> None:
    """Fact 58."""
    key = key_in(0, RING // 4)
    split(mapped, 0)
    put = mapped.client("kinesis").put_record(StreamName="Stream", Data=b"x", PartitionKey=key)
    mapped.clock.advance(seconds=5)
    (line,) = [line for line in log_lines(mapped) if line.startswith("GOT ")]
    assert line.split()[2] == f"{name(2)}:{put['SequenceNumber']}"
