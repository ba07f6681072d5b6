"""A table's changes in a Kinesis data stream: states, records, and what is not promised."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from running import put, stream, table

import lab_utils as lu
from lab_utils.lab import Lab

ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/Stream"
NOT_NOW = "Table is not in a valid state to enable Kinesis Streaming Destination: "
FAITHFUL = {"destination_strays": 0.0, "destination_repeats": 0.0}


def enable(lab: Lab, arn: str = ARN, wait: bool = True, **settings: Any) -> dict[str, Any]:
    answer = lab.client("dynamodb").enable_kinesis_streaming_destination(
        TableName="Source", StreamArn=arn, **settings
    )
    if wait:
        lab.clock.advance(seconds=8)
    return bare(answer)


def disable(lab: Lab, arn: str = ARN) -> dict[str, Any]:
    return bare(
        lab.client("dynamodb").disable_kinesis_streaming_destination(
            TableName="Source", StreamArn=arn
        )
    )


def update(lab: Lab, **settings: Any) -> dict[str, Any]:
    return bare(
        lab.client("dynamodb").update_kinesis_streaming_destination(
            TableName="Source", StreamArn=ARN, **settings
        )
    )


def precise(precision: str) -> dict[str, Any]:
    return {
        "UpdateKinesisStreamingConfiguration": {"ApproximateCreationDateTimePrecision": precision}
    }


def described(lab: Lab) -> list[dict[str, Any]]:
    answer = lab.client("dynamodb").describe_kinesis_streaming_destination(TableName="Source")
    assert answer["TableName"] == "Source"
    return list(answer["KinesisDataStreamDestinations"])


def bare(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def refusal(call: Any, *arguments: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(*arguments, **request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def arrived(lab: Lab, name: str = "Stream") -> list[dict[str, Any]]:
    """All records of a data stream, shard by shard."""
    return list(lu.StreamReader(lab.client("kinesis"), name))


def told(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(each["Data"]) for each in records]


@pytest.fixture
def source(lab: Lab) -> Lab:
    """A lab with a table and a data stream."""
    table(lab)
    stream(lab)
    return lab


# -- states ---------------------------------------------------------------------------------------


def test_a_destination_is_enabled_and_described(source: Lab) -> None:
    """Fact 31."""
    assert described(source) == []
    assert enable(source, wait=False) == {
        "TableName": "Source",
        "StreamArn": ARN,
        "DestinationStatus": "ENABLING",
        "EnableKinesisStreamingConfiguration": {},
    }
    assert described(source) == [{"StreamArn": ARN, "DestinationStatus": "ENABLING"}]
    source.clock.advance(seconds=8)
    assert described(source) == [{"StreamArn": ARN, "DestinationStatus": "ACTIVE"}]
    assert disable(source)["DestinationStatus"] == "DISABLING"
    assert disable(source)["DestinationStatus"] == "DISABLING", "asked twice"
    source.clock.advance(seconds=3)
    assert described(source) == [{"StreamArn": ARN, "DestinationStatus": "DISABLED"}]
    enable(source)
    assert described(source) == [{"StreamArn": ARN, "DestinationStatus": "ACTIVE"}]


def test_precision_is_chosen_and_changed(source: Lab) -> None:
    configuration = {"ApproximateCreationDateTimePrecision": "MICROSECOND"}
    answer = enable(source, EnableKinesisStreamingConfiguration=configuration)
    assert answer["EnableKinesisStreamingConfiguration"] == configuration
    assert described(source)[0]["ApproximateCreationDateTimePrecision"] == "MICROSECOND"
    answer = update(source, **precise("MILLISECOND"))
    assert answer["DestinationStatus"] == "UPDATING"
    assert answer["UpdateKinesisStreamingConfiguration"] == {
        "ApproximateCreationDateTimePrecision": "MILLISECOND"
    }
    assert described(source)[0]["DestinationStatus"] == "UPDATING"
    source.clock.advance(minutes=3)
    (destination,) = described(source)
    assert destination["DestinationStatus"] == "ACTIVE"
    assert destination["ApproximateCreationDateTimePrecision"] == "MILLISECOND"


def test_a_table_has_one_destination_at_a_time(source: Lab) -> None:
    stream(source, "Other")
    expected = (
        "ValidationException",
        (
            f"{NOT_NOW}EnableKinesisStreamingDestination must be DISABLED or ENABLE_FAILED to "
            "perform ENABLE operation."
        ),
    )
    other = ARN.replace("Stream", "Other")
    enable(source, wait=False)
    assert refusal(enable, source) == refusal(enable, source, other) == expected
    source.clock.advance(seconds=8)
    assert refusal(enable, source) == refusal(enable, source, other) == expected
    disable(source)
    assert refusal(enable, source, other) == expected
    source.clock.advance(seconds=3)
    enable(source, other)
    assert [each["DestinationStatus"] for each in described(source)] == ["ACTIVE", "DISABLED"]


@pytest.mark.parametrize(
    ("arn", "words"),
    [
        (ARN.replace("Stream", "Nowhere"), "User does not have a permission to use kinesis stream"),
        (
            ARN.replace("us-east-1", "eu-west-1"),
            (
                "The kinesis Arn used to enable kinesis replication belongs to a stream which is "
                "not in the current region"
            ),
        ),
    ],
)
def test_a_data_stream_that_is_not_there_shows_later(source: Lab, arn: str, words: str) -> None:
    assert enable(source, arn)["DestinationStatus"] == "ENABLING"
    assert described(source) == [
        {
            "StreamArn": arn,
            "DestinationStatus": "ENABLE_FAILED",
            "DestinationStatusDescription": words,
        }
    ]
    put(source, "a")
    enable(source)
    assert [each["DestinationStatus"] for each in described(source)] == ["ACTIVE", "ENABLE_FAILED"]


def test_what_is_refused_of_a_destination(source: Lab) -> None:
    assert refusal(disable, source) == (
        "ValidationException",
        f"{NOT_NOW}KinesisStreamingDestination must be ACTIVE to perform DISABLE operation.",
    )
    assert refusal(update, source) == (
        "ValidationException",
        (
            "Streaming destination cannot be updated with given parameters: "
            "UpdateKinesisStreamingConfiguration cannot be null or contain only null values"
        ),
    )
    assert refusal(update, source, **precise("MICROSECOND")) == (
        "ValidationException",
        (
            f"{NOT_NOW}No streaming destination with streamArn: {ARN} found for table with "
            "tableName: Source"
        ),
    )
    enable(source, wait=False)
    assert refusal(update, source, **precise("MICROSECOND")) == (
        "ValidationException",
        (
            f"{NOT_NOW}Kinesis streaming is not in ACTIVE state. Updates are only allowed in "
            "ACTIVE state."
        ),
    )
    source.clock.advance(seconds=8)
    code, words = refusal(update, source, **precise("MILLISECOND"))
    assert (code, words[:73]) == (
        "ValidationException",
        "Invalid Request: Precision is already set to the desired value of MILLISE",
    )
    code, words = refusal(update, source, **precise("NANOSECOND"))
    assert code == "ValidationException"
    assert "Member must satisfy enum value set: [MILLISECOND, MICROSECOND]" in words


@pytest.mark.parametrize("call", ["enable", "disable", "describe"])
def test_a_table_that_is_not_there(lab: Lab, call: str) -> None:
    request = {"TableName": "Nowhere"} | ({} if call == "describe" else {"StreamArn": ARN})
    call = f"{call}_kinesis_streaming_destination"
    assert refusal(getattr(lab.client("dynamodb"), call), **request) == (
        "ResourceNotFoundException",
        "Requested resource not found: Table: Nowhere not found",
    )


# -- records --------------------------------------------------------------------------------------


def faithful(**more: Any) -> Any:
    return lu.open_lab("embedded", physics=lu.Physics(**FAITHFUL, **more))


def test_a_change_as_it_comes() -> None:
    """Fact 32: other members than in the table's own stream, and both images."""
    with faithful() as lab:
        table(lab)
        stream(lab)
        enable(lab)
        put(lab, "k", 1)
        changed = lab.clock.now()
        put(lab, "k", 2)
        lab.client("dynamodb").delete_item(TableName="Source", Key={"id": {"S": "k"}})
        lab.clock.advance(seconds=2)
        found = arrived(lab)
        for record in found:
            assert re.fullmatch("[0-9A-F]{32}", record["PartitionKey"])
        assert len({record["PartitionKey"] for record in found}) == 1, "of one item"
        first, second, third = told(found)
        assert first.pop("eventID") != second.pop("eventID")
        assert uuid.UUID(third.pop("eventID")).version == 4
        at = first["dynamodb"].pop("ApproximateCreationDateTime")
        assert isinstance(at, int)
        assert abs(datetime.fromtimestamp(at / 1000, UTC) - changed).total_seconds() < 0.01
        assert first == {
            "awsRegion": "us-east-1",
            "eventName": "INSERT",
            "userIdentity": None,
            "recordFormat": "application/json",
            "tableName": "Source",
            "dynamodb": {
                "Keys": {"id": {"S": "k"}},
                "NewImage": {"id": {"S": "k"}, "value": {"N": "1"}},
                "SizeBytes": 13,
            },
            "eventSource": "aws:dynamodb",
        }
        assert second["eventName"] == "MODIFY"
        assert second["dynamodb"]["OldImage"]["value"] == {"N": "1"}
        assert second["dynamodb"]["NewImage"]["value"] == {"N": "2"}
        assert third["eventName"] == "REMOVE"
        assert set(third["dynamodb"]) == {
            "ApproximateCreationDateTime",
            "Keys",
            "OldImage",
            "SizeBytes",
        }


def test_times_can_be_told_in_microseconds() -> None:
    with faithful() as lab:
        table(lab)
        stream(lab)
        configuration = {"ApproximateCreationDateTimePrecision": "MICROSECOND"}
        enable(lab, EnableKinesisStreamingConfiguration=configuration)
        put(lab, "k")
        lab.clock.advance(seconds=2)
        (change,) = told(arrived(lab))
        at = change["dynamodb"]["ApproximateCreationDateTime"] / 1e6
        assert abs(datetime.fromtimestamp(at, UTC) - lab.clock.now()).total_seconds() < 3
        assert list(change["dynamodb"])[-1] == "ApproximateCreationDateTimePrecision"
        assert change["dynamodb"]["ApproximateCreationDateTimePrecision"] == "MICROSECOND"


def test_changes_are_sent_from_the_moment_that_it_is_active_until_it_is_disabled() -> None:
    with faithful() as lab:
        table(lab)
        stream(lab)
        put(lab, "before")
        enable(lab, wait=False)
        put(lab, "meanwhile")
        lab.clock.advance(seconds=8)
        put(lab, "now")
        put(lab, "now")
        update(lab, **precise("MICROSECOND"))
        put(lab, "updating")
        lab.clock.advance(minutes=3)
        disable(lab)
        put(lab, "after")
        lab.clock.advance(seconds=10)
        keys = [each["dynamodb"]["Keys"]["id"]["S"] for each in told(arrived(lab))]
        assert keys == ["now", "updating"], "and what changes nothing leaves no record"


def test_what_time_to_live_deletes_says_so() -> None:
    with faithful() as lab:
        table(lab)
        stream(lab)
        enable(lab)
        dynamodb = lab.client("dynamodb")
        dynamodb.update_time_to_live(
            TableName="Source", TimeToLiveSpecification={"Enabled": True, "AttributeName": "value"}
        )
        put(lab, "k", int(lab.clock.now().timestamp()))
        lab.clock.advance(minutes=3)
        assert told(arrived(lab))[-1]["userIdentity"] == {
            "type": "Service",
            "principalId": "dynamodb.amazonaws.com",
        }


def test_a_change_that_is_too_large_for_a_record_is_lost() -> None:
    with faithful(kinesis_record_bytes=1000) as lab:
        table(lab)
        stream(lab)
        enable(lab)
        dynamodb = lab.client("dynamodb")
        for key, size in (("large", 2000), ("small", 10)):
            item = {"id": {"S": key}, "value": {"S": "x" * size}}
            dynamodb.put_item(TableName="Source", Item=item)
        lab.clock.advance(seconds=2)
        assert [each["dynamodb"]["Keys"]["id"]["S"] for each in told(arrived(lab))] == ["small"]


def test_a_shard_without_room_delays_changes_and_loses_none() -> None:
    with faithful(kinesis_write_records=20) as lab:
        table(lab)
        stream(lab)
        enable(lab)
        for number in range(100):
            put(lab, f"k{number}")
        lab.clock.advance(seconds=1)
        assert len(arrived(lab)) < 60
        lab.clock.advance(seconds=10)
        assert len(arrived(lab)) == 100


def test_a_data_stream_that_is_deleted_gets_nothing_more() -> None:
    with faithful() as lab:
        table(lab)
        stream(lab)
        enable(lab)
        put(lab, "a")
        lab.client("kinesis").delete_stream(StreamName="Stream")
        lab.clock.advance(seconds=5)
        put(lab, "b")
        lab.clock.advance(seconds=5)


# -- what is not promised -------------------------------------------------------------------------


def sent(lab: Lab, items: int, times: int) -> list[tuple[str, int]]:
    """(key, value) of each record as it came, after so many changes of so many items."""
    table(lab)
    stream(lab)
    enable(lab)
    for value in range(1, times + 1):
        for number in range(items):
            put(lab, f"k{number}", value)
    lab.clock.advance(seconds=30)
    return [
        (each["dynamodb"]["Keys"]["id"]["S"], int(each["dynamodb"]["NewImage"]["value"]["N"]))
        for each in told(arrived(lab))
    ]


def test_some_changes_come_twice_and_some_out_of_order(lab: Lab) -> None:
    """By default a few of hundred."""
    found = sent(lab, 10, 50)
    times = Counter(found)
    assert set(times) == {(f"k{item}", value) for item in range(10) for value in range(1, 51)}
    twice = sum(count == 2 for count in times.values())
    assert 2 <= twice <= 30
    assert max(times.values()) == 2
    once = list(dict.fromkeys(found))
    overtaken = sum(
        any(key == other and value > later for other, later in once[place + 1 :])
        for place, (key, value) in enumerate(once)
    )
    assert overtaken >= 1


def test_without_strays_and_repeats_each_comes_once_and_in_order() -> None:
    with faithful() as lab:
        found = sent(lab, 5, 20)
        assert found == [(f"k{item}", value) for value in range(1, 21) for item in range(5)]


def test_a_repeat_has_the_number_of_the_first() -> None:
    with lu.open_lab("embedded", physics=lu.Physics(destination_repeats=1.0)) as lab:
        table(lab)
        stream(lab)
        enable(lab)
        put(lab, "a")
        lab.clock.advance(seconds=10)
        first, second = told(arrived(lab))
        assert first == second


def test_the_same_changes_come_in_the_same_way_at_every_run() -> None:
    runs = []
    for _ in range(2):
        with lu.open_lab("embedded", seed=3) as lab:
            runs.append(sent(lab, 4, 25))
    assert runs[0] == runs[1]
