"""Kinesis on the embedded target: placement, order, limits, reading, listing."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from itertools import chain, pairwise

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from running import COLLECTOR, code_of, connect, function, send, stream

import lab_utils as lu

RING = 2**128
ONCE = Config(retries={"total_max_attempts": 1})
"""Of a client that does not try again."""


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


def listed(kinesis, **request):
    """Pages of ListShards, each as ids."""
    while True:
        page = kinesis.list_shards(**request)
        yield [each["ShardId"] for each in page["Shards"]]
        if "NextToken" not in page:
            return
        request = {
            **{name: request[name] for name in request if name == "MaxResults"},
            "NextToken": page["NextToken"],
        }


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
    pages = list(listed(kinesis, StreamName="Stream", MaxResults=10))
    assert pages == [expected[:10], expected[10:20], expected[20:]]
    (rest,) = listed(kinesis, StreamName="Stream", ExclusiveStartShardId=expected[20])
    assert rest == expected[21:]


def test_more_than_a_page_holds_is_cut(lab, kinesis):
    stream(lab, shards=1001)
    described = kinesis.describe_stream(StreamName="Stream", Limit=10_000)["StreamDescription"]
    assert (len(described["Shards"]), described["HasMoreShards"]) == (100, True)
    pages = list(listed(kinesis, StreamName="Stream", MaxResults=5000))
    assert [len(page) for page in pages] == [1000, 1]


def test_what_a_token_says_is_not_said_again(lab, kinesis):
    """boto3's own paginator does, and is refused by AWS as well."""
    stream(lab, shards=3)
    token = kinesis.list_shards(StreamName="Stream", MaxResults=2)["NextToken"]
    assert refusal(kinesis.list_shards, StreamName="Stream", NextToken=token) == (
        400,
        "InvalidArgumentException",
        "NextToken and StreamName cannot be provided together.",
    )
    assert refusal(kinesis.list_shards) == (
        400,
        "InvalidArgumentException",
        "Either NextToken or StreamName should be provided.",
    )


def test_a_token_lives_five_minutes_and_belongs_to_its_stream(lab, kinesis):
    stream(lab, shards=3)
    token = kinesis.list_shards(StreamName="Stream", MaxResults=2)["NextToken"]
    lab.clock.advance(minutes=4, seconds=59)
    assert len(kinesis.list_shards(NextToken=token)["Shards"]) == 1
    lab.clock.advance(seconds=2)
    assert refusal(kinesis.list_shards, NextToken=token)[:2] == (400, "ExpiredNextTokenException")
    fresh = kinesis.list_shards(StreamName="Stream", MaxResults=2)["NextToken"]
    kinesis.delete_stream(StreamName="Stream")
    stream(lab, shards=3)
    assert refusal(kinesis.list_shards, NextToken=fresh)[:2] == (400, "ResourceNotFoundException")


@pytest.mark.parametrize("token", ["nonsense", "YQ==", "WzEsMl0=", "eyJhIjoxfQ=="])
def test_a_token_that_nobody_handed_out(lab, kinesis, token):
    stream(lab)
    for call in (kinesis.list_shards, kinesis.list_streams):
        assert refusal(call, NextToken=token)[:2] == (400, "InvalidArgumentException")


def test_a_stream_is_told_from_its_namesake_by_its_creation(lab, kinesis):
    stream(lab)
    summary = kinesis.describe_stream_summary(StreamName="Stream")["StreamDescriptionSummary"]
    created = summary["StreamCreationTimestamp"]
    found = kinesis.list_shards(StreamName="Stream", StreamCreationTimestamp=created)["Shards"]
    assert len(found) == 1
    earlier = created - timedelta(seconds=1)
    assert refusal(kinesis.list_shards, StreamName="Stream", StreamCreationTimestamp=earlier) == (
        400,
        "ResourceNotFoundException",
        "Stream Stream under account 123456789012 not found.",
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
    """Fact 37; boto3 itself does not send a creation without a name."""
    assert refusal(kinesis.describe_stream)[:2] == (400, "InvalidArgumentException")
    with pytest.raises(ParamValidationError, match="StreamName"):
        kinesis.create_stream(ShardCount=1)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"WarmThroughputMiBps": 10}, "WarmThroughputMiBps"),
        ({"RecordDistributionStrategy": "AUTO"}, "RecordDistributionStrategy"),
    ],
)
def test_what_is_not_modelled_of_a_stream_is_refused(kinesis, request_, named):
    status, code, message = refusal(kinesis.create_stream, StreamName="Stream", **request_)
    assert (status, code) == (501, "NotImplemented")
    assert message.startswith(named)
    assert "not modelled" in message
    assert kinesis.list_streams()["StreamNames"] == []


def test_consumers_and_policies_are_refused(lab, kinesis):
    """Facts 38, 39 and 40 tell how enhanced fan-out and policies look; neither is modelled."""
    arn = stream(lab)
    for call, request in (
        (kinesis.list_stream_consumers, {"StreamARN": arn}),
        (kinesis.register_stream_consumer, {"StreamARN": arn, "ConsumerName": "one"}),
        (kinesis.get_resource_policy, {"ResourceARN": arn}),
    ):
        assert refusal(call, **request)[:2] == (501, "NotImplemented")


def test_an_iterator_in_quotes_is_accepted(lab, kinesis):
    """Fact 36; and fact 34 names the first shard."""
    stream(lab)
    send(lab, "a")
    iterator = kinesis.get_shard_iterator(
        StreamName="Stream", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = kinesis.get_records(ShardIterator=f'"{iterator}"')["Records"]
    assert record["Data"] == b"a"


@pytest.mark.parametrize("mode", [{}, {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}])
def test_a_stream_on_demand_begins_with_four_shards(kinesis, mode):
    """Fact 33."""
    kinesis.create_stream(StreamName="Stream", **mode)
    summary = kinesis.describe_stream_summary(StreamName="Stream")["StreamDescriptionSummary"]
    assert summary["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}
    assert summary["OpenShardCount"] == 4
    found = shards(kinesis)
    assert [each["ShardId"] for each in found] == [f"shardId-{number:012d}" for number in range(4)]
    for each in found:
        assert set(each) == {"ShardId", "HashKeyRange", "SequenceNumberRange"}
        assert set(each["SequenceNumberRange"]) == {"StartingSequenceNumber"}


@pytest.mark.parametrize(
    "given",
    [
        {"StreamModeDetails": {"StreamMode": "PROVISIONED"}},
        {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}, "ShardCount": 2},
    ],
)
def test_a_mode_that_does_not_fit_the_number_of_shards(kinesis, given):
    assert refusal(kinesis.create_stream, StreamName="Stream", **given)[:2] == (
        400,
        "InvalidArgumentException",
    )


def test_all_streams_together_have_so_many_shards_at_most():
    with lu.open_lab("embedded", physics=lu.Physics(kinesis_shards=5)) as lab:
        kinesis = lab.client("kinesis")
        stream(lab, shards=3)
        status, code, words = refusal(kinesis.create_stream, StreamName="More", ShardCount=3)
        assert (status, code) == (400, "LimitExceededException")
        assert words.startswith(
            "This request would exceed the shard limit for the account 123456789012 in us-east-1. "
            "Current shard count for the account: 3. Limit: 5. Number of additional shards that "
            "would have resulted from this request: 3."
        )
        kinesis.create_stream(StreamName="More", ShardCount=2)


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
    """Fact 35: these members and no others, and empty data is legal."""
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


def put(kinesis, *sizes, key="k"):
    """Records of these sizes, their keys included, in one call; whether each was taken."""
    records_ = [{"Data": b"x" * (size - len(key)), "PartitionKey": key} for size in sizes]
    answer = kinesis.put_records(StreamName="Stream", Records=records_)
    taken = ["ErrorCode" not in each for each in answer["Records"]]
    assert answer["FailedRecordCount"] == taken.count(False)
    return taken


def test_a_shard_takes_a_thousand_records_a_second(lab, kinesis):
    stream(lab, shards=2)
    taken = put(kinesis, *[10] * 500) + put(kinesis, *[10] * 500) + put(kinesis, *[10] * 500)
    assert all(taken[:1000])
    assert 1000 <= sum(taken) <= 1030, "and a few for the time that the calls took"
    first_refused = taken.index(False)
    assert not any(taken[first_refused:1500]), "once there is nothing left the rest is refused"
    lab.clock.advance(seconds=1)
    assert all(put(kinesis, *[10] * 500))


def test_a_refused_record_says_which_shard_had_too_much(lab, kinesis):
    stream(lab)
    for _ in range(2):
        put(kinesis, *[10] * 500)
    answer = kinesis.put_records(
        StreamName="Stream", Records=[{"Data": b"x", "PartitionKey": "k"}] * 100
    )
    assert answer["Records"][-1] == {
        "ErrorCode": "ProvisionedThroughputExceededException",
        "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream Stream "
        "under account 123456789012.",
    }
    stored = [each for each in answer["Records"] if "SequenceNumber" in each]
    assert len(stored) == 100 - answer["FailedRecordCount"]
    assert len(records(kinesis)) == 1000 + len(stored), "what is refused is not stored"


def test_a_hot_shard_does_not_hold_back_the_others(lab, kinesis):
    stream(lab, shards=2)
    hot = [{"Data": b"x", "PartitionKey": "k", "ExplicitHashKey": "0"}] * 500
    cold = {"Data": b"x", "PartitionKey": "k", "ExplicitHashKey": str(RING - 1)}
    for _ in range(3):
        kinesis.put_records(StreamName="Stream", Records=hot)
    answer = kinesis.put_records(StreamName="Stream", Records=[*hot[:9], cold, *hot[:9], cold])
    assert ["ShardId" in each for each in answer["Records"]][9::10] == [True, True]
    assert answer["FailedRecordCount"] > 0


def test_put_record_is_refused_as_a_whole(lab):
    kinesis = lab.client("kinesis", config=ONCE)
    stream(lab)
    put(kinesis, *[1_000_000] * 10)
    large = {"StreamName": "Stream", "Data": b"x" * 1_000_000, "PartitionKey": "k"}
    assert refusal(kinesis.put_record, **large) == (
        400,
        "ProvisionedThroughputExceededException",
        "Rate exceeded for shard shardId-000000000000 in stream Stream under account 123456789012.",
    )


def test_bytes_are_saved_up_for_ten_seconds(lab, kinesis):
    """A shard takes 1 MB a second, and 10 MB at once after a rest."""
    stream(lab)
    megabyte = 1024 * 1024
    assert put(kinesis, *[megabyte] * 10) == [True] * 10
    assert put(kinesis, megabyte) == [False]
    assert put(kinesis, megabyte // 200) == [True], "a small one fits between"
    lab.clock.advance(seconds=3)
    assert put(kinesis, *[megabyte] * 4) == [True] * 3 + [False]
    lab.clock.advance(seconds=60)
    assert put(kinesis, *[megabyte] * 10) == [True] * 10
    assert put(kinesis, megabyte) == [False]


def test_records_can_be_larger_if_the_stream_allows_it(lab, kinesis):
    arn = stream(lab)
    large = {"StreamName": "Stream", "Data": b"x" * 3_000_000, "PartitionKey": "k"}
    assert refusal(kinesis.put_record, **large)[:2] == (400, "InvalidArgumentException")
    kinesis.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=4096)
    kinesis.put_record(**large)
    assert [len(each["Data"]) for each in records(kinesis)] == [3_000_000]
    summary = kinesis.describe_stream_summary(StreamName="Stream")["StreamDescriptionSummary"]
    assert summary["MaxRecordSizeInKiB"] == 4096
    kinesis.create_stream(StreamName="Large", ShardCount=1, MaxRecordSizeInKiB=10240)
    kinesis.put_record(**large | {"StreamName": "Large"})


def test_a_call_with_one_malformed_record_stores_nothing(lab, kinesis):
    stream(lab)
    good = {"Data": b"x", "PartitionKey": "k"}
    bad = good | {"ExplicitHashKey": str(RING)}
    status, code, words = refusal(kinesis.put_records, StreamName="Stream", Records=[good, bad])
    assert (status, code) == (400, "InvalidArgumentException")
    assert words == (
        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. "
        f"Specified value was {RING}"
    )
    assert records(kinesis) == []


def test_a_record_needs_a_partition_key(lab, kinesis):
    """The service model lets it be left out, for streams that distribute records without it."""
    stream(lab)
    null = "1 validation error detected: Value null at '{}' failed to satisfy constraint: "
    null += "Member must not be null"
    assert refusal(kinesis.put_record, StreamName="Stream", Data=b"x") == (
        400,
        "ValidationException",
        null.format("partitionKey"),
    )
    entries = [{"Data": b"x", "PartitionKey": "k"}, {"Data": b"x"}]
    assert refusal(kinesis.put_records, StreamName="Stream", Records=entries) == (
        400,
        "ValidationException",
        null.format("records.2.member.partitionKey"),
    )
    assert records(kinesis) == []


def test_a_number_to_come_after(lab, kinesis):
    stream(lab)
    put_ = {"StreamName": "Stream", "Data": b"x", "PartitionKey": "k"}
    first = kinesis.put_record(**put_)["SequenceNumber"]
    later = kinesis.put_record(**put_, SequenceNumberForOrdering=first)["SequenceNumber"]
    assert int(later) > int(first)
    future = str(int(later) + 10**40)
    status, code, words = refusal(kinesis.put_record, **put_, SequenceNumberForOrdering=future)
    assert (status, code) == (400, "InvalidArgumentException")
    assert words == (
        f"ExclusiveMinimumSequenceNumber {future} used in PutRecord on stream Stream "
        "under account 123456789012 is invalid."
    )


# -- retention ----------------------------------------------------------------------------------


def keep(kinesis, hours, way="increase", **which):
    change = getattr(kinesis, f"{way}_stream_retention_period")
    return change(**which or {"StreamName": "Stream"}, RetentionPeriodHours=hours)


def test_records_can_be_kept_longer(lab, kinesis):
    arn = stream(lab)
    send(lab, "old")
    lab.clock.advance(hours=23)
    keep(kinesis, 48, StreamARN=arn)
    assert kinesis.describe_stream(StreamName="Stream")["StreamDescription"][
        "RetentionPeriodHours"
    ] == 48  # fmt: skip
    lab.clock.advance(hours=24)
    assert len(records(kinesis)) == 1
    lab.clock.advance(hours=2)
    assert records(kinesis) == []


def test_what_is_gone_does_not_come_back(lab, kinesis):
    stream(lab)
    send(lab, "old")
    lab.clock.advance(hours=12)
    send(lab, "new")
    lab.clock.advance(hours=13)
    keep(kinesis, 8760)
    assert [each["Data"] for each in records(kinesis)] == [b"new"]
    lab.clock.advance(hours=48)
    keep(kinesis, 24, "decrease")
    assert records(kinesis) == []


TOO_SHORT = "Minimum allowed retention period is 24 hours. "
TOO_LONG = "Maximum allowed retention period is 8760 hours. "
ASKED = "Requested retention period ({} hours) "
THAN = "than existing retention period (48 hours). "
SHORTER = f"{ASKED}for stream Stream can not be shorter {THAN}Use DecreaseRetentionPeriod API."
LONGER = f"{ASKED}for stream Stream can not be longer {THAN}Use IncreaseRetentionPeriod API."


@pytest.mark.parametrize(
    ("way", "hours", "words"),
    [
        ("increase", 23, TOO_SHORT + ASKED + "is too short."),
        ("decrease", 23, TOO_SHORT + ASKED + "is too short."),
        ("increase", 8761, TOO_LONG + ASKED + "is too long."),
        ("increase", 36, SHORTER),
        ("decrease", 72, LONGER),
    ],
)
def test_a_retention_that_is_refused(lab, kinesis, way, hours, words):
    stream(lab)
    keep(kinesis, 48)
    call = getattr(kinesis, f"{way}_stream_retention_period")
    asked = {"StreamName": "Stream", "RetentionPeriodHours": hours}
    expected = words.format(hours)
    assert refusal(call, **asked) == (400, "InvalidArgumentException", expected)


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
    for number in ("1", "x", "", str(int(third) + 1), "496" + "0" * 53):
        status, code, _ = refusal(
            kinesis.get_shard_iterator,
            StreamName="Stream",
            ShardId="shardId-000000000000",
            ShardIteratorType="AT_SEQUENCE_NUMBER",
            StartingSequenceNumber=number,
        )
        assert status == 400
        assert code in ("InvalidArgumentException", "ValidationException")


def asked(**more):
    return {"StreamName": "Stream", "ShardId": "shardId-000000000000", **more}


def test_an_iterator_needs_what_its_type_needs_and_nothing_else(lab, kinesis):
    stream(lab, shards=2)
    send(lab, "a")
    one, other = (each["SequenceNumberRange"]["StartingSequenceNumber"] for each in shards(kinesis))
    get, rule = kinesis.get_shard_iterator, (
        "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and "
        "StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. "
    )  # fmt: skip
    assert refusal(get, **asked(ShardIteratorType="LATEST", StartingSequenceNumber=one))[2] == (
        f"{rule}Request specified LATEST and also a StartingSequenceNumber."
    )
    assert refusal(get, **asked(ShardIteratorType="AT_SEQUENCE_NUMBER"))[2] == (
        f"{rule}Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber."
    )
    numbered = asked(ShardIteratorType="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=other)
    assert refusal(get, **numbered)[2] == (
        "Invalid StartingSequenceNumber. It encodes shardId-000000000001, while it was used in a "
        "call to a shard with shardId-000000000000"
    )
    assert refusal(get, **asked(ShardIteratorType="AT_TIMESTAMP"))[2] == (
        "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. "
        "Current request has no timestamp parameter."
    )
    soon = lab.clock.now() + timedelta(minutes=1)
    status, code, words = refusal(get, **asked(ShardIteratorType="AT_TIMESTAMP", Timestamp=soon))
    assert (status, code) == (400, "InvalidArgumentException")
    assert words.startswith(
        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
    )


def test_reading_begins_at_a_time(lab, kinesis):
    """boto3 tells a time to the second."""
    stream(lab)
    moments = []
    for text in "abc":
        lab.clock.advance(seconds=10)
        moments.append(lab.clock.now().replace(microsecond=0))
        send(lab, text, key="k")

    def since(moment):
        found = records(kinesis, kind="AT_TIMESTAMP", Timestamp=moment)
        return b"".join(each["Data"] for each in found)

    assert [since(moment) for moment in moments] == [b"abc", b"bc", b"c"]
    assert since(moments[0] + timedelta(seconds=5)) == b"bc"
    assert since(moments[2] - timedelta(days=900)) == b"abc", "older than anything: the oldest"
    lab.clock.advance(seconds=30)
    assert since(lab.clock.now()) == b""


def test_reading_goes_on_with_an_iterator_that_is_always_another(lab, kinesis):
    """Fact 36: never the one that was used, nor the one before it."""
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
    status, code, words = refusal(kinesis.get_records, ShardIterator=iterator)
    assert (status, code) == (400, "ExpiredIteratorException")
    assert words == (
        "Iterator expired. The iterator was created at time Mon Jan 05 09:00:00 UTC 2026 while "
        "right now it is Mon Jan 05 09:05:01 UTC 2026 which is further in the future than the "
        "tolerated delay of 300000 milliseconds."
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


def test_one_read_is_bounded_by_bytes_and_has_to_be_waited_for(lab):
    """API reference: who was given 10 MB is refused in the 5 seconds that follow."""
    kinesis = lab.client("kinesis", config=ONCE)
    stream(lab)
    for _ in range(14):
        send(lab, "x" * 1_000_000, key="k")
    assert len(records(kinesis)) == 10
    assert refusal(records, kinesis=kinesis) == (
        400,
        "ProvisionedThroughputExceededException",
        "Rate exceeded for shard shardId-000000000000 in stream Stream under account 123456789012.",
    )
    lab.clock.advance(seconds=4.7)
    assert refusal(records, kinesis=kinesis)[1] == "ProvisionedThroughputExceededException"
    lab.clock.advance(seconds=0.2)
    assert len(records(kinesis)) == 10


def calls_until_refused(lab, kinesis, most):
    iterator = kinesis.get_shard_iterator(**asked(ShardIteratorType="LATEST"))["ShardIterator"]
    for count in range(most):
        try:
            kinesis.get_records(ShardIterator=iterator)
        except kinesis.exceptions.ProvisionedThroughputExceededException:
            return count
    return most


def test_a_shard_is_read_five_times_a_second(lab):
    """With half a minute's calls in reserve, so that a cell can be run again."""
    kinesis = lab.client("kinesis", config=ONCE)
    stream(lab)
    first = calls_until_refused(lab, kinesis, 300)
    assert 150 <= first <= 165
    lab.clock.advance(seconds=1)
    assert calls_until_refused(lab, kinesis, 300) in (5, 6)
    lab.clock.advance(seconds=2)
    assert calls_until_refused(lab, kinesis, 300) in (10, 11)


def test_who_reads_by_hand_gets_what_mappings_leave(lab):
    kinesis = lab.client("kinesis", config=ONCE)
    arn = stream(lab)
    for number in range(3):
        function(lab, COLLECTOR, f"Worker{number}")
        connect(lab, arn, f"Worker{number}")
    calls_until_refused(lab, kinesis, 300)
    lab.clock.advance(seconds=5)
    assert calls_until_refused(lab, kinesis, 300) in (10, 11), "two a second, and three are polls"


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
