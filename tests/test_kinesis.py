"""Kinesis on the embedded target: placement, order, limits, reading, listing."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from itertools import chain, pairwise

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from running import code_of, send, stream

import lab_utils as lu

RING = 2**128


@pytest.fixture
def kinesis(lab):
    return lab.client("kinesis")


def shards(kinesis, name="Stream"):
    return kinesis.describe_stream(StreamName=name)["StreamDescription"]["Shards"]


def bounds(shard):
    held = shard["HashKeyRange"]
    return int(held["StartingHashKey"]), int(held["EndingHashKey"])


def records(kinesis, shard="shardId-000000000000", kind="TRIM_HORIZON", name="Stream", **more):
    iterator = kinesis.get_shard_iterator(
        StreamName=name, ShardId=shard, ShardIteratorType=kind, **more
    )["ShardIterator"]
    return kinesis.get_records(ShardIterator=iterator)["Records"]


def refusal(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return (*code_of(caught), caught.value.response["Error"]["Message"])


# -- streams and shards -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_the_ranges_of_the_shards_tile_the_ring(lab, kinesis, count):
    stream(lab, shards=count)
    found = shards(kinesis)
    assert [each["ShardId"] for each in found] == [f"shardId-{n:012d}" for n in range(count)]
    edges = [bounds(each) for each in found]
    assert edges[0][0] == 0
    assert edges[-1][1] == RING - 1
    assert all(low == high + 1 for (_, high), (low, _) in pairwise(edges))
    widths = {high - low for low, high in edges}
    assert max(widths) - min(widths) <= 1, "all alike"
    for each in found:
        assert set(each) == {"ShardId", "HashKeyRange", "SequenceNumberRange"}
        assert set(each["SequenceNumberRange"]) == {"StartingSequenceNumber"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=20), st.integers(1, 30))
def test_a_key_goes_where_its_md5_says(keys, count):
    with lu.open_lab("embedded") as lab:
        kinesis = lab.client("kinesis")
        stream(lab, shards=count)
        placed = kinesis.put_records(
            StreamName="Stream", Records=[{"Data": b"x", "PartitionKey": key} for key in keys]
        )
        where = {each["ShardId"]: bounds(each) for each in shards(kinesis)}
        for key, answer in zip(keys, placed["Records"], strict=True):
            number = int.from_bytes(hashlib.md5(key.encode()).digest(), "big")
            low, high = where[answer["ShardId"]]
            assert low <= number <= high


@pytest.mark.parametrize(
    ("position", "number"), [(0, 0), (RING // 4 - 1, 0), (RING // 4, 1), (RING - 1, 3)]
)
def test_an_explicit_hash_key_overrides_the_partition_key(lab, kinesis, position, number):
    stream(lab, shards=4)
    answer = kinesis.put_record(
        StreamName="Stream", Data=b"x", PartitionKey="k", ExplicitHashKey=str(position)
    )
    assert answer["ShardId"] == f"shardId-{number:012d}"


@pytest.mark.parametrize("position", [str(RING), "-1", "x", "1.5"])
def test_an_explicit_hash_key_outside_of_the_ring(lab, kinesis, position):
    stream(lab)
    status, code, _ = refusal(
        kinesis.put_record,
        StreamName="Stream",
        Data=b"x",
        PartitionKey="k",
        ExplicitHashKey=position,
    )
    assert (status, code) in ((400, "InvalidArgumentException"), (400, "ValidationException"))
    assert records(kinesis) == []


def test_a_stream_is_described(lab, kinesis):
    arn = stream(lab, shards=3)
    for asked in ({"StreamName": "Stream"}, {"StreamARN": arn}):
        described = kinesis.describe_stream_summary(**asked)["StreamDescriptionSummary"]
        assert described["StreamARN"] == "arn:aws:kinesis:us-east-1:123456789012:stream/Stream"
        assert (described["StreamStatus"], described["OpenShardCount"]) == ("ACTIVE", 3)
        assert described["RetentionPeriodHours"] == 24
        assert described["EncryptionType"] == "NONE"
        assert described["StreamModeDetails"] == {"StreamMode": "PROVISIONED"}
        assert abs(described["StreamCreationTimestamp"] - lab.clock.now()) < timedelta(seconds=2)


def test_describe_and_list_page_by_shards(lab, kinesis):
    stream(lab, shards=25)
    expected = [f"shardId-{number:012d}" for number in range(25)]
    first = kinesis.describe_stream(StreamName="Stream", Limit=10)["StreamDescription"]
    assert first["HasMoreShards"] is True
    pages = kinesis.get_paginator("describe_stream").paginate(
        StreamName="Stream", PaginationConfig={"PageSize": 10}
    )
    found = [[each["ShardId"] for each in page["StreamDescription"]["Shards"]] for page in pages]
    assert [len(page) for page in found] == [10, 10, 5]
    assert list(chain(*found)) == expected
    pages = list(
        kinesis.get_paginator("list_shards").paginate(
            StreamName="Stream", PaginationConfig={"PageSize": 10}
        )
    )
    assert [len(page["Shards"]) for page in pages] == [10, 10, 5]
    assert "NextToken" not in pages[-1]
    assert [each["ShardId"] for page in pages for each in page["Shards"]] == expected
    rest = kinesis.list_shards(StreamName="Stream", ExclusiveStartShardId=expected[20])["Shards"]
    assert [each["ShardId"] for each in rest] == expected[21:]
    assert refusal(kinesis.list_shards, NextToken="nonsense")[:2] == (
        400,
        "InvalidArgumentException",
    )


def test_streams_are_listed_page_by_page(lab, kinesis):
    names = [f"S{number}" for number in range(7)]
    for name in reversed(names):
        stream(lab, name)
    pages = list(kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 3}))
    assert [page["StreamNames"] for page in pages] == [names[:3], names[3:6], names[6:]]
    assert [page["HasMoreStreams"] for page in pages] == [True, True, False]
    assert kinesis.list_streams(ExclusiveStartStreamName="S4")["StreamNames"] == ["S5", "S6"]


def test_a_second_stream_of_a_name_is_refused(lab, kinesis):
    stream(lab)
    status, code, message = refusal(kinesis.create_stream, StreamName="Stream", ShardCount=1)
    assert (status, code) == (400, "ResourceInUseException")
    assert message == "Stream Stream under account 123456789012 already exists."


def test_a_deleted_stream_is_gone(lab, kinesis):
    stream(lab)
    send(lab, "a")
    kinesis.delete_stream(StreamName="Stream")
    assert kinesis.list_streams()["StreamNames"] == []
    stream(lab)
    assert records(kinesis) == []


@pytest.mark.parametrize(
    "call", ["describe_stream", "describe_stream_summary", "list_shards", "delete_stream"]
)
def test_an_unknown_stream_is_not_found(lab, kinesis, call):
    expected = (
        400,
        "ResourceNotFoundException",
        "Stream nowhere under account 123456789012 not found.",
    )
    assert refusal(getattr(kinesis, call), StreamName="nowhere") == expected
    arn = "arn:aws:kinesis:us-east-1:123456789012:stream/nowhere"
    assert refusal(getattr(kinesis, call), StreamARN=arn) == expected
    assert refusal(kinesis.put_record, StreamName="nowhere", Data=b"x", PartitionKey="k") == (
        expected
    )
    assert (
        refusal(
            kinesis.get_shard_iterator,
            StreamName="nowhere",
            ShardId="shardId-000000000000",
            ShardIteratorType="LATEST",
        )
        == expected
    )


def test_a_call_that_names_no_stream(kinesis):
    assert refusal(kinesis.describe_stream)[:2] == (400, "InvalidArgumentException")
    with pytest.raises(ParamValidationError, match="StreamName"):
        kinesis.create_stream(ShardCount=1)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({}, "On-demand"),
        ({"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}, "On-demand"),
        ({"ShardCount": 1, "Tags": {"a": "b"}}, "Tags"),
        ({"ShardCount": 1, "MaxRecordSizeInKiB": 2048}, "MaxRecordSizeInKiB"),
        ({"ShardCount": 1, "RecordDistributionStrategy": "AUTO"}, "RecordDistributionStrategy"),
    ],
)
def test_what_is_not_modelled_of_a_stream_is_refused(kinesis, request_, named):
    status, code, message = refusal(kinesis.create_stream, StreamName="Stream", **request_)
    assert (status, code) == (501, "NotImplemented")
    assert message.startswith(named)
    assert "not modelled" in message
    assert kinesis.list_streams()["StreamNames"] == []


def test_what_is_not_modelled_of_reading_is_refused(lab, kinesis):
    stream(lab)
    assert refusal(kinesis.list_shards, StreamName="Stream", ShardFilter={"Type": "AT_LATEST"})[
        :2
    ] == (501, "NotImplemented")
    assert refusal(
        kinesis.get_shard_iterator,
        StreamName="Stream",
        Timestamp=0,
        ShardId="shardId-000000000000",
        ShardIteratorType="AT_TIMESTAMP",
    )[:2] == (501, "NotImplemented")
    for call, more in (
        ("split_shard", {"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "5"}),
        ("update_shard_count", {"TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}),
    ):
        status, _, message = refusal(getattr(kinesis, call), StreamName="Stream", **more)
        assert status == 501
        assert message.startswith("The lab does not offer ")


# -- writing ------------------------------------------------------------------------------------


def test_sequence_numbers_have_56_digits_and_rise(lab, kinesis):
    stream(lab, shards=2)
    numbers = []
    for _ in range(20):
        answer = kinesis.put_records(
            StreamName="Stream",
            Records=[{"Data": b"x", "PartitionKey": "k"}, {"Data": b"y", "PartitionKey": "k"}],
        )
        numbers += [each["SequenceNumber"] for each in answer["Records"]]
        lab.clock.advance(seconds=0.01)
    assert {len(number) for number in numbers} == {56}
    assert all(number.isdecimal() and number.startswith("496") for number in numbers)
    assert [int(n) for n in numbers] == sorted({int(n) for n in numbers})
    first = int(shards(kinesis)[0]["SequenceNumberRange"]["StartingSequenceNumber"])
    assert first < int(numbers[0])


def test_records_come_back_unchanged(lab, kinesis):
    stream(lab)
    datas = [b"", b"\x00\xff\xfe", "ü€".encode(), b"x" * 1000]
    put = kinesis.put_records(
        StreamName="Stream", Records=[{"Data": data, "PartitionKey": "schlüssel"} for data in datas]
    )
    assert put["FailedRecordCount"] == 0
    found = records(kinesis)
    assert [each["Data"] for each in found] == datas
    assert {each["PartitionKey"] for each in found} == {"schlüssel"}
    assert [each["SequenceNumber"] for each in found] == [
        each["SequenceNumber"] for each in put["Records"]
    ]
    for each in found:
        assert set(each) == {
            "SequenceNumber",
            "ApproximateArrivalTimestamp",
            "Data",
            "PartitionKey",
        }
        assert abs(each["ApproximateArrivalTimestamp"] - lab.clock.now()) < timedelta(seconds=1)


def test_the_limits_of_put_records(lab, kinesis):
    stream(lab)
    many = [{"Data": b"x", "PartitionKey": "k"}] * 501
    status, code, message = refusal(kinesis.put_records, StreamName="Stream", Records=many)
    assert (status, code) == (400, "ValidationException")
    assert "Member must have length less than or equal to 500" in message
    big = [{"Data": b"x" * 1024 * 1024, "PartitionKey": "k"}]
    assert refusal(kinesis.put_records, StreamName="Stream", Records=big)[:2] == (
        400,
        "InvalidArgumentException",
    ), "the key counts too"
    heavy = [{"Data": b"x" * 1_040_000, "PartitionKey": "k"}] * 11
    assert refusal(kinesis.put_records, StreamName="Stream", Records=heavy)[:2] == (
        400,
        "InvalidArgumentException",
    )
    assert refusal(
        kinesis.put_record, StreamName="Stream", Data=b"x" * 1024 * 1024, PartitionKey="k"
    )[:2] == (400, "InvalidArgumentException")
    assert refusal(kinesis.put_record, StreamName="Stream", Data=b"x", PartitionKey="k" * 257)[
        :2
    ] == (400, "ValidationException")
    assert records(kinesis) == [], "a call that is refused stores nothing"
    assert kinesis.put_records(StreamName="Stream", Records=many[:500])["FailedRecordCount"] == 0
    assert len(records(kinesis)) == 500


# -- reading ------------------------------------------------------------------------------------


def test_iterators_of_every_kind(lab, kinesis):
    stream(lab)
    send(lab, *"abcde", key="k")
    third = records(kinesis)[2]["SequenceNumber"]

    def data(kind, **more):
        return b"".join(each["Data"] for each in records(kinesis, kind=kind, **more))

    assert data("TRIM_HORIZON") == b"abcde"
    assert data("LATEST") == b""
    assert data("AT_SEQUENCE_NUMBER", StartingSequenceNumber=third) == b"cde"
    assert data("AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=third) == b"de"
    for number in ("1", "x", ""):
        status, code, _ = refusal(
            kinesis.get_shard_iterator,
            StreamName="Stream",
            ShardId="shardId-000000000000",
            ShardIteratorType="AT_SEQUENCE_NUMBER",
            StartingSequenceNumber=number,
        )
        assert status == 400
        assert code in ("InvalidArgumentException", "ValidationException")


def test_reading_goes_on_with_an_iterator_that_is_always_another(lab, kinesis):
    stream(lab)
    send(lab, *[str(number) for number in range(25)], key="k")
    iterator = kinesis.get_shard_iterator(
        StreamName="Stream", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    seen, pages, behind = {iterator}, [], []
    for _ in range(5):
        lab.clock.advance(seconds=1)
        page = kinesis.get_records(ShardIterator=iterator, Limit=10)
        pages.append([int(each["Data"]) for each in page["Records"]])
        behind.append(page["MillisBehindLatest"])
        iterator = page["NextShardIterator"]
        assert iterator not in seen
        seen.add(iterator)
    assert pages == [list(range(10)), list(range(10, 20)), list(range(20, 25)), [], []]
    assert all(later > 0 for later in behind[:2])
    assert behind[2:] == [0, 0, 0]
    send(lab, "new", key="k")
    assert [each["Data"] for each in kinesis.get_records(ShardIterator=iterator)["Records"]] == [
        b"new"
    ]


def test_a_latest_iterator_waits_where_it_was_made(lab, kinesis):
    stream(lab)
    iterator = kinesis.get_shard_iterator(
        StreamName="Stream", ShardId="shardId-000000000000", ShardIteratorType="LATEST"
    )["ShardIterator"]
    send(lab, "a")
    assert len(kinesis.get_records(ShardIterator=iterator)["Records"]) == 1
    assert len(kinesis.get_records(ShardIterator=f'"{iterator}"')["Records"]) == 1


def test_an_iterator_lives_five_minutes(lab, kinesis):
    stream(lab)
    iterator = kinesis.get_shard_iterator(
        StreamName="Stream", ShardId="shardId-000000000000", ShardIteratorType="LATEST"
    )["ShardIterator"]
    lab.clock.advance(minutes=4, seconds=59)
    kinesis.get_records(ShardIterator=iterator)
    lab.clock.advance(seconds=2)
    assert refusal(kinesis.get_records, ShardIterator=iterator)[:2] == (
        400,
        "ExpiredIteratorException",
    )


@pytest.mark.parametrize("iterator", ["nonsense", "YQ==", "YXxifGN8ZA=="])
def test_an_iterator_that_nobody_handed_out(lab, kinesis, iterator):
    stream(lab)
    assert refusal(kinesis.get_records, ShardIterator=iterator)[:2] == (
        400,
        "InvalidArgumentException",
    )


@pytest.mark.parametrize("call", ["put_record", "put_records", "get_shard_iterator", "get_records"])
def test_a_dry_run_is_refused_and_not_carried_out(lab, kinesis, call):
    stream(lab)
    wanted = {"ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}
    entry = {"Data": b"x", "PartitionKey": "k"}
    iterator = kinesis.get_shard_iterator(StreamName="Stream", **wanted)["ShardIterator"]
    request = {
        "put_record": {"StreamName": "Stream", **entry},
        "put_records": {"StreamName": "Stream", "Records": [entry]},
        "get_shard_iterator": {"StreamName": "Stream", **wanted},
        "get_records": {"ShardIterator": iterator},
    }[call]
    assert refusal(getattr(kinesis, call), **request, DryRun=True)[:2] == (501, "NotImplemented")
    assert records(kinesis) == []


def test_an_iterator_of_a_deleted_stream_is_not_one_of_its_namesake(lab, kinesis):
    stream(lab)
    send(lab, "a", "b", key="k")
    iterator = kinesis.get_shard_iterator(
        StreamName="Stream", ShardId="shardId-000000000000", ShardIteratorType="LATEST"
    )["ShardIterator"]
    kinesis.delete_stream(StreamName="Stream")
    stream(lab)
    send(lab, "c", "d", "e", key="k")
    assert refusal(kinesis.get_records, ShardIterator=iterator) == (
        400,
        "InvalidArgumentException",
        "Invalid ShardIterator.",
    )


def test_a_shard_that_is_not_there(lab, kinesis):
    stream(lab)
    assert refusal(
        kinesis.get_shard_iterator,
        StreamName="Stream",
        ShardId="shardId-000000000009",
        ShardIteratorType="LATEST",
    ) == (
        400,
        "ResourceNotFoundException",
        ("Could not find shard shardId-000000000009 in stream Stream under account 123456789012."),
    )


def test_one_read_is_bounded_by_bytes(lab, kinesis):
    stream(lab)
    for _ in range(14):
        send(lab, "x" * 1_000_000, key="k")
    assert len(records(kinesis)) == 10


def test_records_go_after_a_day(lab, kinesis):
    stream(lab)
    send(lab, "old")
    lab.clock.advance(hours=23)
    send(lab, "new")
    assert len(records(kinesis)) == 2
    lab.clock.advance(hours=2)
    assert [each["Data"] for each in records(kinesis)] == [b"new"]


def test_an_iterator_whose_records_went_meanwhile_goes_on_with_the_oldest(lab, kinesis):
    stream(lab)
    send(lab, "old", "older", key="k")
    lab.clock.advance(hours=23, minutes=58)
    iterator = kinesis.get_shard_iterator(
        StreamName="Stream", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    send(lab, "new", key="k")
    lab.clock.advance(minutes=3)
    found = kinesis.get_records(ShardIterator=iterator)
    assert [each["Data"] for each in found["Records"]] == [b"new"]
    assert kinesis.get_records(ShardIterator=found["NextShardIterator"])["Records"] == []


def test_regions_and_labs_do_not_see_each_other(lab, kinesis):
    stream(lab)
    elsewhere = lab._target.world.session.create_client("kinesis", region_name="eu-west-1")
    assert elsewhere.list_streams()["StreamNames"] == []
    with lu.open_lab("embedded") as other:
        assert other.client("kinesis").list_streams()["StreamNames"] == []
    assert kinesis.list_streams()["StreamNames"] == ["Stream"]
